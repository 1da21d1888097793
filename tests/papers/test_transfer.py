"""The code to pay by on an invoice, read from the page as a phone reads it. EPC069-12, https://www.europeanpaymentscouncil.eu/"""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pypdfium2
import pytest
import zxingcpp
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.iban import normal, spaced
from fhir_server.papers import KINDS, Wording
from fhir_server.papers.press import _giro_code
from tests.papers.conftest import CANON, CLINIC, Json, invoice, line, money, pdf_of, record, text_of

IBAN = "DE89370400440532013000"
LINK = "https://clinic.example/paper/abcdefgh12345678"


def clinic(value: str = IBAN, **more: Any) -> Json:
    return CLINIC | {"identifier": [{"system": "urn:iso:std:iso:13616", "value": value}]} | more


def codes(pdf: bytes) -> list[str]:
    """The texts of all QR codes of the last page, as it looks at 150 dots an inch."""
    document = pypdfium2.PdfDocument(pdf)
    page = document[len(document) - 1].render(scale=150 / 72, grayscale=True)
    pixels = memoryview(bytes(page.buffer)).cast("B", (page.height, page.stride))
    return [str(found.text) for found in zxingcpp.read_barcodes(pixels)]


def balance(due: str, currency: str = "EUR") -> Json:
    parts = [{"url": "paid", "valueMoney": money("10", currency)}, {"url": "due", "valueMoney": money(due, currency)}]
    return {"url": f"{CANON}/StructureDefinition/invoice-balance", "extension": parts}


def payment(made: Json, of: Json | None = None, language: str = "en", **look: Any) -> list[list[str]]:
    """The lines of the codes to pay by."""
    found = codes(pdf_of("invoice", record(made, clinic=of or clinic()), language, **look))
    return [text.split("\n") for text in found if text.startswith("BCD")]


@pytest.mark.parametrize("paper", ["a4", "letter"])
def test_a_phone_reads_who_gets_what_for_which_invoice(paper: str) -> None:
    made = invoice(line("Visit", "48.20"), totalGross=money("48.20"), extension=[balance("38.20")])
    assert payment(made, paper=paper, link=LINK) == [
        ["BCD", "002", "1", "SCT", "", "Hillside Practice", IBAN, "EUR38.2", "", "", "INV-2026-000012"],
    ]  # fmt: skip
    found = codes(pdf_of("invoice", record(made, clinic=clinic()), paper=paper, link=LINK))
    assert sorted(text[:3] for text in found) == ["BCD", "htt"]
    assert LINK in found


def test_all_is_due_of_what_has_no_balance_yet() -> None:
    ((*_, amount, _, _, number),) = payment(invoice(totalGross=money("1200.05")))
    assert (amount, number) == ("EUR1200.05", "INV-2026-000012")


def test_the_same_stands_beside_it_for_eyes() -> None:
    made = invoice(totalGross=money("48.20"))
    text = text_of(pdf_of("invoice", record(made, clinic=clinic(spaced(IBAN))), "de"))
    for words in ("Per Überweisung zahlen", "DE89 3704 0044 0532 0130 00", "48,20 €", "Verwendungszweck INV-2026-000012"):
        assert words in text, words


@pytest.mark.parametrize(
    ("made", "of"),
    [
        (invoice(totalGross=money("5")), CLINIC),
        (invoice(totalGross=money("5")), clinic("DE89370400440532013001")),
        (invoice(totalGross=money("5", "CHF")), clinic()),
        (invoice(totalGross=money("5"), status="draft"), clinic()),
        (invoice(totalGross=money("5"), status="balanced", extension=[balance("0")]), clinic()),
        (invoice(totalGross=money("5"), status="balanced"), clinic()),
        (invoice(totalGross=money("-5")), clinic()),
        (invoice(totalGross=money("1000000000")), clinic()),
        (invoice(totalGross=money("5"), identifier=[]), clinic()),
        (invoice(), clinic()),
    ],
)
def test_there_is_none_where_nothing_is_due_in_euros_or_nobody_to_pay_it_to(made: Json, of: Json) -> None:
    assert payment(made, of) == []


@pytest.mark.parametrize("name", ["Zahnärzte am Wörthsee & Söhne", "山" * 200, "x\ny", "W" * 300])
def test_names_of_any_kind_fit(name: str) -> None:
    ((*_, called, account, _, _, _, _),) = payment(invoice(totalGross=money("5")), clinic(name=name))
    assert account == IBAN
    assert name.replace("\n", " ").startswith(called)
    assert called


@given(st.integers(1, 99_999_999_999))
def test_amounts_are_those_of_the_sheet(cents: int) -> None:
    amount = Decimal(cents) / 100
    sheet = KINDS["invoice"](record(invoice(totalGross={"value": amount, "currency": "EUR"}), clinic=clinic()), Wording("en", ZoneInfo("UTC")))
    assert Decimal(sheet["transfer"]["amount"]) == amount
    assert _giro_code(sheet["transfer"])


@given(st.from_regex(r"\A[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}\Z"), st.data())
def test_one_wrong_letter_or_two_that_changed_places_are_noticed(text: str, data: st.DataObject) -> None:
    rest = text[4:] + text[:2] + "00"
    check = 98 - int("".join(str(int(each, 36)) for each in rest)) % 97
    made = f"{text[:2]}{check:02}{text[4:]}"
    assert normal(made) == made == normal(spaced(made).lower())
    place = data.draw(st.integers(4, len(made) - 1))
    other = data.draw(st.sampled_from([each for each in "0123456789" if each != made[place]]))
    if made[place].isdecimal():
        assert normal(made[:place] + other + made[place + 1 :]) is None
    swapped = made[: place - 1] + made[place] + made[place - 1] + made[place + 1 :]
    if place > 4 and made[place] != made[place - 1] and made[place - 1 : place + 1].isdecimal():
        assert normal(swapped) is None


@pytest.mark.parametrize("text", ["", "DE89", "DE8937040044053201300", "ÄÖ89370400440532013000", "D" * 1_000, None, 5])
def test_what_is_no_iban_is_none(text: object) -> None:
    assert normal(text) is None
