from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from fhir_server.interactions import Reply
from fhir_server.outcome import Issue, Outcome
from fhir_server.rest.headers import http_date, preference, version_tag, version_tags
from fhir_server.rest.render import http_date as written
from tests.rest.conftest import PATIENT, Door, MakeDoor

AT = datetime(2024, 2, 29, 23, 59, 58, 765000, UTC)
STORED = Reply(200, PATIENT, "Patient", "1", "3", AT)
BODY: dict[str, Any] = {"data": PATIENT, "content_type": "application/fhir+json"}


@pytest.mark.parametrize(("text", "version"), [('W/"3"', "3"), ('"3"', "3"), (' W/"3" ', "3"), ('W/"a-b.C"', "a-b.C")])
def test_etags(text: str, version: str) -> None:
    assert version_tag(text, "If-Match") == version


@pytest.mark.parametrize("text", ["3", "W/3", 'w/"3"', '"3', '""', "*", 'W/"3", W/"4"', "", '"a b"', '"' + "x" * 65 + '"', "\0", '"3"x'])
def test_what_is_not_an_etag(text: str) -> None:
    with pytest.raises(Outcome, match="If-Match") as caught:
        version_tag(text, "If-Match")
    assert caught.value.status == 400


def test_lists_of_etags() -> None:
    assert version_tags('W/"1", "2"', "If-None-Match") == ("1", "2")
    assert version_tags(" * ", "If-None-Match") == ("*",)
    with pytest.raises(Outcome):
        version_tags('W/"1", *', "If-None-Match")
    with pytest.raises(Outcome):
        version_tags(",".join(['"1"'] * 51), "If-None-Match")


@pytest.mark.parametrize("text", ["Thu, 29 Feb 2024 23:59:58 GMT", "Thursday, 29-Feb-24 23:59:58 GMT", "Thu Feb 29 23:59:58 2024"])
def test_http_dates(text: str) -> None:
    assert http_date(text, "If-Modified-Since") == AT.replace(microsecond=0)


@pytest.mark.parametrize("text", ["", "x", "0", "2024-02-29T23:59:58Z", "Fri, 30 Feb 2024 00:00:00 GMT", "Thu, 29 Feb 99999 23:59:58 GMT", "\0"])
def test_what_is_not_an_http_date(text: str) -> None:
    with pytest.raises(Outcome, match="If-Modified-Since") as caught:
        http_date(text, "If-Modified-Since")
    assert caught.value.status == 400


def test_last_modified_is_in_gmt() -> None:
    assert written(AT.astimezone(timezone(timedelta(hours=5)))) == "Thu, 29 Feb 2024 23:59:58 GMT"


@pytest.mark.parametrize(
    ("text", "returning", "strict"),
    [
        ("", None, True),
        ("return=minimal", "minimal", True),
        ("return=representation", "representation", True),
        ("return=OperationOutcome", "OperationOutcome", True),
        ('Return="minimal"; x=y, handling=lenient', "minimal", False),
        ("handling=strict", None, True),
        ("handling=lenient,return=minimal", "minimal", False),
        ("return=whatever, respond-async, wait=10", None, True),
        ("=,;=;,", None, True),
    ],
)
def test_preferences(text: str, returning: str | None, strict: bool) -> None:  # noqa: FBT001 - a table of expectations
    assert preference(text) == (returning, strict, "respond-async" in text)


def test_preconditions_reach_the_interactions(door: Door) -> None:
    door.answer = STORED
    door("PUT", "/fhir/Patient/1", headers={"If-Match": 'W/"2"', "If-None-Match": "*"}, **BODY)
    assert (door.last.if_match, door.last.if_none_match) == ("2", ("*",))
    door("POST", "/fhir/Patient", headers={"If-None-Exist": "identifier=a%7Cb"}, **BODY)
    assert door.last.if_none_exist == "identifier=a%7Cb"
    door(
        "GET",
        "/fhir/Patient/1",
        headers={"If-None-Match": 'W/"2"', "If-Modified-Since": "Thu, 29 Feb 2024 23:59:58 GMT", "Prefer": "handling=lenient"},
    )
    assert (door.last.if_none_match, door.last.if_modified_since, door.last.strict) == (("2",), AT.replace(microsecond=0), False)
    door("GET", "/fhir/Patient/1")
    assert (door.last.if_match, door.last.if_none_match, door.last.if_modified_since, door.last.strict) == (None, (), None, True)


@pytest.mark.parametrize(
    ("header", "value"), [("If-Match", "3"), ("If-Match", '"3", "4"'), ("If-None-Match", "x"), ("If-Modified-Since", "yesterday")]
)
def test_malformed_preconditions_stop_a_write_before_its_body(door: Door, header: str, value: str) -> None:
    answer = door("PUT", "/fhir/Patient/1", headers={header: value}, data=b"{broken", content_type="application/fhir+json")
    assert answer.status_code == 400
    assert header in answer.get_json()["issue"][0]["diagnostics"]
    assert not door.seen


def test_headers_of_a_read(door: Door) -> None:
    door.answer = STORED
    answer = door("GET", "/fhir/Patient/1")
    assert answer.headers["ETag"] == 'W/"3"'
    assert answer.headers["Last-Modified"] == "Thu, 29 Feb 2024 23:59:58 GMT"
    assert answer.headers["Content-Location"] == "http://localhost/fhir/Patient/1/_history/3"
    assert "Location" not in answer.headers
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_headers_of_a_create(door: Door) -> None:
    door.answer = Reply(201, PATIENT, "Patient", "1", "1", AT)
    answer = door("POST", "/fhir/Patient", **BODY)
    assert answer.status_code == 201
    assert answer.headers["Location"] == "http://localhost/fhir/Patient/1/_history/1"
    assert answer.headers["ETag"] == 'W/"1"'


