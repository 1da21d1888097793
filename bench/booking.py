"""What it costs that nobody is booked twice: appointments that hold no time beside those that do, and many at once for one time; and free times.

python -m bench.booking
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from .clients import Client, Figures, run
from .server import Server, serving

_DOCTORS = 20
_RACERS = 50
_FINDING, _DAYS, _SLOTS = 6, 14, 32
_BOOKED = 3
"""One in so many of the times that are looked through is booked."""
_START = datetime(2031, 1, 1, 8, tzinfo=UTC)


def measure(server: Server) -> Iterator[Figures]:
    """Creates of appointments by eight clients, each at a time that is free."""
    yield run(server, "create of an Appointment that holds no time", lambda client, n: _book(client, n, "proposed"), loops=2000)
    yield run(server, "the same, booked", lambda client, n: _book(client, n, "booked"), loops=2000)


def scheduling(server: Server) -> Iterator[Figures]:
    """$find over six doctors and fourteen days, by one client; and $book of times that are free, by eight."""
    client = Client(server)
    people = [_doctor(client, f"finder-{number}", _SLOTS, _DAYS) for number in range(_FINDING)]
    for number in range(0, _SLOTS * _DAYS * _FINDING, _BOOKED):
        doctor, slot = divmod(number, _SLOTS * _DAYS)
        start = _START + timedelta(days=slot // _SLOTS, minutes=15 * (slot % _SLOTS))
        body = {**_appointment(number, "booked"), "start": start.isoformat(), "end": (start + timedelta(minutes=15)).isoformat()}
        body["participant"] = [{"status": "accepted", "actor": {"reference": f"Practitioner/finder-{doctor}"}}]
        client.send("POST", "Appointment", json.dumps(body).encode(), (201,))
    who = "&".join(f"schedule={each}" for each in people)
    for name, more in (("50 of them", ""), ("500 of half an hour", "&duration=30&_count=500")):
        query = f"Appointment/$find?{who}&start=2031-01-01&end=2031-01-15{more}"
        yield run(server, f"$find over six doctors and 14 days, {name}", partial(_found, query), loops=100, clients=1)
    # The first connection has waited too long to be kept.
    client = Client(server)
    for number in range(1600):
        client.send("PUT", f"Patient/p{number}", json.dumps({"resourceType": "Patient", "id": f"p{number}"}).encode(), (200, 201))
    booked = [_doctor(client, f"booked-{number}", _SLOTS, 4) for number in range(_DOCTORS)]
    yield run(server, "$book of a free time, in which a Slot becomes busy", lambda client, n: _book_one(client, booked, n), loops=1600, warm_up=0)


def _doctor(client: Client, name: str, slots: int, days: int) -> str:
    """A Schedule with Slots of a quarter of an hour."""
    actor = [{"reference": f"Practitioner/{name}"}]
    entries: list[dict[str, Any]] = [{"resourceType": "Schedule", "id": name, "actor": actor}]
    for number in range(slots * days):
        start = _START + timedelta(days=number // slots, minutes=15 * (number % slots))
        times = {"start": start.isoformat(), "end": (start + timedelta(minutes=15)).isoformat()}
        entries.append({"resourceType": "Slot", "id": f"{name}-{number}", "schedule": {"reference": f"Schedule/{name}"}, "status": "free", **times})
    listed = [{"resource": each, "request": {"method": "PUT", "url": f"{each['resourceType']}/{each['id']}"}} for each in entries]
    client.send("POST", "", json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": listed}).encode())
    return f"Schedule/{name}"


def _found(query: str, client: Client, _: int) -> int:
    if not client.json("GET", query)["entry"]:
        raise RuntimeError("nothing was found")
    return 1


def _book_one(client: Client, schedules: list[str], number: int) -> int:
    name = schedules[number % _DOCTORS].partition("/")[2]
    slot = number // _DOCTORS
    start = _START + timedelta(days=slot // _SLOTS, minutes=15 * (slot % _SLOTS))
    appointment = {
        "resourceType": "Appointment",
        "status": "proposed",
        "start": start.isoformat(),
        "end": (start + timedelta(minutes=15)).isoformat(),
        "slot": [{"reference": f"Slot/{name}-{slot}"}],
        "participant": [{"actor": {"reference": f"Practitioner/{name}"}, "status": "needs-action"}],
    }
    parts = [{"name": "appointment", "resource": appointment}, {"name": "patient", "valueReference": {"reference": f"Patient/p{number}"}}]
    client.send("POST", "Appointment/$book", json.dumps({"resourceType": "Parameters", "parameter": parts}).encode(), (201,))
    return 1


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


def main() -> None:
    """Prints what there is to say of booking."""
    with serving() as server:
        for figures in scheduling(server):
            print(f"{figures.name}: {figures.cpu_ms:.1f} CPU-ms, {figures.percentile(0.5):.1f} ms, {figures.rate:.0f}/s")
        seconds, statuses = race(server)
        print(f"50 racers for one time: {dict(statuses)} in {seconds:.2f} s")


if __name__ == "__main__":
    main()
