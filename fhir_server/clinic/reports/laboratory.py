"""How long results take."""

from __future__ import annotations

from typing import Any, Final

from fhir_server.search.params.token import folded

from .report import Column, Desk, Report, Row, minutes

_TURNAROUND: Final = """
WITH d AS MATERIALIZED (
    SELECT i.rid, i.lo AS issued FROM sp_date i JOIN sp_token t ON t.rid = i.rid AND t.pid = %(status)s
    WHERE i.pid = %(issued)s AND i.lo >= %(lo)s AND i.lo < %(hi)s AND t.code IN ('final', 'amended', 'corrected', 'appended')
        AND (%(category)s::text IS NULL
            OR EXISTS (SELECT FROM sp_token c WHERE c.rid = i.rid AND c.pid = %(category_of)s AND c.code = %(category)s))),
b AS MATERIALIZED (
    SELECT d.rid, d.issued, min(a.lo) AS begun, min(coalesce(y.url || '|', '') || t.code) AS code
    FROM d JOIN sp_reference s ON s.rid = d.rid AND s.pid = %(from)s AND s.type = %(origin)s
    JOIN resource o ON o.type = %(origin)s AND o.id = s.id AND NOT o.deleted
    JOIN sp_date a ON a.rid = o.rid AND a.pid = %(begun)s AND a.hi - a.lo < interval '12 hours'
    LEFT JOIN sp_token t ON t.rid = d.rid AND t.pid = %(code)s AND t.code <> '' LEFT JOIN token_system y ON y.sid = t.system
    GROUP BY d.rid, d.issued),
c AS (SELECT code, extract(epoch FROM issued - begun)::float8 AS took FROM b WHERE issued >= begun)
SELECT grouping(code) AS whole, code, count(*), percentile_cont(0.5) WITHIN GROUP (ORDER BY took), percentile_cont(0.9) WITHIN GROUP (ORDER BY took),
    max(took)
FROM c GROUP BY GROUPING SETS ((code), ()) ORDER BY whole, code NULLS LAST
"""


def _turnaround(desk: Desk) -> tuple[list[Row], list[Row]]:
    report = desk.registry.supported_params("DiagnosticReport")
    (since,) = desk.by
    origin, code, begun = ("ServiceRequest", "based-on", "authored") if since == "ordered" else ("Specimen", "specimen", "collected")
    numbers: dict[str, Any] = {
        "issued": report["issued"].pid,
        "status": report["status"].pid,
        "code": report["code"].pid,
        "category_of": report["category"].pid,
        "from": report[code].pid,
        "origin": desk.registry.types[origin],
        "begun": desk.registry.supported_params(origin)[begun].pid,
    }
    category = desk.asked.filters.get("category")
    numbers["category"] = folded(category) if category is not None else None
    made: tuple[list[Row], list[Row]] = ([], [])
    for whole, named, count, median, ninetieth, longest in desk.rows(_TURNAROUND, {**desk.arguments, **numbers}):
        if count:
            made[whole].append((named, count, minutes(median), minutes(ninetieth), minutes(longest)))
    return made


TURNAROUND: Final = Report(
    "lab-turnaround",
    "Laboratory turnaround",
    "How long it took from an order to its result. Counted are DiagnosticReports whose status is final, amended, corrected or appended, by the"
    " day of DiagnosticReport.issued in the clinic's zone; the time counts from the earliest authoredOn of the ServiceRequests in basedOn, or"
    " by collected from the earliest collection.collectedDateTime (or start of collectedPeriod) of the Specimens in specimen. Those of"
    " which only the day is known are left out, and so are reports that are older than what they are based on. Reports are told apart by the"
    " first coding of code, in the order of the alphabet, as system|code in small letters.",
    (
        Column("code", "text", "What the report is of, as system|code; null where it has no code."),
        Column("reports", "count", "Reports."),
        Column("median", "minutes", "What half of them took at most."),
        Column("ninetieth", "minutes", "What nine of ten took at most."),
        Column("longest", "minutes", "The longest."),
    ),
    _turnaround,
    groups=("ordered", "collected"),
    usual=("ordered",),
    together=1,
    filters=("category",),
)
