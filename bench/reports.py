"""What reports cost over 100,000 invoices, payments, visits, appointments and results, and what keeping their rows costs a write.

`python -m bench.reports`
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any
from zoneinfo import ZoneInfo

import psutil

from fhir_server import fhirjson
from fhir_server.clinic.reports import REPORTS, Asked, make
from fhir_server.search import SYSTEM
from fhir_server.settings import CANON
from fhir_server.store import Store, migrate, postgres
from fhir_server.store.ops import Create, Put

_EACH = 2_000
_COPIES = 50
_LOOPS = 3
_DAYS = 730
_FIRST = date(2025, 1, 1)
_ZONE = ZoneInfo("Europe/Berlin")
_DOCTORS = 20
_CHUNK = 400
_SUMS = {"invoice_sum": ("rid", "id"), "invoice_line": ("rid",), "payment_sum": ("rid",), "visit_time": ("rid",), "ledger_entry": ("invoice",)}
_SEARCHED = ("sp_date", "sp_token", "sp_reference")

Json = dict[str, Any]


def main() -> None:
    with TemporaryDirectory(dir="/tmp") as folder, postgres.embedded(Path(folder)) as url:
        migrate(url)
        store = Store(url, zone=_ZONE, connections=4, clock=lambda: datetime(2027, 1, 1, tzinfo=UTC))
        try:
            for resources in _chunks(list(_clinic(Random(1)))):
                store.transact([Put(each, each["id"]) for each in resources], SYSTEM, operation="load")
            _book(store)
            _multiply(store)
            for line in measure(store):
                print(line, flush=True)
            for line in writes(store):
                print(line, flush=True)
        finally:
            store.close()


def measure(store: Store) -> Iterator[str]:
    """Each report over a year and over two, in its dearest grouping."""
    for report in REPORTS.values():
        for days in (31, _DAYS):
            last = _FIRST + timedelta(days=_DAYS - 1)
            dearest = report.groups[-report.together :]
            for by in dict.fromkeys((report.usual, dearest)) if report.groups else (None,):
                asked = Asked(last if report.of_a_day else last - timedelta(days=days - 1), last, by)
                yield _told(
                    store,
                    f"{report.name} by {','.join(by or ('-',))}, {1 if report.of_a_day else days} days",
                    partial(make, store, report, asked),
                )
        if report.of_a_day:
            earlier = _FIRST + timedelta(days=_DAYS - 200)
            yield _told(store, f"{report.name}, 200 days ago", partial(make, store, report, Asked(earlier, earlier)))


def writes(store: Store) -> Iterator[str]:
    """A create that no report counts, and the same that one does."""
    period = {"start": "2026-03-02T08:00:00Z", "end": "2026-03-02T08:20:00Z"}
    plain: Json = {"resourceType": "Encounter", "status": "finished", "class": {"code": "AMB"}, "period": period}
    counted = plain | {"statusHistory": [{"status": "arrived", "period": period}]}
    for name, made in (("an Encounter that no report counts", plain), ("an Encounter that reports count", counted)):
        yield _told(store, f"create of {name}", partial(store.transact, [Create(made)], SYSTEM), 300)


def _told(store: Store, name: str, work: Callable[[], object], loops: int = _LOOPS) -> str:
    work()
    times, before = [], _cpu(store)
    for _ in range(loops):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1e3)
    cpu = (_cpu(store) - before) / loops * 1e3
    return f"{name:60} {cpu:8.2f} CPU-ms, median {statistics.median(times):8.2f} ms, fastest {min(times):8.2f} ms"


def _cpu(store: Store) -> float:
    """Seconds of this process and of its sessions."""
    with store.database.connection() as connection:
        rows = connection.execute("SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'").fetchall()
    spent = [psutil.Process(pid).cpu_times() for (pid,) in rows]
    return time.process_time() + sum(each.user + each.system for each in spent)


def _clinic(chance: Random) -> Iterator[Json]:
    for n in range(_DOCTORS):
        yield {"resourceType": "Practitioner", "id": f"p{n}", "name": [{"family": f"Doctor {n}"}]}
    for n in range(_EACH):
        at = datetime(_FIRST.year, 1, 1, 8, tzinfo=_ZONE) + timedelta(days=n % _DAYS, minutes=chance.randrange(600))
        doctor = f"Practitioner/p{chance.randrange(_DOCTORS)}"
        for part in range(2):
            yield {
                "resourceType": "ChargeItem",
                "id": f"c{n}-{part}",
                "status": "billable",
                "code": {"text": "x"},
                "subject": {"reference": "Patient/x"},
                "definitionCanonical": [f"urn:template:{chance.randrange(30)}|1"],
                "performer": [{"actor": {"reference": doctor}}],
            }
        yield _invoice(n, at)
        yield {
            "resourceType": "PaymentReconciliation",
            "id": f"y{n}",
            "status": "active",
            "created": at.isoformat(),
            "paymentDate": at.date().isoformat(),
            "paymentAmount": _money(Decimal(100)),
            "extension": [{"url": f"{CANON}/StructureDefinition/payment-method", "valueCode": chance.choice(("cash", "card", "transfer"))}],
        }
        yield from _visit(n, at, doctor, chance)


def _invoice(n: int, at: datetime) -> Json:
    line = {"priceComponent": [{"type": "base", "amount": _money(Decimal(50))}, {"type": "tax", "amount": _money(Decimal("9.50"))}]}
    lines = [{"chargeItemReference": {"reference": f"ChargeItem/c{n}-{part}"}, **line} for part in range(2)]
    totals = {"totalNet": _money(Decimal(100)), "totalGross": _money(Decimal(119))}
    due = {"url": "due", "valueMoney": _money(Decimal(19 if n % 5 else 0))}
    balance = {"url": f"{CANON}/StructureDefinition/invoice-balance", "extension": [due]}
    return {"resourceType": "Invoice", "id": f"i{n}", "status": "issued", "date": at.isoformat(), "extension": [balance], "lineItem": lines, **totals}


def _visit(n: int, at: datetime, doctor: str, chance: Random) -> Iterator[Json]:
    seen, over = at + timedelta(minutes=chance.randrange(90)), at + timedelta(minutes=120)
    zone = {"coding": [{"system": f"{CANON}/CodeSystem/queue-zone", "code": chance.choice(("emergency", "follow-up", "regular"))}]}
    yield {
        "resourceType": "Encounter",
        "id": f"e{n}",
        "status": "finished",
        "class": {"code": "AMB"},
        "extension": [{"url": f"{CANON}/StructureDefinition/queue-priority", "extension": [{"url": "zone", "valueCodeableConcept": zone}]}],
        "statusHistory": [{"status": "arrived", "period": {"start": at.isoformat(), "end": seen.isoformat()}}],
        "location": [{"location": {"reference": f"Location/l{n % 3}"}}],
    }
    yield {
        "resourceType": "Appointment",
        "id": f"a{n}",
        "status": chance.choice(("fulfilled", "fulfilled", "noshow", "cancelled")),
        "start": at.isoformat(),
        "end": over.isoformat(),
        "participant": [{"actor": {"reference": each}, "status": "accepted"} for each in (doctor, "Patient/x", "Location/l0")],
    }
    yield {"resourceType": "ServiceRequest", "id": f"o{n}", "status": "completed", "intent": "order", "authoredOn": over.isoformat()}
    yield {
        "resourceType": "DiagnosticReport",
        "id": f"d{n}",
        "status": "final",
        "basedOn": [{"reference": f"ServiceRequest/o{n}"}],
        "code": {"coding": [{"system": "http://loinc.org", "code": f"{chance.randrange(50)}-0"}]},
        "issued": (over + timedelta(minutes=chance.randrange(3_000))).isoformat(),
    }


def _book(store: Store) -> None:
    """What the clinic's own operations would have left in the ledger."""
    with store.database.connection() as connection:
        for kind, amount, later in (("charge", 119, 0), ("payment", -100, 3)):
            connection.execute(
                "INSERT INTO ledger_entry (invoice, kind, amount, currency, cause, at, actor)"
                " SELECT id, %s, %s, 'EUR', %s || id, day + %s, 'bench' FROM invoice_sum",
                (kind, amount, kind, later),
            )
        connection.execute(
            "INSERT INTO slot_time (rid, id, schedule, during, status, services, kept) SELECT -n, 's' || n, 'h' || n %% 20,"
            " tstzrange(%s + n / 100 * interval '1 day' + n %% 40 * interval '15 min', %s + n / 100 * interval '1 day'"
            " + (n %% 40 + 1) * interval '15 min'), CASE n %% 3 WHEN 0 THEN 'free' ELSE 'busy' END, '{}', true FROM generate_series(1, 70000) AS n",
            (datetime(2025, 1, 1, 8, tzinfo=_ZONE), datetime(2025, 1, 1, 8, tzinfo=_ZONE)),
        )


