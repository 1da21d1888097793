"""`/reports`: what the clinic takes, how long people wait, what is booked; as JSON, or as CSV for a spreadsheet.

https://www.rfc-editor.org/rfc/rfc4180, https://www.rfc-editor.org/rfc/rfc7111
"""

from __future__ import annotations

from typing import Any, Final

from flask import Response, request

from fhir_server.access.audit import Event
from fhir_server.clinic.reports import REPORTS, USUAL_DAYS, Asked, Column, Made, Report, as_csv, make

from .exchange import address_of, answered, done_by_caller
from .office import instant, office
from .routes import PREFIX, Routes
from .schemas import reports as schemas

_CSV: Final = "text/csv"
_TABLE: Final = {"description": "The report.", "content": {_CSV: {"schema": {"type": "string"}}}}

routes: Final = Routes("reports", "Reports: what the clinic takes, how long people wait, what is booked. Each says what its figures are made of.")


@routes.route("/reports")
@routes.response(200, schemas.ReportMeanings)
def reports() -> Response:
    """List the reports

    With what each of them counts, in resources and elements of FHIR, so that its figures can be computed again.
    """
    return answered({"items": [_meaning(report) for report in REPORTS.values()]})


def _add(report: Report) -> None:
    """Gives a report its address."""

    def show(asked: dict[str, Any]) -> Response:
        here = office()
        today = here.store.clock().astimezone(here.store.registry.zone).date()
        last = asked.get("at") or asked.get("end") or today
        first = last if report.of_a_day else asked.get("start") or last - USUAL_DAYS
        filters = {name: asked[name] for name in report.filters if name in asked}
        wanted = Asked(first, last, tuple(asked["by"].split(",")) if "by" in asked else None, filters)
        made = make(here.store, report, wanted)
        here.store.note(done_by_caller(Event("read", type="report", resource=report.name, query=request.full_path)))
        return _table(report, wanted, made) if _wants_table(asked) else answered(_shown(report, wanted, made))

    show.__doc__ = f"Show the report {report.name}\n\n{report.meaning}"
    answering = routes.doc(responses={200: _TABLE})(routes.response(200, schemas.answer_of(report))(show))
    view = routes.arguments(schemas.query_of(report), location="query")(answering)
    routes.route(f"/reports/{report.name}", endpoint=f"report_{report.name}")(view)


def _wants_table(asked: dict[str, Any]) -> bool:
    if "format" in asked:
        return bool(asked["format"] == "csv")
    return request.accept_mimetypes.best_match(["application/json", _CSV]) == _CSV


def _shown(report: Report, asked: Asked, made: Made) -> dict[str, Any]:
    here = office()
    days = {"at": asked.last.isoformat()} if report.of_a_day else {"from": asked.first.isoformat(), "to": asked.last.isoformat()}
    names = [column.name for column in made.columns]
    rows, totals = ([dict(zip(names, row, strict=True)) for row in part] for part in (made.rows, made.totals))
    head = {"report": report.name, "title": report.title, **days, "zone": here.store.registry.zone.key, "made": instant(here.store.clock())}
    by = list(asked.by if asked.by is not None else report.usual)
    columns = [_column(column) for column in made.columns]
    return {**head, "by": by, "filters": dict(asked.filters), "columns": columns, "rows": rows, "totals": totals}


def _table(report: Report, asked: Asked, made: Made) -> Response:
    days = asked.last.isoformat() if report.of_a_day else f"{asked.first.isoformat()}-to-{asked.last.isoformat()}"
    named = f'attachment; filename="{report.name}-{days}.csv"'
    headers = {"Cache-Control": "no-store", "Content-Disposition": named, "X-Content-Type-Options": "nosniff", "Vary": "Accept"}
    return Response(as_csv(made), 200, headers, content_type=f"{_CSV}; charset=utf-8; header=present")


def _meaning(report: Report) -> dict[str, Any]:
    told = {"name": report.name, "title": report.title, "address": address_of(f"{PREFIX}/reports/{report.name}"), "meaning": report.meaning}
    asked = {"groups": list(report.groups), "usual": list(report.usual), "filters": list(report.filters)}
    return {**told, **asked, "columns": [_column(column) for column in report.columns]}


def _column(column: Column) -> dict[str, str]:
    return {"name": column.name, "kind": column.kind, "text": column.text}


for _report in REPORTS.values():
    _add(_report)
