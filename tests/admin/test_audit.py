from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from tests.web.conftest import PASSWORD, Clinic, Json

from .conftest import Desk, problem, token_of


def found(desk: Desk, **asked: str) -> list[Json]:
    desk.clinic.store.flush_notes()
    query = "&".join(f"{name}={value}" for name, value in asked.items())
    items: list[Json] = desk.ok("GET", f"/audit?limit=200&{query}")["items"]
    return items


def test_every_change_of_an_account_leaves_an_event_with_its_author(desk: Desk, clinic: Clinic) -> None:
    admin = clinic.account("admin")
    mine = Desk(clinic, clinic.session(admin)["access_token"])
    user = mine.ok("POST", "/users", {"login": f"{uuid.uuid4().hex}@example.org", "password": PASSWORD, "roles": ["doctor"]}, 201)
    account = clinic.sign_in.accounts.by_id(user["id"])
    assert account is not None
    mine.ok("PATCH", f"/users/{user['id']}", {"roles": ["staff"]})
    mine.ok("POST", f"/users/{user['id']}/reset-password")
    mine.ok("DELETE", f"/users/{user['id']}", None, 204)
    events = found(desk, type="account", resource=user["id"])
    assert [each["kind"] for each in events] == ["account-change", "password-change", "account-change", "account-change"]
    assert {(each["actor"], each["account"], each["address"], each["outcome"]) for each in events} == {(admin.login, admin.id, clinic.address, 0)}
    details = [str(each["detail"]) for each in events[::-1]]
    assert details[0] == "added: doctor"
    assert "roles doctor -> staff" in details[1]
    assert "state active -> disabled" in details[3]
    assert PASSWORD not in json.dumps(events)


def test_what_was_refused_or_replayed_leaves_no_change(desk: Desk, clinic: Clinic) -> None:
    key = uuid.uuid4().hex
    body = {"login": f"{uuid.uuid4().hex}@example.org", "password": PASSWORD, "roles": ["doctor"]}
    user = desk.ok("POST", "/users", body, 201, Idempotency_Key=key)
    desk.ok("POST", "/users", body, 201, Idempotency_Key=key)
    problem(desk("PATCH", f"/users/{user['id']}", {"roles": ["staff"]}, If_Match='"another"'), 412)
    assert len(found(desk, resource=user["id"])) == 1


def test_ends_of_sessions_and_jobs_are_written_down(desk: Desk, clinic: Clinic) -> None:
    session = clinic.session(clinic.account())["session"]
    desk.ok("DELETE", f"/sessions/{session}", None, 204)
    (event,) = found(desk, resource=session, kind="revocation")
    assert "role/admin" in event["detail"]
    job = desk.ok("POST", "/reindex-jobs", {"type": "Flag"}, 202)
    (event,) = found(desk, type="reindex-job", resource=job["id"])
    assert (event["kind"], event["actor"], event["detail"]) == ("operation", "role/admin", "asked for: Flag")


def test_whoever_is_not_let_in_is_written_down(desk: Desk, clinic: Clinic) -> None:
    account = clinic.account("doctor")
    problem(Desk(clinic, clinic.session(account)["access_token"])("GET", "/settings"), 403)
    (event,) = found(desk, kind="denied", account=account.id)
    assert (event["outcome"], event["query"]) == (4, "GET /admin/api/v1/settings")


def test_reading_the_trail_is_written_down_and_the_same_over_fhir(desk: Desk, clinic: Clinic) -> None:
    admin = clinic.account("admin")
    mine = Desk(clinic, clinic.session(admin)["access_token"])
    mine.ok("GET", "/audit?patient=somebody-else")
    (event,) = found(desk, account=admin.id, kind="search")
    assert event["type"] == "AuditEvent"
    assert event["patients"] == ["somebody-else"]
    assert "patient=somebody-else" in event["query"]
    answer = clinic("GET", f"/fhir/AuditEvent/{event['id']}", token=desk.token)
    assert answer.status_code == 200, answer.text
    assert json.loads(answer.data)["recorded"] == event["recorded"]


def test_events_come_in_pages_and_by_time(desk: Desk, clinic: Clinic) -> None:
    account = clinic.account("staff")
    for state in ("locked", "active", "locked", "active"):
        desk.ok("PATCH", f"/users/{account.id}", {"state": state})
    events = found(desk, resource=account.id)
    pages: list[Any] = []
    address = f"/audit?resource={account.id}&limit=2"
    while address:
        page = desk.ok("GET", address.removeprefix("http://localhost"))
        pages.append(page["items"])
        address = page["next"]
    assert [len(page) for page in pages] == [2, 2, 1]
    assert [each for page in pages for each in page] == events
    middle = events[2]["recorded"]
    since, before = (found(desk, resource=account.id, **{name: middle}) for name in ("since", "before"))
    assert sorted(each["id"] for each in (*since, *before)) == sorted(each["id"] for each in events)
    assert events[2] in since
    page = desk.ok("GET", f"/audit?resource={account.id}&limit=1&since={events[4]['recorded']}")
    again = desk.ok("GET", page["next"].removeprefix("http://localhost"))
    assert (page["items"], again["items"]) == (events[:1], events[1:2])


@pytest.mark.parametrize("query", ["kind=odd", "outcome=1", "since=yesterday", "since=2026-01-01T00:00:00", "actor=", "odd=1", "resource=%00"])
def test_questions_that_are_none(desk: Desk, query: str) -> None:
    problem(desk("GET", f"/audit?{query}"), 400)


def test_the_chain_is_verified_and_that_is_written_down(desk: Desk, clinic: Clinic) -> None:
    verdict = desk.ok("POST", "/audit/verify")
    assert (verdict["ok"], verdict["fault"]) == (True, None)
    assert len(verdict["head"]) == 64
    event = found(desk, kind="operation", type="AuditEvent")[0]
    assert event["detail"].startswith("verify: ")
    problem(Desk(clinic, token_of(clinic.clock(), "doctor"))("POST", "/audit/verify"), 403)
