from __future__ import annotations

import gzip

import pytest

from fhir_server.interactions import Reply
from fhir_server.outcome import Outcome
from fhir_server.rest.negotiate import accepts_gzip, body_kind, response_format
from tests.rest.conftest import PATIENT, Door

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"

ACCEPTED = [
    ("", None, "json"),
    ("*/*", None, "json"),
    ("application/json", None, "json"),
    ("application/fhir+json", None, "json"),
    ("application/fhir+json; charset=utf-8", None, "json"),
    ("text/json", None, "json"),
    ("text/html", None, "json"),
    (BROWSER, None, "json"),
    ("application/fhir+xml", None, "xml"),
    ("application/xml", None, "xml"),
    ("text/xml", None, "xml"),
    ("APPLICATION/FHIR+XML", None, "xml"),
    ("application/fhir+json;q=0.5, application/fhir+xml", None, "xml"),
    ("application/fhir+xml;q=0.5, application/fhir+json;q=0.6", None, "json"),
    ("application/fhir+xml, application/fhir+json", None, "xml"),
    ("application/fhir+xml, */*", None, "xml"),
    ("*/*, application/fhir+xml", None, "xml"),
    ("application/fhir+json;q=0, application/fhir+xml;q=0.1", None, "xml"),
    ("image/png, application/fhir+xml;q=0.2", None, "xml"),
    ("application/fhir+xml; fhirVersion=4.0", None, "xml"),
    ("application/fhir+xml; fhirVersion=3.0, application/fhir+json; fhirVersion=4.0", None, "json"),
    ("image/png", "json", "json"),
    ("application/fhir+json", "xml", "xml"),
    ("application/fhir+json", "application/fhir+xml", "xml"),
    ("application/fhir+json", "application/fhir xml", "xml"),
    ("", "text/xml", "xml"),
    ("", "text/json", "json"),
    ("application/xml", "application/json; fhirVersion=4.0", "json"),
    ("application/xml", "html", "json"),
]

REFUSED = [
    ("image/png", None),
    ("application/fhir+turtle", None),
    ("application/fhir+json; fhirVersion=3.0", None),
    ("application/fhir+json;q=0", None),
    ("application/fhir+json;q=nan", None),
    ("application/fhir+json;q=x", None),
    ("application/fhir+json", "ttl"),
    ("", "application/fhir+json; fhirVersion=5.0"),
    ("", "x" * 5_000),
    ("," * 5_000, None),
]

KINDS = [
    ("application/fhir+json", "json"),
    ("application/json; charset=UTF-8", "json"),
    ('text/json; charset="utf-8"', "json"),
    ("application/fhir+json; fhirVersion=4.0", "json"),
    ("Application/FHIR+XML", "xml"),
    ("application/xml", "xml"),
    ("text/xml; charset=utf-8", "xml"),
    ("application/json-patch+json", "json-patch"),
    ("application/x-www-form-urlencoded", "form"),
]

BAD_KINDS = [
    "",
    "image/png",
    "text/plain",
    "application/merge-patch+json",
    "application/json; charset=iso-8859-1",
    "application/fhir+json; charset=utf-16",
    "application/fhir+json; fhirVersion=3.0",
    "x" * 10_000,
]


@pytest.mark.parametrize(("accept", "asked", "expected"), ACCEPTED)
def test_format_of_the_answer(accept: str, asked: str | None, expected: str) -> None:
    assert response_format(accept, asked) == expected


@pytest.mark.parametrize(("accept", "asked"), REFUSED)
def test_formats_that_are_not_there(accept: str, asked: str | None) -> None:
    with pytest.raises(Outcome) as caught:
        response_format(accept, asked)
    assert caught.value.status == 406


@pytest.mark.parametrize(("content_type", "expected"), KINDS)
def test_kind_of_the_body(content_type: str, expected: str) -> None:
    assert body_kind(content_type) == expected


@pytest.mark.parametrize("content_type", BAD_KINDS)
def test_bodies_that_are_not_read(content_type: str) -> None:
    with pytest.raises(Outcome) as caught:
        body_kind(content_type)
    assert caught.value.status == 415


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("gzip", True),
        ("gzip, deflate, br", True),
        ("*", True),
        ("gzip;q=0", False),
        ("gzip;q=0, *", False),
        ("br", False),
        ("identity", False),
        ("", False),
    ],
)
def test_gzip_when_welcome(header: str, expected: bool) -> None:  # noqa: FBT001 - a table of expectations
    assert accepts_gzip(header) is expected


