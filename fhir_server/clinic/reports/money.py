"""Revenue, what came in, and what is still to come. Amounts of several currencies are never summed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from .names import ROLES, names, role_arguments, titles
from .report import Column, Desk, Report, Row, midnight, told

_CURRENCY: Final = Column("currency", "text", "Of the amounts, by ISO 4217.")
_DAY: Final = Column("day", "date", "The day, in the clinic's zone.", optional=True)
_MONTH: Final = Column("month", "text", "The month, as 2026-03.", optional=True)
_HEADS: Final = {
    "day": "l.day",
    # Its first day, which takes a fifth of the time of a text.
    "month": "l.day - extract(day FROM l.day)::int + 1",
    "template": "l.template",
    "doctor": "coalesce(roles.doctor, l.doctor)",
    "method": "l.method",
}
_BUCKETS: Final = (("due_0_30", 0, 30), ("due_31_60", 31, 60), ("due_61_90", 61, 90), ("due_over_90", 91, None))

_REVENUE: Final = """
WITH {roles}
SELECT {heads}l.currency, count(DISTINCT l.rid) FILTER (WHERE NOT credit), count(DISTINCT l.rid) FILTER (WHERE credit),
    sum(net + tax) FILTER (WHERE NOT credit), sum(net + tax) FILTER (WHERE credit), sum(net), sum(tax), sum(net + tax)
FROM invoice_line l LEFT JOIN roles ON roles.role = l.doctor
WHERE l.day BETWEEN %(first)s AND %(last)s AND (%(currency)s::text IS NULL OR l.currency = %(currency)s)
    AND (%(practitioner)s::text IS NULL OR coalesce(roles.doctor, l.doctor) = 'Practitioner/' || %(practitioner)s)
GROUP BY {groups}l.currency ORDER BY {groups}l.currency
"""
"""Invoices are told apart by sorting; by grouping them first it took three times as long."""
_WHOLE: Final = """
SELECT {heads}l.currency, count(*) FILTER (WHERE NOT credit), count(*) FILTER (WHERE credit), sum(gross) FILTER (WHERE NOT credit),
    sum(gross) FILTER (WHERE credit), sum(net), sum(gross - net), sum(gross)
FROM invoice_sum l WHERE l.day BETWEEN %(first)s AND %(last)s AND (%(currency)s::text IS NULL OR l.currency = %(currency)s)
GROUP BY {groups}l.currency ORDER BY {groups}l.currency
"""
"""The same where no line is asked for by itself."""
_COLLECTED: Final = """
SELECT {heads}l.currency, count(*), sum(l.amount) FILTER (WHERE l.amount > 0), sum(l.amount) FILTER (WHERE l.amount < 0), sum(l.amount)
FROM payment_sum l WHERE l.day BETWEEN %(first)s AND %(last)s AND (%(currency)s::text IS NULL OR l.currency = %(currency)s)
GROUP BY {groups}l.currency ORDER BY {groups}l.currency
"""
_DUE_NOW: Final = """
o AS (
    SELECT s.currency, %(last)s - s.day AS age, s.due FROM invoice_sum s
    WHERE NOT s.credit AND s.due <> 0 AND s.day <= %(last)s AND (%(currency)s::text IS NULL OR s.currency = %(currency)s))
"""
_DUE_THEN: Final = """
e AS (SELECT invoice, coalesce(sum(amount) FILTER (WHERE at < %(end)s AND kind <> 'charge'), 0) AS booked FROM ledger_entry GROUP BY invoice),
o AS (
    SELECT s.currency, %(last)s - s.day AS age, CASE WHEN e.invoice IS NULL THEN s.due ELSE s.gross + e.booked END AS due
    FROM invoice_sum s LEFT JOIN e ON e.invoice = s.id
    WHERE NOT s.credit AND s.day <= %(last)s AND (%(currency)s::text IS NULL OR s.currency = %(currency)s))
"""
_OWED: Final = """
WITH {dues}
SELECT currency, count(*) FILTER (WHERE due > 0), sum(due) FILTER (WHERE due > 0 AND age <= 30),
    sum(due) FILTER (WHERE due > 0 AND age BETWEEN 31 AND 60), sum(due) FILTER (WHERE due > 0 AND age BETWEEN 61 AND 90),
    sum(due) FILTER (WHERE due > 0 AND age > 90), sum(due) FILTER (WHERE due > 0), sum(due) FILTER (WHERE due < 0)
FROM o WHERE due <> 0 GROUP BY currency ORDER BY currency
"""


def _headed(by: Sequence[str]) -> dict[str, str]:
    """What stands in a statement for the groups; their names are those of a report, never a caller's words."""
    return {"heads": "".join(f"{_HEADS[each]} AS by_{each}, " for each in by), "groups": "".join(f"by_{each}, " for each in by)}


def _revenue(desk: Desk) -> tuple[list[Row], list[Row]]:
    found = [_revenue_by(desk, by) for by in (desk.by, ())]
    doctors = names(desk, {row[desk.by.index("doctor")] for row in found[0]} if "doctor" in desk.by else ())
    templates = titles(desk, {row[desk.by.index("template")] for row in found[0]} if "template" in desk.by else ())
    rows = [(*_head(desk.by, row, doctors, templates), *_amounts(row[len(desk.by) :], 3)) for row in found[0]]
    blank = (None,) * sum(2 if each in {"doctor", "template"} else 1 for each in desk.by)
    return rows, [(*blank, *_amounts(row, 3)) for row in found[1]]


