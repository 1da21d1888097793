from __future__ import annotations

import gzip
import io
from typing import Any

import pytest

from fhir_server.outcome import Outcome
from tests.rest.conftest import Door

JSON = "application/fhir+json"
FORM = "application/x-www-form-urlencoded"
XML = '<Patient xmlns="http://hl7.org/fhir"><active value="true"/></Patient>'

MALFORMED = {
    "empty": (JSON, b""),
    "spaces": (JSON, b" \n "),
    "not json": (JSON, b"{nope}"),
    "cut off": (JSON, b'{"resourceType":"Patient"'),
    "an array": (JSON, b"[]"),
    "a string": (JSON, b'"Patient"'),
    "null": (JSON, b"null"),
    "two documents": (JSON, b"{}{}"),
    "not utf-8": (JSON, b'{"resourceType":"\xff"}'),
    "utf-16": (JSON, '{"resourceType":"Patient"}'.encode("utf-16")),
    "nul": (JSON, b'{"resourceType":"Patient","id":"\\u0000"}'),
    "duplicate keys": (JSON, b'{"resourceType":"Patient","id":"1","id":"2"}'),
    "400 digits": (JSON, b'{"value":' + b"1" * 400 + b"}"),
    "400 decimals": (JSON, b'{"value":1.' + b"1" * 400 + b"}"),
    "deep": (JSON, b'{"a":' * 10_000 + b"1" + b"}" * 10_000),
    "deep arrays": (JSON, b"[" * 10_000 + b"]" * 10_000),
    "xml sent as json": (JSON, XML.encode()),
    "json sent as xml": ("application/fhir+xml", b"{}"),
    "empty xml": ("application/fhir+xml", b""),
    "xml entity": ("application/fhir+xml", b'<!DOCTYPE Patient [<!ENTITY x SYSTEM "file:///etc/passwd">]><Patient xmlns="http://hl7.org/fhir"/>'),
    "deep xml": ("application/fhir+xml", b'<Patient xmlns="http://hl7.org/fhir">' + b"<extension>" * 10_000),
}


@pytest.mark.parametrize(("content_type", "data"), MALFORMED.values(), ids=MALFORMED.keys())
@pytest.mark.parametrize(("method", "path"), [("POST", ""), ("POST", "/Patient"), ("PUT", "/Patient/1"), ("PUT", "/Patient?identifier=1")])
def test_malformed_bodies(door: Door, method: str, path: str, content_type: str, data: bytes) -> None:
    answer = door(method, f"/fhir{path}", data=data, content_type=content_type)
    assert answer.status_code == 400
    assert answer.get_json()["resourceType"] == "OperationOutcome"
    assert answer.get_json()["issue"][0]["diagnostics"]
    assert not door.seen


@pytest.mark.parametrize(
    ("method", "path", "content_type"),
    [
        ("POST", "/Patient", None),
        ("POST", "/Patient", "image/png"),
        ("POST", "/Patient", FORM),
        ("POST", "/Patient", "multipart/form-data; boundary=x"),
        ("POST", "/Patient", "application/json-patch+json"),
        ("PUT", "/Patient/1", "application/fhir+json; charset=iso-8859-1"),
        ("POST", "", "application/fhir+json; fhirVersion=3.0"),
        ("PATCH", "/Patient/1", "application/merge-patch+json"),
        ("PATCH", "/Patient/1", FORM),
        ("POST", "/Patient/_search", JSON),
        ("POST", "/_search", "text/plain"),
        ("POST", "/Patient/$validate", FORM),
    ],
)
def test_types_that_do_not_belong(door: Door, method: str, path: str, content_type: str | None) -> None:
    answer = door(method, f"/fhir{path}", data=b'{"resourceType":"Patient"}', content_type=content_type)
    assert answer.status_code == 415
    assert answer.get_json()["issue"][0]["code"] == "not-supported"
    assert not door.seen


def test_xml_and_json_are_the_same_to_the_interactions(door: Door) -> None:
    door("POST", "/fhir/Patient", data=XML, content_type="application/fhir+xml")
    door("POST", "/fhir/Patient", data=b'{"resourceType":"Patient","active":true}', content_type="text/json; charset=utf-8")
    assert door.seen[0].body == door.seen[1].body == {"resourceType": "Patient", "active": True}


def test_patches(door: Door) -> None:
    patch = [{"op": "add", "path": "/active", "value": True}]
    door("PATCH", "/fhir/Patient/1", json=patch, content_type="application/json-patch+json")
    assert door.last.body == patch
    door("PATCH", "/fhir/Patient?identifier=1", data=b'{"resourceType":"Parameters"}', content_type=JSON)
    assert (door.last.body, door.last.params) == ({"resourceType": "Parameters"}, (("identifier", "1"),))
    assert door("PATCH", "/fhir/Patient/1", data=b'{"op":"add"}', content_type="application/json-patch+json").status_code == 400


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_bodies_where_none_belongs_are_not_read(door: Door, method: str) -> None:
    assert door(method, "/fhir/Patient/1", data=b"\xff" * 100, content_type="image/png").status_code == 200
    assert door.last.body is None


class Endless(io.RawIOBase):
    """A body without an end, that counts what was taken of it."""

    taken = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        buffer[:] = b" " * len(buffer)
        self.taken += len(buffer)
        return len(buffer)


