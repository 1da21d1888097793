"""Documents of MDM: their text, their state, and what they replace or add to.

https://build.fhir.org/ig/HL7/v2-to-fhir/ConceptMap-message-mdm-t02-to-bundle.html
"""

from __future__ import annotations

import base64

import pytest

from fhir_server.hl7v2.mapping import KNOWN, Converter

from .samples import Json, convert, only, target

EVN = "EVN|T02|20260102"


def txa(parent: str = "", completion: str = "AU", availability: str = "AV", order: str = "") -> str:
    people = "77^Doe^Jo|78^Roe^Al"
    states = f"{completion}|R|{availability}"
    return f"TXA|1|DS|TX|20260102100000+0100||20260101090000+0100|||{people}||D1^DOCS|{parent}|{order}||letter.txt|{states}||||||Discharge"


def text(document: Json) -> str:
    return base64.b64decode(document["content"][0]["attachment"]["data"]).decode()


def test_lines_are_one_text_in_their_order(converter: Converter) -> None:
    lines = [
        "OBX|1|TX|1^Letter^L||Dear all,||||||F",
        "OBX|2|TX|1^Letter^L||||||||F",
        "OBX|3|FT|2^Body^L||all\\.br\\is~well \\T\\ good||||||F",
        "OBX|4|ST|3^End^L||Ä.||||||F",
    ]
    document = only(convert(converter, "MDM^T02", EVN, txa(), *lines), "DocumentReference")
    assert text(document) == "Dear all,\n\nall\nis\nwell & good\nÄ."
    assert document["content"][0]["attachment"]["contentType"] == "text/plain; charset=utf-8"


def test_files_and_pointers_are_content_of_their_own(converter: Converter) -> None:
    pdf = base64.b64encode(b"%PDF-1.4").decode()
    content = [f"OBX|1|ED|1^Scan^L||X^application^pdf^Base64^{pdf}||||||F", "OBX|2|RP|2^Film^L||https://pacs.example/1^^IM^JPEG||||||F"]
    attachments = [each["attachment"] for each in only(convert(converter, "MDM^T02", EVN, txa(), *content), "DocumentReference")["content"]]
    assert [(each["contentType"], each["title"]) for each in attachments] == [("application/pdf", "Scan"), ("image/jpeg", "Film")]
    assert (attachments[0]["data"], attachments[1]["url"]) == (pdf, "https://pacs.example/1")


@pytest.mark.parametrize(
    ("completion", "availability", "doc_status", "status"),
    [
        ("AU", "AV", "final", "current"),
        ("LA", "", "final", "current"),
        ("DI", "UN", "preliminary", "current"),
        ("IP", "OB", "preliminary", "superseded"),
        ("AU", "CA", "final", "entered-in-error"),
    ],
)
def test_each_state_of_a_document(converter: Converter, completion: str, availability: str, doc_status: str, status: str) -> None:
    document = only(convert(converter, "MDM^T04", EVN, txa("", completion, availability), "OBX|1|TX|1^L^L||x||||||F"), "DocumentReference")
    assert (document["docStatus"], document["status"]) == (doc_status, status)


def test_a_document_says_what_it_is_and_whose(converter: Converter) -> None:
    converted = convert(converter, "MDM^T02", EVN, f"PV1|1|I|W{'|' * 16}V9^^^ADT", txa(order="P9^OE"), "OBX|1|TX|1^L^L||x||||||F")
    document = only(converted, "DocumentReference")
    assert document["masterIdentifier"]["value"] == "D1"
    assert document["type"]["coding"][0]["display"] == "Discharge summary"
    assert (document["date"], document["description"]) == ("2026-01-01T09:00:00+01:00", "Discharge")
    assert document["securityLabel"][0]["coding"][0]["code"] == "R"
    assert target(converted, document["author"][0])["name"][0]["family"] == "Doe"
    assert target(converted, document["authenticator"])["name"][0]["family"] == "Roe"
    mentioned = {made.type for made in converted.made if made.key == KNOWN}
    assert mentioned == {"Encounter", "ServiceRequest"}
    assert target(converted, document["context"]["related"][0])["identifier"][0]["value"] == "P9"


@pytest.mark.parametrize(("event", "code", "before"), [("T10", "replaces", "superseded"), ("T06", "appends", None)])
def test_a_replacement_and_an_addendum_name_the_document_before(converter: Converter, event: str, code: str, before: str | None) -> None:
    converted = convert(converter, f"MDM^{event}", EVN, txa("D0^DOCS"), "OBX|1|TX|1^L^L||x||||||F")
    parent = next(made for made in converted.made if made.label == "Parent")
    document = next(made for made in converted.made if made.label == "DocumentReference").resource
    assert (parent.key, parent.resource["masterIdentifier"]["value"], parent.resource.get("status")) == (KNOWN, "D0", before)
    assert document["relatesTo"] == [{"code": code, "target": {"reference": parent.urn}}]


def test_a_notice_without_content_says_of_what_kind_it_would_be(converter: Converter) -> None:
    document = only(convert(converter, "MDM^T01", EVN, txa()), "DocumentReference")
    assert document["content"] == [{"attachment": {"contentType": "text/plain"}}]


def test_a_long_text_takes_time_by_its_length_alone(converter: Converter) -> None:
    lines = [f"OBX|{number}|TX|1^Letter^L||line {number}||||||F" for number in range(1, 20_001)]
    assert text(only(convert(converter, "MDM^T02", EVN, txa(), *lines), "DocumentReference")).count("\n") == 19_999
