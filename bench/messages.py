"""What it costs to plan messages, and to write them down: python -m bench.messages [APPOINTMENTS]

On a database of its own, without HTTP and without a mail server. Each appointment has two reminders and the news that it is booked.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import psutil

from fhir_server.clinic.messages import CONSUMER, Messages
from fhir_server.search import SYSTEM
from fhir_server.settings import Settings
from fhir_server.store import Store, migrate
from fhir_server.store.ops import Put
from fhir_server.store.outbox import drain
from fhir_server.store.postgres import embedded

_DESK = replace(SYSTEM, actor="desk")
_AT_ONCE = 250


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as folder, embedded(Path(folder) / "data") as url:
        migrate(url)
        store = Store(url, zone=ZoneInfo("Europe/Berlin"), connections=4)
        settings = Settings(data=Path(folder), jwt_secret="x" * 32, database_url=url, clinic_timezone=ZoneInfo("Europe/Berlin"))
        messages = Messages(store, settings)
        _fill(store, count)
        _timed(Path(folder), f"planning {2 * count} reminders", lambda: _hear(store, messages))
        _timed(Path(folder), "writing them down as CommunicationRequests", messages.record)
        with store.database.connection() as connection:
            ((planned,),) = connection.execute("SELECT count(*) FROM message WHERE event = 'reminder'").fetchall()
        print(f"{planned} reminders are planned")
        store.close()


def _fill(store: Store, count: int) -> None:
    start = store.clock() + timedelta(days=5)
    for first in range(0, count, _AT_ONCE):
        numbers = range(first, min(first + _AT_ONCE, count))
        people = [{"resourceType": "Patient", "id": f"p{n}", "telecom": [{"system": "email", "value": f"p{n}@example.org"}]} for n in numbers]
        booked = [
            {
                "resourceType": "Appointment",
                "id": f"a{n}",
                "status": "booked",
                "start": (start + timedelta(minutes=n)).isoformat(),
                "end": (start + timedelta(minutes=n + 1)).isoformat(),
                "participant": [{"status": "accepted", "actor": {"reference": f"Patient/p{n}"}}],
            }
            for n in numbers
        ]
        store.transact([Put(each, str(each["id"])) for each in [*people, *booked]], _DESK)


def _hear(store: Store, messages: Messages) -> None:
    while drain(store.database, CONSUMER, messages.hear) == "some":
        pass


def _timed(folder: Path, name: str, work: Callable[[], object]) -> None:
    began, cpu, theirs = time.perf_counter(), time.process_time(), _of_the_database(folder)
    work()
    spent = f"{time.process_time() - cpu:.1f} s CPU here, {_of_the_database(folder) - theirs:.1f} s in PostgreSQL"
    print(f"{name}: {time.perf_counter() - began:.1f} s; {spent}")


def _of_the_database(folder: Path) -> float:
    server = psutil.Process(int((folder / "data" / "postgres" / "postmaster.pid").read_text().split()[0]))
    return sum(sum(each.cpu_times()[:2]) for each in server.children())


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5_000)