def _multiply(store: Store) -> None:
    """All of it again and again, as far as reports look."""
    with store.database.connection() as connection, connection.transaction():
        connection.execute("SET LOCAL statement_timeout = 0")
        for copy in range(1, _COPIES):
            for table, changed in _SUMS.items():
                _copy(connection, table, copy, changed, "WHERE rid < 1000000" if "rid" in changed else "WHERE strpos(invoice, '-x') = 0")
            types = "(SELECT tid FROM resource_type WHERE name IN ('Appointment', 'ServiceRequest', 'DiagnosticReport'))"
            for table in _SEARCHED:
                some = f"WHERE rid < 1000000 AND rid IN (SELECT rid FROM resource WHERE type IN {types} AND rid < 1000000)"
                _copy(connection, table, copy, ("rid", "id") if table == "sp_reference" else ("rid",), some)
            _copy(connection, "resource", copy, ("rid", "id"), f"WHERE rid < 1000000 AND type IN {types}")
    with store.database.connection() as connection:
        connection.execute("SET statement_timeout = 0")
        connection.execute(f"VACUUM ANALYZE {', '.join((*_SUMS, *_SEARCHED, 'resource', 'slot_time'))}", prepare=False)
        connection.execute("RESET statement_timeout")


def _copy(connection: Any, table: str, copy: int, changed: Sequence[str], some: str) -> None:
    rows = connection.execute("SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND attidentity = ''", (table,))
    names = [name for (name,) in rows.fetchall()]
    only_orders = "CASE WHEN id ~ '^o[0-9]+$' THEN id || '-x{0}' ELSE id END" if table == "sp_reference" else "{1} || '-x{0}'"
    values = [f"rid + {copy * 1_000_000}" if n == "rid" else only_orders.format(copy, n) if n in changed else n for n in names]
    connection.execute(f"INSERT INTO {table} ({', '.join(names)}) SELECT {', '.join(values)} FROM {table} {some}")


def _chunks(resources: list[Json]) -> Iterator[list[Json]]:
    for first in range(0, len(resources), _CHUNK):
        yield resources[first : first + _CHUNK]


def _money(amount: Decimal) -> Json:
    return {"value": fhirjson.loads(str(amount).encode()), "currency": "EUR"}


if __name__ == "__main__":
    main()
