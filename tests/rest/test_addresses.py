from __future__ import annotations

import time
from typing import Any

import pytest

from fhir_server.access import issue
from fhir_server.outcome import Outcome
from fhir_server.rest.address import resolve
from fhir_server.spec import r4
from tests.rest.conftest import SECRET, Door

TYPES = frozenset(r4().resource_types)
BODY: dict[str, Any] = {"data": b'{"resourceType":"Patient"}', "content_type": "application/fhir+json"}

ROUTES = [
    ("GET", "", ("search", None, None, None, None)),
    ("POST", "", ("bundle", None, None, None, None)),
    ("GET", "metadata", ("capabilities", None, None, None, None)),
    ("GET", "_history", ("history", None, None, None, None)),
    ("POST", "_search", ("search", None, None, None, None)),
    ("GET", "$export", ("operation", None, None, None, "export")),
    ("GET", "Patient", ("search", "Patient", None, None, None)),
    ("GET", "Patient/", ("search", "Patient", None, None, None)),
    ("HEAD", "Patient", ("search", "Patient", None, None, None)),
    ("POST", "Patient", ("create", "Patient", None, None, None)),
    ("PUT", "Patient", ("update", "Patient", None, None, None)),
    ("PATCH", "Patient", ("patch", "Patient", None, None, None)),
    ("DELETE", "Patient", ("delete", "Patient", None, None, None)),
    ("POST", "Patient/_search", ("search", "Patient", None, None, None)),
    ("GET", "Patient/_history", ("history", "Patient", None, None, None)),
    ("POST", "Patient/$validate", ("operation", "Patient", None, None, "validate")),
    ("GET", "Patient/a-B.9", ("read", "Patient", "a-B.9", None, None)),
    ("HEAD", "Patient/1", ("read", "Patient", "1", None, None)),
    ("PUT", "Patient/1", ("update", "Patient", "1", None, None)),
    ("PATCH", "Patient/1", ("patch", "Patient", "1", None, None)),
    ("DELETE", "Patient/1", ("delete", "Patient", "1", None, None)),
    ("GET", "Patient/1/_history", ("history", "Patient", "1", None, None)),
    ("GET", "Patient/1/_history/3", ("vread", "Patient", "1", "3", None)),
    ("GET", "Patient/1/$everything", ("operation", "Patient", "1", None, "everything")),
    ("GET", ".well-known/smart-configuration", ("discovery", None, None, None, None)),
]

NOWHERE = [
    ("GET", "Pateint", "did you mean 'Patient'"),
    ("GET", "patient/1", "did you mean 'Patient'"),
    ("POST", "DomainResource", "not a resource type"),
    ("GET", "Quantity", "not a resource type"),
    ("GET", "/Patient", "not a resource type"),
    ("GET", "Patient//1", "nothing at this address"),
    ("GET", "Patient/1/2", "nothing at this address"),
    ("GET", "Patient/1/_history/1/2", "nothing at this address"),
    ("GET", "Patient/" + "x" * 65, "not an id"),
    ("GET", "Patient/a b", "not an id"),
    ("DELETE", "Patient/a\0b", "not an id"),
    ("GET", "Patient/1/_history/%", "not an id"),
    ("GET", "$", "not a resource type"),
    ("GET", ".well-known/openid", "not a resource type"),
]

WRONG_METHODS = [
    ("DELETE", "", "GET, HEAD, POST, OPTIONS"),
    ("PUT", "metadata", "GET, HEAD, OPTIONS"),
    ("POST", "_history", "GET, HEAD, OPTIONS"),
    ("GET", "Patient/_search", "POST, OPTIONS"),
    ("POST", "Patient/1", "GET, HEAD, PUT, PATCH, DELETE, OPTIONS"),
    ("PUT", "Patient/1/_history/1", "GET, HEAD, OPTIONS"),
    ("DELETE", "Patient/$validate", "GET, HEAD, POST, OPTIONS"),
]


@pytest.mark.parametrize(("method", "path", "expected"), ROUTES)
def test_method_and_path_name_the_interaction(method: str, path: str, expected: tuple[str | None, ...]) -> None:
    target = resolve(TYPES, method, path)
    assert (target.action, target.type, target.id, target.version, target.operation) == expected


