"""Binaries as what they hold. https://hl7.org/fhir/R4/binary.html#rest"""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .conftest import Fhir, issues, made, unique

PDF = b"%PDF-1.7\n\x00\xff\r\n"


def stored(fhir: Fhir, content: bytes, content_type: str) -> str:
    """The address of a Binary that was written as plain bytes."""
    answer = fhir("POST", "Binary", content, {"Content-Type": content_type})
    assert answer.status_code == 201, answer.data
    return f"Binary/{json.loads(answer.data)['id']}"


def test_bytes_are_written_and_read_in_their_own_type(fhir: Fhir) -> None:
    at = stored(fhir, PDF, "application/pdf")
    read = fhir("GET", at, headers={"Accept": "application/pdf"})
    assert (read.status_code, read.data, read.content_type) == (200, PDF, "application/pdf")
    assert read.headers["ETag"] == 'W/"1"'
    assert read.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in read.headers["Content-Security-Policy"]
    head = fhir("HEAD", at, headers={"Accept": "application/pdf"})
    assert (head.data, head.content_length) == (b"", len(PDF))
    resource = fhir.get(at, headers={"Accept": "application/fhir+json"})
    assert (resource["resourceType"], resource["contentType"], resource["data"]) == ("Binary", "application/pdf", "JVBERi0xLjcKAP8NCg==")


@pytest.mark.parametrize(
    ("accept", "is_content"),
    [
        ("", True),
        ("*/*", True),
        ("application/*", True),
        ("application/pdf", True),
        ("text/html,application/xhtml+xml,application/pdf;q=0.9,*/*;q=0.8", True),
        ("application/pdf, application/fhir+json", True),
        ("application/fhir+json", False),
        ("application/fhir+json, */*;q=0.5", False),
        ("application/fhir+xml", False),
        ("application/json", False),
        ("text/xml", False),
        ("application/pdf;q=0, application/fhir+json", False),
    ],
)
def test_the_resource_is_given_where_fhir_is_named_and_else_what_it_holds(fhir: Fhir, accept: str, is_content: bool) -> None:  # noqa: FBT001 - a table of expectations
    at = stored(fhir, PDF, "application/pdf")
    read = fhir("GET", at, headers={"Accept": accept} if accept else None)
    assert read.status_code == 200
    assert (read.data == PDF) == is_content
    assert read.content_type.startswith("application/pdf" if is_content else "application/fhir+")


def test_what_is_neither_is_406_and_a_format_asks_for_the_resource(fhir: Fhir) -> None:
    at = stored(fhir, PDF, "application/pdf")
    refused = fhir("GET", at, headers={"Accept": "image/png"})
    assert refused.status_code == 406
    assert "application/pdf" in issues(json.loads(refused.data))
    assert fhir.get(f"{at}?_format=json", headers={"Accept": "application/pdf"})["resourceType"] == "Binary"
    assert fhir("GET", "Binary/none", headers={"Accept": "application/pdf"}).status_code == 404
    assert fhir("GET", f"{at}?_format=pdf").status_code == 406


@pytest.mark.parametrize("content_type", ["text/html", "image/svg+xml", "application/xhtml+xml", "text/xml"])
@pytest.mark.parametrize("suffix", ["", "/_history/1"])
def test_pages_and_pictures_that_were_stored_run_nothing_in_a_browser(fhir: Fhir, content_type: str, suffix: str) -> None:
    sent = {"resourceType": "Binary", "contentType": content_type, "data": "PHNjcmlwdC8+"}
    read = fhir("GET", f"Binary/{made(fhir, sent)}{suffix}", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert (read.status_code, read.data) == (200, b"<script/>")
    assert read.headers["X-Content-Type-Options"] == "nosniff"
    assert {"sandbox", "default-src 'none'"} <= {part.strip() for part in read.headers["Content-Security-Policy"].split(";")}


def test_plain_json_is_the_content_where_that_is_json(fhir: Fhir) -> None:
    at = f"Binary/{made(fhir, {'resourceType': 'Binary', 'contentType': 'application/json', 'data': 'eyJhIjoxfQ=='})}"
    assert fhir("GET", at, headers={"Accept": "application/json"}).data == b'{"a":1}'


def test_bytes_are_put_and_every_version_is_kept(fhir: Fhir) -> None:
    at = f"Binary/{unique('b')}"[:60]
    assert fhir("PUT", at, b"one", {"Content-Type": "text/plain"}).status_code == 201
    assert fhir("PUT", at, b"two", {"Content-Type": "text/plain; charset=utf-8", "If-Match": 'W/"1"'}).status_code == 200
    assert fhir("PUT", at, b"three", {"Content-Type": "text/plain", "If-Match": 'W/"1"'}).status_code == 412
    assert [fhir("GET", f"{at}/_history/{number}").data for number in (1, 2)] == [b"one", b"two"]
    assert fhir("GET", at).content_type == "text/plain; charset=utf-8"
    assert fhir("GET", at, headers={"If-None-Match": 'W/"2"'}).status_code == 304


def test_a_security_context_is_kept(fhir: Fhir) -> None:
    answer = fhir("POST", "Binary", b"x", {"Content-Type": "text/plain", "X-Security-Context": "Patient/1"})
    assert json.loads(answer.data)["securityContext"] == {"reference": "Patient/1"}


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [("nonsense", b"x", 415), ("a/b\x80", b"x", 415), ("text/plain", b"", 400), ("application/fhir+json", b"x", 400)],
)
def test_bodies_that_mean_nothing_are_refused(fhir: Fhir, content_type: str, body: bytes, status: int) -> None:
    answer = fhir("POST", "Binary", body, {"Content-Type": content_type})
    assert answer.status_code == status
    issues(json.loads(answer.data))


@pytest.mark.parametrize("content_type", ["text/html evil", "text/" + "a" * 100_000])
def test_a_type_that_no_header_can_say_is_answered_as_bytes(fhir: Fhir, content_type: str) -> None:
    at = f"Binary/{made(fhir, {'resourceType': 'Binary', 'contentType': content_type, 'data': 'eA=='})}"
    assert fhir("GET", at).content_type == "application/octet-stream"


@settings(max_examples=30, deadline=None)
@given(content=st.binary(min_size=1, max_size=2_000))
def test_any_bytes_come_back_as_they_were(fhir: Fhir, content: bytes) -> None:
    assert fhir("GET", stored(fhir, content, "application/octet-stream")).data == content