def test_json_goes_out_as_it_is_stored(door: Door) -> None:
    door.answer = Reply(200, b'{"resourceType":"Observation","valueQuantity":{"value":1.10}}')
    answer = door("GET", "/fhir/Observation/1")
    assert answer.data == door.answer.body
    assert answer.content_type == "application/fhir+json; charset=utf-8"


def test_pretty_only_when_asked(door: Door) -> None:
    assert door("GET", "/fhir/Patient/1?_pretty=true").data == b'{\n  "resourceType": "Patient",\n  "id": "1",\n  "active": true\n}'
    assert door("GET", "/fhir/Patient/1?_pretty=false").data == PATIENT


def test_xml_when_asked(door: Door) -> None:
    answer = door("GET", "/fhir/Patient/1", headers={"Accept": "application/fhir+xml"})
    assert answer.content_type == "application/fhir+xml; charset=utf-8"
    assert answer.data == (
        b'<?xml version="1.0" encoding="UTF-8"?><Patient xmlns="http://hl7.org/fhir"><id value="1"/><active value="true"/></Patient>'
    )


def test_pretty_xml_by_parameters(door: Door) -> None:
    answer = door("GET", "/fhir/Patient/1?_format=application/fhir+xml&_pretty=true")
    assert answer.data.decode().splitlines()[1:3] == ['<Patient xmlns="http://hl7.org/fhir">', '  <id value="1"/>']


def test_format_and_pretty_do_not_reach_the_interactions(door: Door) -> None:
    door("GET", "/fhir/Patient?_format=json&name=a&_pretty=true&name=b&_summary=true&_elements=name&empty=")
    assert door.last.params == (("name", "a"), ("name", "b"), ("_summary", "true"), ("_elements", "name"), ("empty", ""))


def test_format_in_the_form_of_a_search(door: Door) -> None:
    answer = door("POST", "/fhir/Patient/_search?a=1", data=b"b=%C3%A4+c&_format=xml", content_type="application/x-www-form-urlencoded")
    assert answer.content_type == "application/fhir+xml; charset=utf-8"
    assert door.last.params == (("a", "1"), ("b", "ä c"))


def test_search_by_post_without_a_body(door: Door) -> None:
    assert door("POST", "/fhir/Patient/_search?a=1").status_code == 200
    assert door.last.params == (("a", "1"),)


def test_refused_format_is_told_in_json(door: Door) -> None:
    answer = door("GET", "/fhir/Patient/1?_format=ttl", headers={"Accept": "application/fhir+xml"})
    assert (answer.status_code, answer.content_type) == (406, "application/fhir+json; charset=utf-8")
    assert not door.seen


def test_faults_are_told_in_the_format_that_was_asked(door: Door) -> None:
    door.answer = Outcome("not-found", "Patient/1 does not exist")
    answer = door("GET", "/fhir/Patient/1?_format=xml")
    assert (answer.status_code, answer.content_type) == (404, "application/fhir+xml; charset=utf-8")
    assert b'<diagnostics value="Patient/1 does not exist"/>' in answer.data
    unknown = door("GET", "/fhir/Pateint/1?_format=xml")
    assert unknown.data.startswith(b"<?xml")
    anonymous = door.client.get("/fhir/Patient", headers={"Accept": "application/xml"})
    assert anonymous.data.startswith(b"<?xml")


def test_content_without_an_xml_form(door: Door) -> None:
    door.answer = Reply(200, b'{"resourceType":"Patient","unheard":"of"}')
    answer = door("GET", "/fhir/Patient/1", headers={"Accept": "application/fhir+xml"})
    assert answer.status_code == 406
    assert b"unheard" in answer.data


def test_big_answers_are_packed_when_asked(door: Door) -> None:
    big = b'{"resourceType":"Patient","language":"' + b"x" * 20_000 + b'"}'
    door.answer = Reply(200, big)
    answer = door("GET", "/fhir/Patient/1", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["Content-Encoding"] == "gzip"
    assert int(answer.headers["Content-Length"]) == len(answer.data) < 1_000
    assert gzip.decompress(answer.data) == big
    assert "Content-Encoding" not in door("GET", "/fhir/Patient/1", headers={"Accept-Encoding": "br"}).headers


def test_small_answers_are_not_packed(door: Door) -> None:
    assert "Content-Encoding" not in door("GET", "/fhir/Patient/1", headers={"Accept-Encoding": "gzip"}).headers