@pytest.mark.parametrize(("method", "path", "message"), NOWHERE)
def test_addresses_that_mean_nothing(method: str, path: str, message: str) -> None:
    with pytest.raises(Outcome, match=message) as caught:
        resolve(TYPES, method, path)
    assert caught.value.status == 404


def test_update_to_an_impossible_id_is_a_bad_request() -> None:
    with pytest.raises(Outcome) as caught:
        resolve(TYPES, "PUT", "Patient/a_b")
    assert caught.value.status == 400


@pytest.mark.parametrize(("method", "path", "allow"), WRONG_METHODS)
def test_wrong_methods(door: Door, method: str, path: str, allow: str) -> None:
    answer = door(method, f"/fhir/{path}", **BODY)
    assert (answer.status_code, answer.headers["Allow"]) == (405, allow)
    assert answer.get_json()["resourceType"] == "OperationOutcome"


@pytest.mark.parametrize("method", ["TRACE", "PROPFIND", "BREW"])
def test_methods_that_are_not_of_rest(door: Door, method: str) -> None:
    answer = door(method, "/fhir/Patient")
    assert answer.status_code == 405
    assert "GET" in answer.headers["Allow"]
    assert answer.get_json()["issue"][0]["code"] == "not-supported"


def test_options_lists_the_methods(door: Door) -> None:
    answer = door("OPTIONS", "/fhir/Patient/1")
    assert (answer.status_code, answer.data) == (204, b"")
    assert answer.headers["Allow"] == "GET, HEAD, PUT, PATCH, DELETE, OPTIONS"


@pytest.mark.parametrize(
    ("method", "path"), [(method, path) for method, path, expected in ROUTES if expected[0] not in {"capabilities", "discovery"}]
)
@pytest.mark.parametrize("credentials", [None, "Basic dTpw", "Bearer", "Bearer ", "Bearer nonsense", "Bearer a.b.c"])
def test_nothing_without_a_token(door: Door, method: str, path: str, credentials: str | None) -> None:
    headers = {"Authorization": credentials} if credentials else {}
    answer = door.client.open(f"/fhir/{path}", method=method, headers=headers, data=b"{not even JSON", content_type="image/png")
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert not door.seen
    if method != "HEAD":
        assert answer.get_json()["issue"][0]["code"] == "login"


@pytest.mark.parametrize("path", ["Nonsense", "Patient/1/2/3/4", "metadata/x", "metadata/../Patient", "/metadata", "//Patient"])
def test_not_even_what_exists_without_a_token(door: Door, path: str) -> None:
    assert door.client.get(f"/fhir/{path}").status_code == 401


def test_an_expired_token(door: Door) -> None:
    old = issue(SECRET, role="admin", user=None, patient=None, scope=None, ttl=5, now=time.time() - 60)
    answer = door.client.get("/fhir/Patient", headers={"Authorization": f"Bearer {old}"})
    assert answer.status_code == 401
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]


def test_metadata_and_discovery_are_open(door: Door) -> None:
    assert door.client.get("/fhir/metadata").status_code == 200
    assert not door.last.grant.scopes
    answer = door.client.get("/fhir/.well-known/smart-configuration")
    assert (answer.status_code, answer.content_type) == (200, "application/json")
    assert {"launch-standalone", "permission-v1", "permission-v2"} <= set(answer.get_json()["capabilities"])


def test_operations_get_level_name_and_parameters(door: Door) -> None:
    door("POST", "/fhir/Patient/1/$do-it?x=1&_format=json", **BODY)
    assert (door.last.interaction, door.last.operation) == ("operation", "do-it")
    assert (door.last.type, door.last.id, door.last.params, door.last.body) == ("Patient", "1", (("x", "1"),), {"resourceType": "Patient"})
    door("POST", "/fhir/$do-it")
    assert (door.last.operation, door.last.type, door.last.id, door.last.body) == ("do-it", None, None, None)


def test_the_real_registry_knows_no_such_operation() -> None:
    from fhir_server.interactions import Exchange
    from fhir_server.operations import dispatch_operation
    from fhir_server.search import SYSTEM

    with pytest.raises(Outcome) as caught:
        dispatch_operation(None, Exchange("operation", SYSTEM, "http://x/fhir", "Patient", operation="no-such-thing"))  # type: ignore[arg-type]
    assert caught.value.status == 404
