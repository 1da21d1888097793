"""What the queue costs: the next call and the board with 500 who wait, and a stream for each of a hundred who watch. `python -m bench.queue`"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from zoneinfo import ZoneInfo

from fhir_server.clinic.acting import Act
from fhir_server.clinic.queue.arriving import walk_in
from fhir_server.clinic.queue.board import board
from fhir_server.clinic.queue.moving import call_next
from fhir_server.search import SYSTEM
from fhir_server.store import Store, migrate, postgres
from fhir_server.store.ops import Create

_WAITING = 500
_LOOPS = 40
_ACT = Act("queue-next", SYSTEM)


def measure(store: Store) -> None:
    made = store.transact([Create({"resourceType": "Location"}), *(Create({"resourceType": "Patient"}) for _ in range(_WAITING + _LOOPS))], SYSTEM)
    place, *people = [written.version.id for written in made.written if written.version is not None]
    begin = time.process_time()
    for number, each in enumerate(people):
        walk_in(store, _ACT, each, place, ("regular", "follow-up", "emergency")[number % 3])
    print(f"walk-in                {(time.process_time() - begin) / len(people) * 1e3:6.2f} CPU-ms of the program")
    _tell(f"call of {_WAITING} who wait", lambda: call_next(store, _ACT, place, room="1"))
    _tell(f"board of {_WAITING}", lambda: board(store, SYSTEM, place))


def _tell(name: str, work: Callable[[], object]) -> None:
    times, begin = [], time.process_time()
    for _ in range(_LOOPS):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1e3)
    cpu = (time.process_time() - begin) / _LOOPS * 1e3
    print(f"{name:22} {cpu:6.2f} CPU-ms of the program, median {statistics.median(times):.2f} ms, fastest {min(times):.2f} ms")


def main() -> None:
    with TemporaryDirectory(dir="/tmp") as folder, postgres.embedded(Path(folder)) as url:
        migrate(url)
        store = Store(url, zone=ZoneInfo("Europe/Berlin"), connections=4)
        try:
            measure(store)
        finally:
            store.close()


if __name__ == "__main__":
    main()
