"""`/reports`: the reports as pages for administrators, with a bar for each row; and as tables to take away."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from typing import Any, Final

from flask import Blueprint, Response, request

from fhir_server.access.audit import Event
from fhir_server.clinic.reports import REPORTS, USUAL_DAYS, Asked, Made, Report, as_csv, make
from fhir_server.outcome import Outcome
from fhir_server.store import Store

from .browser import BrowserSession, caller
from .views import Kit

_SHOWN: Final = 500
"""Rows that a page has room for; the table to take away has all."""
_DATE: Final = re.compile(r"(19|20|21)[0-9]{2}-[0-9]{2}-[0-9]{2}", re.ASCII)
_MEASURES: Final = ("gross", "collected", "due", "arrivals", "share", "rate", "median")
"""The columns that bars are of: each report has one."""


class ReportPages:
    """The views."""

    def __init__(self, kit: Kit, store: Store) -> None:
        """Works with `kit`, and makes reports of what `store` has."""
        self._kit = kit
        self._store = store

    def add_to(self, routes: Blueprint) -> None:
        """Gives the views their addresses."""
        routes.add_url_rule("/reports", "reports", self.all, methods=["GET"])
        routes.add_url_rule("/reports/<name>", "report", self.one, methods=["GET"])

    def all(self) -> Response:
        """Which there are, and what they count."""
        found = self._require()
        return found if isinstance(found, Response) else self._kit.page("reports.html", reports=REPORTS.values())

    def one(self, name: str) -> Response:
        """One of them, over the days and by the groups that the address asks for."""
        found = self._require()
        if isinstance(found, Response):
            return found
        if name not in REPORTS:
            raise Outcome("not-found", "There is no such report")
        report = REPORTS[name]
        asked = self._asked(report)
        try:
            made = make(self._store, report, asked)
        except Outcome as outcome:
            return self._kit.page("report.html", outcome, report=report, asked=asked, made=None, bars=[], more=0)
        event = Event("read", type="report", resource=name, query=request.full_path)
        self._store.note(event.by(found.by, address=caller().address, request_id=request.environ.get("fhir_server.request_id", "")))
        if request.args.get("format") == "csv":
            disposition = f'attachment; filename="{name}-{asked.last.isoformat()}.csv"'
            headers = {"Cache-Control": "no-store", "Content-Disposition": disposition, "X-Content-Type-Options": "nosniff"}
            return Response(as_csv(made), 200, headers, content_type="text/csv; charset=utf-8")
        shown = Made(made.columns, made.rows[:_SHOWN], made.totals)
        return self._kit.page("report.html", report=report, asked=asked, made=shown, bars=bars(shown), more=len(made.rows) - len(shown.rows))

    def _require(self) -> BrowserSession | Response:
        """Raises Outcome `forbidden` for whoever is no administrator."""
        found = self._kit.browser.require()
        if not isinstance(found, Response) and "admin" not in found.account.roles:
            raise Outcome("forbidden", "Reports are for administrators")
        return found

    def _asked(self, report: Report) -> Asked:
        today = self._store.clock().astimezone(self._store.registry.zone).date()
        last = _day("at" if report.of_a_day else "to", today)
        first = last if report.of_a_day else _day("from", last - USUAL_DAYS)
        by = tuple(request.args["by"].split(",")[:5]) if request.args.get("by") and report.groups else None
        return Asked(first, last, by)


def bars(made: Made) -> Sequence[float | None]:
    """For each row how long its bar is, 0 to 100; None where it has none, as of several currencies the largest sets the length of its own."""
    names = [column.name for column in made.columns]
    measure = next((names.index(name) for name in _MEASURES if name in names), None)
    if measure is None:
        return [None] * len(made.rows)
    kind = names.index("currency") if "currency" in names else None
    values = [(row[kind] if kind is not None else "", float(value) if (value := row[measure]) is not None else None) for row in made.rows]
    most: dict[Any, float] = {}
    for group, value in values:
        most[group] = max(most.get(group, 0.0), value or 0.0)
    return [round(100 * max(value, 0.0) / most[group], 1) if value is not None and most[group] else None for group, value in values]


def _day(name: str, usual: date) -> date:
    """The date of a field. Raises Outcome `parameter` for one that is none."""
    text = request.args.get(name, "")
    if not text:
        return usual
    try:
        if _DATE.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise Outcome("parameter", "That is no date such as 2026-03-29")
