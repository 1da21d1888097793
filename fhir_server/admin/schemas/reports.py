"""Reports as they are asked for and shown: a schema for each, made of what the report says of itself."""

from __future__ import annotations

import re
from datetime import date
from typing import Any, Final

from marshmallow import Schema, ValidationError, fields, validate

from fhir_server.clinic.reports import MOST_DAYS, Column, Report

from .common import Strict, moment, shown

_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_YEARS: Final = (1900, 2200)
_ID: Final = r"^[A-Za-z0-9\-.]{1,64}$"
_PATTERNS: Final = {"currency": r"^[A-Z]{3}$", "category": r"^[^\s\u0000-\u001f]{1,100}$", "practitioner": _ID, "location": _ID}
_FILTERS: Final = {
    "practitioner": "The id of a Practitioner: what is theirs alone.",
    "location": "The id of a Location.",
    "currency": "A currency, as EUR.",
    "category": "A code of DiagnosticReport.category, as LAB.",
}
_KINDS: Final = ("text", "date", "count", "money", "minutes", "share", "number")


class Day(fields.Date):
    """A date as 2026-03-29, in a year that a clinic has reports of."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **options: Any) -> date:
        if not isinstance(value, str) or not _DATE.fullmatch(value) or not _YEARS[0] <= int(value[:4]) < _YEARS[1]:
            raise ValidationError("Not a date such as 2026-03-29.")
        found: date = super()._deserialize(value, attr, data, **options)
        return found


class ReportColumn(Schema):
    """A column of a report."""

    name = shown("The name of it in rows.")
    kind = fields.String(required=True, validate=validate.OneOf(_KINDS), metadata={"description": "What its values are."})
    text = shown("What it means.")


class ReportMeaning(Schema):
    """A report that there is."""

    name = shown("The name, which is the end of its address.")
    title = shown("The title.")
    address = fields.Url(required=True, metadata={"description": "Where it is."})
    meaning = shown("What it counts, in resources and elements of FHIR.")
    groups = fields.List(fields.String(), required=True, metadata={"description": "What `by` can name."})
    usual = fields.List(fields.String(), required=True, metadata={"description": "What it is grouped by without `by`."})
    filters = fields.List(fields.String(), required=True, metadata={"description": "What narrows it."})
    columns = fields.List(fields.Nested(ReportColumn), required=True, metadata={"description": "All columns that it can have."})


class ReportMeanings(Schema):
    """The reports that there are."""

    items = fields.List(fields.Nested(ReportMeaning), required=True)


def query_of(report: Report) -> type[Schema]:
    """What can be asked of a report."""
    found: dict[str, fields.Field[Any]] = {}
    if report.of_a_day:
        found["at"] = Day(metadata={"description": "The day at whose end it is; today without it."})
    else:
        found["start"] = Day(
            data_key="from", metadata={"description": f"The first day, included; thirty days up to the last without it, {MOST_DAYS:,} at the most."}
        )
        found["end"] = Day(data_key="to", metadata={"description": "The last day, included; today without it."})
    if report.groups:
        one = "|".join(report.groups)
        form = f"^({one})(,({one})){{0,{report.together - 1}}}$"
        told = (
            f"What rows are told apart by: {', '.join(report.groups)}; at most {report.together}, with commas. Without it {','.join(report.usual)}."
        )
        found["by"] = fields.String(validate=validate.Regexp(form), metadata={"description": told})
    for name in report.filters:
        found[name] = fields.String(validate=validate.Regexp(_PATTERNS[name]), metadata={"description": _FILTERS[name]})
    how = "The form of the answer, which otherwise the header Accept says: application/json or text/csv."
    found["format"] = fields.String(validate=validate.OneOf(("json", "csv")), metadata={"description": how})
    return Strict.from_dict(found, name=f"{_class_name(report)}Query")


def answer_of(report: Report) -> type[Schema]:
    """What a report looks like."""
    row = Schema.from_dict({column.name: _cell(column) for column in report.columns}, name=f"{_class_name(report)}Row")
    head: dict[str, fields.Field[Any]] = {"report": shown("The name of the report."), "title": shown("Its title.")}
    days = {"at": "The day."} if report.of_a_day else {"from": "The first day.", "to": "The last day."}
    head |= {name: fields.String(required=True, metadata={"format": "date", "description": text}) for name, text in days.items()}
    return Schema.from_dict(
        head
        | {
            "zone": shown("The clinic's zone, in which days begin."),
            "made": moment("When it was made."),
            "by": fields.List(fields.String(), required=True, metadata={"description": "What rows are told apart by."}),
            "filters": fields.Dict(keys=fields.String(), values=fields.String(), required=True, metadata={"description": "What narrows it."}),
            "columns": fields.List(fields.Nested(ReportColumn), required=True, metadata={"description": "The columns, in their order."}),
            "rows": fields.List(fields.Nested(row), required=True, metadata={"description": "Sorted; each has all columns."}),
            "totals": fields.List(fields.Nested(row), required=True, metadata={"description": "What the rows come to, each currency for itself."}),
        },
        name=f"{_class_name(report)}Report",
    )


def _cell(column: Column) -> fields.Field[Any]:
    options: dict[str, Any] = {"required": not column.optional, "allow_none": True, "metadata": {"description": column.text}}
    if column.kind == "count":
        return fields.Integer(**options)
    return fields.Float(**options) if column.kind in {"minutes", "share", "number"} else fields.String(**options)


def _class_name(report: Report) -> str:
    return "".join(part.capitalize() for part in report.name.split("-"))
