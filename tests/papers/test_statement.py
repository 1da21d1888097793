"""Statements of account, read back: each column sums to its end, whatever was booked."""

from __future__ import annotations

import re
from decimal import Decimal
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_server.papers import Wording, balances
from fhir_server.papers.statement import statement
from tests.papers.conftest import PATIENT, Json, entry, invoice, pdf_of, read, record, text_of

KINDS = st.sampled_from(["charge", "payment", "credit", "refund", "write-off", "rounding", "settled", "insurance", "what comes next year"])
DAYS = st.integers(1, 28).map(lambda day: f"2026-11-{day:02}T10:00:00+01:00")
ENTRIES = st.lists(
    st.builds(
        lambda kind, cents, at, currency, n: entry(kind, str(Decimal(cents) / 100), at, currency, invoice=f"Invoice/{n}"),
        KINDS, st.integers(-100_000, 100_000), DAYS, st.sampled_from(["EUR", "USD"]), st.integers(1, 3),
    ),
    max_size=12,
).map(lambda found: sorted(found, key=lambda each: str(each["at"])))  # fmt: skip


def of(*entries: Json) -> str:
    made = record(PATIENT, invoice(), period=[{"start": None, "end": "2026-11-30"}], entries=list(entries))
    return text_of(pdf_of("statement", made))


@settings(max_examples=60)
@given(entries=ENTRIES, start=st.integers(1, 28), end=st.integers(1, 28))
def test_what_was_brought_forward_and_each_entry_come_to_the_end(entries: list[Json], start: int, end: int) -> None:
    start, end = sorted((start, end))
    period = {"start": f"2026-11-{start:02}", "end": f"2026-11-{end:02}"}
    made = record(PATIENT, period=[period], entries=entries)
    sheet = statement(made, Wording("en", ZoneInfo("Europe/Berlin")))
    counted = [each for each in entries if int(each["at"][8:10]) <= end]
    sums = balances(counted)
    assert [each["currency"] for each in sheet["accounts"]] == sorted(sums)
    for account in sheet["accounts"]:
        expected = sums[account["currency"]]
        amounts = [number(row["amount"]) for row in account["rows"]]
        assert number(account["opening"]) + sum(amounts) == expected == number(account["closing"])
        assert len(amounts) == len([each for each in counted if each["currency"] == account["currency"] and int(each["at"][8:10]) >= start])
        assert sum(number(amount) for _, amount in account["ages"]) == expected


def number(text: str) -> Decimal:
    return Decimal(re.sub(r"[^0-9.\-]", "", text))


def test_a_kind_that_there_are_no_words_for_stands_by_its_name() -> None:
    text = of(entry("charge", "120"), entry("bonus", "-20"))
    assert "bonus INV-2026-000012 -20.00 100.00" in text
    assert "Balance €100.00" in text


def test_a_long_statement_has_its_head_on_each_page() -> None:
    entries = [entry("charge", "1.25", invoice=f"Invoice/{n}") for n in range(120)]
    pdf = read(pdf_of("statement", record(PATIENT, period=[{"start": None, "end": "2026-11-30"}], entries=entries)))
    assert len(pdf.pages) > 2
    for page in pdf.pages:
        assert "Date Entry Invoice Amount EUR Balance" in page.extract_text()
    assert "€150.00" in pdf.pages[-1].extract_text()


def test_amounts_have_the_digits_of_their_currency() -> None:
    text = of(entry("charge", "1500", currency="JPY"), entry("charge", "1.5", currency="KWD"))
    assert "Balance ¥1,500" in text
    assert "Balance KWD1.500" in text