def test_a_declared_length_over_the_limit_is_refused_unread(door: Door) -> None:
    body = Endless()
    overrides = {"wsgi.input": body, "CONTENT_LENGTH": str(1024 * 1024 + 1)}
    answer = door("POST", "/fhir/Patient", content_type=JSON, environ_overrides=overrides)
    assert (answer.status_code, body.taken) == (413, 0)
    assert answer.get_json()["issue"][0]["code"] == "too-long"


def test_a_body_of_unknown_length_is_read_to_the_limit(door: Door) -> None:
    body = Endless()
    overrides = {"wsgi.input": body, "wsgi.input_terminated": True, "CONTENT_LENGTH": "", "HTTP_TRANSFER_ENCODING": "chunked"}
    answer = door("POST", "/fhir/Patient", content_type=JSON, environ_overrides=overrides)
    assert answer.status_code == 413
    assert body.taken <= 2 * 1024 * 1024


def test_a_body_of_unknown_length_within_the_limit(door: Door) -> None:
    body = io.BytesIO(b'{"resourceType":"Patient"}')
    overrides = {"wsgi.input": body, "wsgi.input_terminated": True, "CONTENT_LENGTH": "", "HTTP_TRANSFER_ENCODING": "chunked"}
    assert door("POST", "/fhir/Patient", content_type=JSON, environ_overrides=overrides).status_code == 200
    assert door.last.body == {"resourceType": "Patient"}


@pytest.mark.parametrize(("length", "status"), [("-1", 400), ("x", 400), ("1e3", 400), ("\u0661", 400), ("100", 400), ("9" * 5_000, 413)])
def test_lengths_that_are_none_or_not_kept(door: Door, length: str, status: int) -> None:
    overrides = {"wsgi.input": io.BytesIO(b'{"resourceType":"Patient"}'), "CONTENT_LENGTH": length}
    assert door("POST", "/fhir/Patient", content_type=JSON, environ_overrides=overrides).status_code == status
    assert not door.seen


def test_a_body_just_within_the_limit(door: Door) -> None:
    head, tail = b'{"resourceType":"Patient","language":"', b'"}'
    data = head + b"x" * (1024 * 1024 - len(head) - len(tail)) + tail
    assert door("POST", "/fhir/Patient", data=data, content_type=JSON).status_code == 200


def test_packed_bodies(door: Door) -> None:
    data = gzip.compress(b'{"resourceType":"Patient"}')
    assert door("POST", "/fhir/Patient", data=data, content_type=JSON, headers={"Content-Encoding": "gzip"}).status_code == 200
    assert door.last.body == {"resourceType": "Patient"}


@pytest.mark.parametrize(
    ("coding", "data", "status"),
    [
        ("gzip", gzip.compress(b" " * (1024 * 1024 + 1)), 413),
        ("gzip", gzip.compress(b" " * 200_000_000, 1), 413),
        ("gzip", b"not gzip", 400),
        ("gzip", gzip.compress(b'{"resourceType":"Patient"}')[:-9], 400),
        ("gzip", gzip.compress(b"{}") + b"more", 400),
        ("br", b"x", 415),
        ("deflate", b"x", 415),
        ("gzip, gzip", b"x", 415),
    ],
    ids=["over the limit", "bomb", "not gzip", "cut off", "trailing", "br", "deflate", "twice"],
)
def test_packed_bodies_that_are_refused(door: Door, coding: str, data: bytes, status: int) -> None:
    answer = door("POST", "/fhir/Patient", data=data, content_type=JSON, headers={"Content-Encoding": coding})
    assert answer.status_code == status
    assert not door.seen


@pytest.mark.parametrize("query", ["name=%ff", "%ff=1", "&".join(f"a={i}" for i in range(2_000))])
def test_queries_that_cannot_be_decoded(door: Door, query: str) -> None:
    answer = door("GET", "/fhir/Patient", query_string=query)
    assert answer.status_code == 400
    assert not door.seen


@pytest.mark.parametrize("data", [b"name=\xff", b"name=%ff", b"\xff"])
def test_forms_that_cannot_be_decoded(door: Door, data: bytes) -> None:
    assert door("POST", "/fhir/Patient/_search", data=data, content_type=FORM).status_code == 400


def test_nothing_unexpected_leaks(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    door.answer = RuntimeError("secret detail")
    answer = door(
        "POST", "/fhir/Patient", data=b'{"resourceType":"Patient","language":"private"}', content_type=JSON, headers={"X-Request-Id": "r-1"}
    )
    assert answer.status_code == 500
    told = answer.get_json()["issue"][0]
    assert (told["code"], "r-1" in told["diagnostics"]) == ("exception", True)
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    (record,) = [record for record in caplog.records if record.name == "fhir_server.rest"]
    assert record.getMessage() == "request r-1 failed"
    assert record.exc_info is not None


def test_faults_of_the_interactions_become_outcomes(door: Door) -> None:
    door.answer = Outcome("precondition", "version 3 is current", expression="Patient.meta")
    answer = door("PUT", "/fhir/Patient/1", data=b'{"resourceType":"Patient","id":"1"}', content_type=JSON)
    assert answer.status_code == 412
    issue = {"severity": "error", "code": "conflict", "diagnostics": "version 3 is current", "expression": ["Patient.meta"]}
    assert answer.get_json() == {"resourceType": "OperationOutcome", "issue": [issue]}
