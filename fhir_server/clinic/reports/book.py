"""All reports, and how one is made."""

from __future__ import annotations

from typing import Final

from fhir_server.outcome import Outcome
from fhir_server.store import Store

from .bookings import NO_SHOWS, UTILISATION
from .laboratory import TURNAROUND
from .money import COLLECTED, RECEIVABLES, REVENUE
from .report import MOST_DAYS, Asked, Desk, Made, Report
from .visits import ARRIVALS, WAITS

REPORTS: Final[dict[str, Report]] = {
    report.name: report for report in (REVENUE, COLLECTED, RECEIVABLES, WAITS, ARRIVALS, UTILISATION, NO_SHOWS, TURNAROUND)
}
"""By name, in the order in which they are told of."""


def make(store: Store, report: Report, asked: Asked) -> Made:
    """Makes a report, of one moment. A second for 100,000 invoices.

    Raises Outcome `parameter` for a time that ends before it begins, is longer than MOST_DAYS or, for a state, still to come, for groups or filters
    that the report has not; `too-costly` for more rows than anybody reads.
    """
    now = store.clock()
    by = _grouped(report, asked)
    if not 0 <= (asked.last - asked.first).days < MOST_DAYS:
        raise Outcome("parameter", f"'from' is not after 'to', and a report is about {MOST_DAYS:,} days at the most", expression="from")
    if report.of_a_day and asked.last > now.astimezone(store.registry.zone).date():
        raise Outcome("parameter", "'at' is still to come", expression="at")
    with store.database.connection() as connection, connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY", prepare=False)
        # So that sums of some 100,000 rows stay in memory: half the time.
        connection.execute("SET LOCAL work_mem = '64MB'", prepare=False)
        rows, totals = report.work(Desk(connection, store.registry, asked, by, now))
    return Made(report.columns_of(by), list(rows), list(totals))


def _grouped(report: Report, asked: Asked) -> tuple[str, ...]:
    """What a report is to be grouped by. Raises Outcome `parameter`."""
    if unknown := [name for name in asked.filters if name not in report.filters]:
        raise Outcome("parameter", f"This report is not narrowed by '{unknown[0]}'", expression=unknown[0])
    by = asked.by if asked.by is not None else report.usual
    if len(by) > report.together or len(set(by)) < len(by) or not set(report.groups).issuperset(by) or (report.groups and not by):
        known = ", ".join(report.groups)
        said = f"This report is grouped by {known}, {report.together} at once at the most" if known else "This report is not grouped"
        raise Outcome("parameter", f"'by': {said}", expression="by")
    return by
