"""Statements of account as sheets: what was due before, each entry with what is due after it, and how old that is, by currency.

Entries are as they were booked. A kind of entry that there are no words for stands by its name, so that the column always sums to its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from decimal import Decimal
from typing import Any, Final

from .bills import NUMBER, method_of
from .reading import Json, Record, name_of, plain
from .sheets import Sheet, day_of, identifier_of, sheet
from .wording import Wording

_AGES: Final = ((30, "age-30"), (60, "age-60"), (90, "age-90"))
_OLDER: Final = "age-more"
_CREDIT: Final = "in-your-favour"


def statement(record: Record, wording: Wording) -> Sheet:
    """The statement of a Patient or an Account: `period` beside it has its `start`, None for all time, and its `end`; `entries` what was booked.

    An entry has `at`, `invoice` (a reference), `kind`, `amount` (what it adds to what is due), `currency`, `cause` (a reference or None), and
    `payment`: the `formCode` and `paymentIdentifier` of what it was paid by.
    """
    main, (period,) = record.main, record.beside["period"]
    start, end = (date.fromisoformat(period[name]) if period[name] else None for name in ("start", "end"))
    assert end is not None
    entries = [(day, each) for each in record.beside["entries"] if (day := day_of(each["at"], wording)) is not None and day <= end]
    currencies = sorted({str(each["currency"]) for _, each in entries})
    first = wording.date(period["start"]) if start is not None else wording("from-the-beginning")
    facts = [
        (wording("period"), f"{first} – {wording.date(period['end'])}"),
        (wording("account"), (name_of(main) or identifier_of(main)) if main.get("resourceType") == "Account" else ""),
    ]
    return sheet(
        "statement",
        record,
        wording,
        heading=wording("statement"),
        number=f"{first} – {wording.date(period['end'])}",
        on=end,
        facts=facts,
        accounts=[
            _account(record, wording, currency, start, end, [pair for pair in entries if pair[1]["currency"] == currency]) for currency in currencies
        ],
    )


def balances(entries: Iterable[Json]) -> dict[str, Decimal]:
    """What entries come to, by currency."""
    found: dict[str, Decimal] = {}
    for each in entries:
        found[str(each["currency"])] = found.get(str(each["currency"]), Decimal(0)) + each["amount"]
    return found


def _account(record: Record, wording: Wording, currency: str, start: date | None, end: date, entries: Sequence[tuple[date, Json]]) -> dict[str, Any]:
    before = [each for day, each in entries if start is not None and day < start]
    due = opening = sum((each["amount"] for each in before), Decimal(0))
    rows = []
    for day, each in entries[len(before) :]:
        due += each["amount"]
        rows.append(
            {
                "date": wording.date(day.isoformat()),
                "text": _text(record, wording, each),
                "number": _number(record, each["invoice"]),
                "amount": wording.amount(each["amount"], currency),
                "due": wording.amount(due, currency),
            }
        )
    return {
        "currency": currency,
        "opening": wording.amount(opening, currency),
        "rows": rows,
        "closing": wording.money(due, currency),
        "ages": [[wording(name), wording.amount(amount, currency)] for name, amount in _ages(entries, end)],
    }


def _text(record: Record, wording: Wording, entry: Json) -> str:
    kind = str(entry["kind"])
    name = wording(f"entry-{kind}") if wording.has(f"entry-{kind}") else plain(kind, 40)
    payment, cause = entry["payment"], entry["cause"]
    note = _number(record, cause) if cause is not None and cause != entry["invoice"] else ""
    return wording.joined((name, note, method_of(payment, wording), plain(payment.get("paymentIdentifier", {}).get("value"), 60)))


def _number(record: Record, reference: str) -> str:
    found = record.of({"reference": reference})
    return identifier_of(found, NUMBER) if found is not None else ""


def _ages(entries: Sequence[tuple[date, Json]], end: date) -> Iterator[tuple[str, Decimal]]:
    """What is due by the age of its invoice, in days, and what was paid too much; none where nothing is either. They sum to the closing balance."""
    due: dict[str, Decimal] = {}
    since: dict[str, date] = {}
    for day, each in entries:
        due[each["invoice"]] = due.get(each["invoice"], Decimal(0)) + each["amount"]
        since.setdefault(each["invoice"], day)
    sums: dict[str, Decimal] = {}
    for invoice, amount in due.items():
        days = (end - since[invoice]).days
        name = next((name for most, name in _AGES if days <= most), _OLDER) if amount > 0 else _CREDIT
        sums[name] = sums.get(name, Decimal(0)) + amount
    if any(sums.values()):
        names = [name for _, name in _AGES] + [_OLDER] + ([_CREDIT] if sums.get(_CREDIT) else [])
        yield from ((name, sums.get(name, Decimal(0))) for name in names)