def _revenue_by(desk: Desk, by: Sequence[str]) -> list[tuple[Any, ...]]:
    if "practitioner" not in desk.asked.filters and not {"template", "doctor"}.intersection(by):
        return desk.rows(_WHOLE.format(**_headed(by)))
    return desk.rows(_REVENUE.format(roles=ROLES, **_headed(by)), {**desk.arguments, **role_arguments(desk)})


def _head(by: Sequence[str], row: tuple[Any, ...], doctors: dict[Any, str | None], templates: dict[Any, str | None]) -> Row:
    cells: list[Any] = []
    for group, value in zip(by, row, strict=False):
        if group == "doctor":
            cells += [value or None, doctors[value]]
        elif group == "template":
            cells += [value or None, templates[value]]
        else:
            cells.append(f"{value:%Y-%m}" if group == "month" else value.isoformat() if group == "day" else value or None)
    return tuple(cells)


def _amounts(row: tuple[Any, ...], first: int) -> Row:
    """The currency and counts as they are; from the place `first` on amounts."""
    return (*row[:first], *(told(amount, row[0]) for amount in row[first:]))


def _collected(desk: Desk) -> tuple[list[Row], list[Row]]:
    found = [desk.rows(_COLLECTED.format(**_headed(by))) for by in (desk.by, ())]
    rows = [(*_head(desk.by, row, {}, {}), *_amounts(row[len(desk.by) :], 2)) for row in found[0]]
    return rows, [((None,) * len(desk.by) + _amounts(row, 2)) for row in found[1]]


def _receivables(desk: Desk) -> tuple[list[Row], list[Row]]:
    today = desk.now.astimezone(desk.zone).date()
    dues = _DUE_NOW if desk.asked.last >= today else _DUE_THEN
    end = midnight(desk.asked.last + timedelta(days=1), desk.zone)
    found = desk.rows(_OWED.format(dues=dues.strip()), {**desk.arguments, "end": end})
    return [_amounts(row, 2) for row in found], []


REVENUE: Final = Report(
    "revenue",
    "Revenue",
    "Invoices less credit notes, by the day of Invoice.date in the clinic's zone. Counted are Invoices with the status issued or balanced, and"
    " those that are cancelled and have a number (identifier of the system invoice-number), which were issued before. A credit note is an"
    " Invoice with the extension credits-invoice, or of the type credit-note; its amounts are negative. Net and tax are those of each line's"
    " extension charge-price, or else of its priceComponents (base and surcharge less discount and deduction; tax); what totalNet and totalGross"
    " have beyond the lines is a row without template and doctor. The template of a line is the first definitionCanonical (or else"
    " definitionUri) of the ChargeItem in chargeItemReference; the doctor is that ChargeItem's first performer.actor that is a Practitioner, or"
    " the practitioner of a PractitionerRole.",
    (
        _DAY,
        _MONTH,
        Column("template", "text", "The canonical of the bill template, with its version; null without one.", optional=True),
        Column("title", "text", "The template's title.", optional=True),
        Column("doctor", "text", "The reference of the Practitioner; null without one.", optional=True),
        Column("name", "text", "The doctor's name.", optional=True),
        _CURRENCY,
        Column("invoices", "count", "Invoices with a line that counts here."),
        Column("credit_notes", "count", "Credit notes with a line that counts here."),
        Column("invoiced", "money", "Gross of the invoices."),
        Column("credited", "money", "Gross of the credit notes, negative."),
        Column("net", "money", "What is left of both, before tax."),
        Column("tax", "money", "Tax of both."),
        Column("gross", "money", "What is left of both, with tax."),
    ),
    _revenue,
    groups=("day", "month", "template", "doctor"),
    usual=("day",),
    together=3,
    filters=("practitioner", "currency"),
    of_group={"day": ("day",), "month": ("month",), "template": ("template", "title"), "doctor": ("doctor", "name")},
)
COLLECTED: Final = Report(
    "collected",
    "Money collected",
    "PaymentReconciliations with the status active and another outcome than error, by paymentDate: paymentAmount, which is"
    " negative where money was given back. What payers pay of their shares is in it. The method is the extension payment-method.",
    (
        _DAY,
        _MONTH,
        Column("method", "text", "How it was paid, as cash or card; null where it does not say.", optional=True),
        _CURRENCY,
        Column("payments", "count", "PaymentReconciliations."),
        Column("received", "money", "What came in."),
        Column("returned", "money", "What went back, negative."),
        Column("collected", "money", "What is left of both."),
    ),
    _collected,
    groups=("day", "month", "method"),
    usual=("day",),
    together=2,
    filters=("currency",),
    of_group={"day": ("day",), "month": ("month",), "method": ("method",)},
)
RECEIVABLES: Final = Report(
    "receivables",
    "Receivables by age",
    "What is due of invoices at the end of a day, by the days from Invoice.date to then. Counted are the Invoices of the report revenue but for"
    " credit notes, with a date up to that day; what is due is the part due of the extension invoice-balance, as it stood in the Invoice's version of"
    " that moment. Of an invoice that another system has issued, and on which nothing is booked here, it is what stands there now, or totalGross"
    " where nothing does and it is issued. What payers owe of invoices (extension payer-share) is no part of it.",
    (
        _CURRENCY,
        Column("invoices", "count", "Invoices of which something is due."),
        *(Column(name, "money", f"Due of those that are {low} to {high} days old." if high else f"Due of those that are older than {low - 1} days.")
          for name, low, high in _BUCKETS),
        Column("due", "money", "Due of all of them."),
        Column("overpaid", "money", "What was paid too much of others, negative; no part of what is due."),
    ),
    _receivables,
    filters=("currency",),
    of_a_day=True,
)  # fmt: skip