def test_update_has_a_location_only_when_it_creates(door: Door) -> None:
    door.answer = Reply(201, PATIENT, "Patient", "1", "1", AT)
    assert door("PUT", "/fhir/Patient/1", **BODY).headers["Location"] == "http://localhost/fhir/Patient/1/_history/1"
    door.answer = STORED
    assert "Location" not in door("PUT", "/fhir/Patient/1", **BODY).headers


def test_location_is_built_from_the_public_url(make_door: MakeDoor) -> None:
    door = make_door(public_url="https://fhir.example.org/clinic")
    door.answer = Reply(201, PATIENT, "Patient", "1", "1", AT)
    answer = door("POST", "/fhir/Patient", headers={"X-Forwarded-Host": "evil.example", "Host": "evil.example"}, **BODY)
    assert answer.headers["Location"] == "https://fhir.example.org/clinic/fhir/Patient/1/_history/1"
    assert door.last.base == "https://fhir.example.org/clinic/fhir"


def test_forwarded_headers_are_not_believed(door: Door) -> None:
    door("GET", "/fhir/Patient/1", headers={"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https", "Forwarded": "host=evil.example"})
    assert door.last.base == "http://localhost/fhir"


@pytest.mark.parametrize("host", ["a b", "x/y", "a@b", "a\\b", "h:123456", "[::1", "<x>", "a?b"])
def test_hosts_that_are_none(door: Door, host: str) -> None:
    assert door("GET", "/fhir/Patient/1", environ_overrides={"HTTP_HOST": host}).status_code == 400


@pytest.mark.parametrize("host", ["localhost:8000", "fhir.example.org", "[::1]:8000", "10.0.0.1"])
def test_hosts(door: Door, host: str) -> None:
    assert door("GET", "/fhir/Patient/1", environ_overrides={"HTTP_HOST": host}).status_code == 200
    assert door.last.base == f"http://{host}/fhir"


def test_not_modified_has_no_body(door: Door) -> None:
    door.answer = Reply(304, None, "Patient", "1", "3", AT)
    answer = door("GET", "/fhir/Patient/1", headers={"If-None-Match": 'W/"3"'})
    assert (answer.status_code, answer.data, answer.headers["ETag"]) == (304, b"", 'W/"3"')
    assert "Content-Type" not in answer.headers


def test_head_is_get_without_the_body(door: Door) -> None:
    door.answer = STORED
    head, get = door("HEAD", "/fhir/Patient/1"), door("GET", "/fhir/Patient/1")
    assert head.data == b""
    assert head.headers["Content-Length"] == str(len(PATIENT))
    assert {name: value for name, value in head.headers if name != "X-Request-Id"} == {n: v for n, v in get.headers if n != "X-Request-Id"}
    assert door.seen[0].interaction == "read"


@pytest.mark.parametrize(("method", "path"), [("POST", "/fhir/Patient"), ("PUT", "/fhir/Patient/1"), ("PUT", "/fhir/Patient?identifier=1")])
def test_what_a_write_returns_is_the_callers_choice(door: Door, method: str, path: str) -> None:
    door.answer = Reply(201, PATIENT, "Patient", "1", "1", AT, (Issue("warning", "informational", "mind the gap"),))
    assert door(method, path, **BODY).data == PATIENT
    assert door(method, path, headers={"Prefer": "return=representation"}, **BODY).data == PATIENT
    minimal = door(method, path, headers={"Prefer": "return=minimal"}, **BODY)
    assert (minimal.status_code, minimal.data, minimal.headers["Content-Length"]) == (201, b"", "0")
    assert minimal.headers["Location"].endswith("/Patient/1/_history/1")
    told = door(method, path, headers={"Prefer": "return=OperationOutcome"}, **BODY).get_json()
    assert told["resourceType"] == "OperationOutcome"
    assert told["issue"][0]["diagnostics"] == "mind the gap"


def test_what_a_read_returns_is_not(door: Door) -> None:
    assert door("GET", "/fhir/Patient/1", headers={"Prefer": "return=minimal"}).data == PATIENT


def test_delete(door: Door) -> None:
    door.answer = Reply(204, None, "Patient", None, "2", None, (Issue("information", "informational", "1 deleted"),))
    answer = door("DELETE", "/fhir/Patient/1")
    assert (answer.status_code, answer.data, answer.headers["ETag"]) == (204, b"", 'W/"2"')
    told = door("DELETE", "/fhir/Patient/1", headers={"Prefer": "return=OperationOutcome"})
    assert (told.status_code, told.get_json()["issue"][0]["diagnostics"]) == (200, "1 deleted")


def test_faults_carry_their_headers(door: Door) -> None:
    door.answer = Outcome("gone", "Patient/1 was deleted", headers={"ETag": 'W/"4"'})
    answer = door("GET", "/fhir/Patient/1")
    assert (answer.status_code, answer.headers["ETag"]) == (410, 'W/"4"')


@pytest.mark.parametrize(("category", "status"), [("unavailable", 503), ("throttled", 429)])
def test_overload_says_when_to_come_back(door: Door, category: str, status: int) -> None:
    door.answer = Outcome(category, "busy")  # type: ignore[arg-type]
    answer = door("GET", "/fhir/Patient/1")
    assert (answer.status_code, answer.headers["Retry-After"].isdigit()) == (status, True)
