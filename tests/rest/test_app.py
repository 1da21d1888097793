from __future__ import annotations

from http import HTTPStatus

import pytest

from tests.rest.conftest import Door, MakeDoor


@pytest.mark.parametrize("path", ["/", "/fhir/metadata", "/fhir/Patient", "/fhir/Nonsense", "/health/live", "/nowhere", "/fhir//x", "/metrics"])
def test_every_answer_has_a_request_id(door: Door, path: str) -> None:
    assert door.client.get(path, headers={"X-Request-Id": "mine-1"}).headers.getlist("X-Request-Id") == ["mine-1"]
    (made,) = door.client.get(path).headers.getlist("X-Request-Id")
    assert len(made) == 32


@pytest.mark.parametrize("asked", ["", "a b", "x" * 129, "ä", "a\x7f"])
def test_request_ids_that_are_not_sane_are_replaced(door: Door, asked: str) -> None:
    made = door.client.get("/health/live", environ_overrides={"HTTP_X_REQUEST_ID": asked}).headers["X-Request-Id"]
    assert made != asked
    assert len(made) == 32


def test_the_request_id_reaches_the_interactions(door: Door) -> None:
    answer = door("GET", "/fhir/Patient/1")
    assert door.last.request_id == answer.headers["X-Request-Id"]


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/oauth/token", 405, "OPTIONS, POST"),
        ("DELETE", "/oauth/userinfo", 405, "GET, HEAD, OPTIONS, POST"),
        ("POST", "/.well-known/openid-configuration", 405, "GET, HEAD, OPTIONS"),
        ("POST", "/metrics", 405, "GET, HEAD, OPTIONS"),
        ("GET", "/oauth/nothing", 404, None),
        ("GET", "/oauth", 404, None),
        ("GET", "/auth", 404, None),
        ("GET", "/health/nothing", 404, None),
    ],
)
def test_programs_that_have_gone_astray_are_told_so_as_programs(door: Door, method: str, path: str, status: int, allow: str | None) -> None:
    answer = door.client.open(path, method=method)
    assert (answer.status_code, answer.mimetype) == (status, "application/problem+json")
    assert answer.headers.get("Allow") == allow
    assert "X-Request-Id" in answer.headers


def test_people_who_have_gone_astray_have_a_page(door: Door) -> None:
    assert door.client.get("/nowhere").mimetype == "text/html"


def test_home_says_what_this_is(door: Door) -> None:
    answer = door.client.get("/")
    assert answer.status_code == 200
    assert 'href="/fhir/metadata' in answer.text


def test_health(make_door: MakeDoor) -> None:
    assert make_door().client.get("/health/live").status_code == 200
    assert make_door().client.get("/health/ready").status_code == 200
    answer = make_door(ready=False).client.get("/health/ready")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")


def test_metrics_count_what_was_asked(door: Door) -> None:
    door("GET", "/fhir/Patient/1")
    text = door.client.get("/metrics").text
    assert 'fhir_requests_total{action="read",status="200"}' in text
    assert 'fhir_request_seconds_bucket{action="read",le="0.01"}' in text


@pytest.mark.parametrize(
    "environ", [{"REMOTE_ADDR": "10.0.0.1"}, {"REMOTE_ADDR": ""}, {"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "10.0.0.1"}]
)
def test_metrics_are_for_this_machine(door: Door, environ: dict[str, str]) -> None:
    assert door.client.get("/metrics", environ_overrides=environ).status_code == 403


@pytest.mark.parametrize("address", ["127.0.0.1", "127.1.2.3", "::1"])
def test_metrics_answer_this_machine(door: Door, address: str) -> None:
    assert door.client.get("/metrics", environ_overrides={"REMOTE_ADDR": address}).status_code == 200


def test_metrics_with_a_token(make_door: MakeDoor) -> None:
    client = make_door(metrics_token="let me see").client
    far = {"REMOTE_ADDR": "10.0.0.1"}
    assert client.get("/metrics", environ_overrides=far, headers={"Authorization": "Bearer let me see"}).status_code == 200
    assert client.get("/metrics", environ_overrides=far, headers={"Authorization": "Bearer guess"}).status_code == 401
    assert client.get("/metrics").status_code == 401


def test_no_answer_names_the_software_or_redirects(door: Door) -> None:
    for path in ("/", "/fhir", "/fhir/", "/fhir//Patient", "/nowhere", "/fhir/metadata"):
        answer = door.client.get(path)
        assert "Server" not in answer.headers
        assert answer.status_code not in {HTTPStatus.MOVED_PERMANENTLY, HTTPStatus.PERMANENT_REDIRECT}
        assert "werkzeug" not in answer.text.lower()


def test_what_is_not_below_the_base_is_no_operation_outcome(door: Door) -> None:
    for path in ("/fhirx", "/nowhere"):
        answer = door.client.get(path)
        assert (answer.status_code, "OperationOutcome" in answer.text) == (404, False)
