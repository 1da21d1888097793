"""What it costs that nobody is booked twice: appointments that hold no time beside those that do, and many at once for one time."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from .clients import Client, Figures, run
from .server import Server

_DOCTORS = 20
_RACERS = 50
_START = datetime(2031, 1, 1, 8, tzinfo=UTC)


def measure(server: Server) -> Iterator[Figures]:
    """Creates of appointments by eight clients, each at a time that is free."""
    yield run(server, "create of an Appointment that holds no time", lambda client, n: _book(client, n, "proposed"), loops=2000)
    yield run(server, "the same, booked", lambda client, n: _book(client, n, "booked"), loops=2000)


def race(server: Server) -> tuple[float, Counter[int]]:
    """Seconds until fifty who book one time at once all have their answer, and how many had which status."""
    clients, statuses = [Client(server) for _ in range(_RACERS)], Counter[int]()
    start = threading.Barrier(_RACERS + 1)

    def go(client: Client, number: int) -> None:
        body = {**_appointment(0, "booked"), "start": "2032-01-01T08:00:00Z", "end": "2032-01-01T08:30:00Z"}
        body["participant"][1]["actor"]["reference"] = f"Patient/racer-{number}"
        start.wait()
        answer = json.loads(client.send("POST", "Appointment", json.dumps(body).encode(), (201, 409)))
        statuses[201 if answer["resourceType"] == "Appointment" else 409] += 1

    threads = [threading.Thread(target=go, args=(client, number)) for number, client in enumerate(clients)]
    for thread in threads:
        thread.start()
    start.wait()
    begin = time.perf_counter()
    for thread in threads:
        thread.join()
    return time.perf_counter() - begin, statuses


def _book(client: Client, number: int, status: str) -> int:
    client.send("POST", "Appointment", json.dumps(_appointment(number, status)).encode(), (201,))
    return 1


def _appointment(number: int, status: str) -> dict[str, Any]:
    start = _START + timedelta(minutes=30 * (number // _DOCTORS))
    actors = (f"Practitioner/doctor-{number % _DOCTORS}", f"Patient/patient-{number}")
    return {
        "resourceType": "Appointment",
        "status": status,
        "start": start.isoformat(),
        "end": (start + timedelta(minutes=30)).isoformat(),
        "participant": [{"status": "accepted", "actor": {"reference": actor}} for actor in actors],
    }
