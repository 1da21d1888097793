"""Every sign-in, failed sign-in, sign-out and ended session is in the audit trail, with what it tells of."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC
from functools import partial
from itertools import product
from typing import Any

import pytest
from psycopg.rows import dict_row

from fhir_server.access.accounts.accounts import Account, standing
from fhir_server.search import SYSTEM
from fhir_server.store.ops import Put
from tests.web.conftest import PASSWORD, Clinic

Json = dict[str, Any]


@pytest.fixture
def during(clinic: Clinic) -> Callable[[Callable[[], object]], list[Json]]:
    def events(work: Callable[[], object]) -> list[Json]:
        # What was noted before is of no concern.
        clinic.store.flush_notes()
        with clinic.store.database.connection() as connection:
            [(mark,)] = connection.execute("SELECT coalesce(max(id), 0) FROM audit_event").fetchall()
        work()
        clinic.store.flush_notes()
        with clinic.store.database.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
            return list(cursor.execute("SELECT * FROM audit_event WHERE id > %s ORDER BY id", (mark,)))

    return events


During = Callable[[Callable[[], object]], list[Json]]


def of(account: Account, events: list[Json]) -> list[Json]:
    """The events, all known to be of the account's owner, none of which has a secret in it."""
    for event in events:
        assert (event["actor"], event["account"], event["fhir_user"], event["roles"]) == (
            account.login,
            account.id,
            account.fhir_user,
            list(account.roles),
        )
        assert PASSWORD not in str(event)
    return events


def test_a_sign_in_and_a_sign_out(clinic: Clinic, during: During) -> None:
    account = clinic.account("doctor", practitioner="p7")
    found: list[Json] = []
    [signed_in] = of(account, during(lambda: found.append(clinic.session(account))))
    session = found[0]["session"]
    assert (signed_in["kind"], signed_in["outcome"], signed_in["session"], signed_in["address"]) == ("sign-in", 0, session, clinic.address)
    [signed_out] = of(account, during(lambda: clinic.post("logout", found[0]["access_token"])))
    assert (signed_out["kind"], signed_out["session"], signed_out["detail"]) == ("sign-out", session, "logged out")


def test_who_somebody_is_in_fhir_is_one_rule_for_server_and_database(clinic: Clinic, during: During) -> None:
    names = ("practitioner", "patient", "related_person")
    for given in product((None, "x1"), repeat=3):
        people = dict(zip(names, given, strict=True))
        account = clinic.account("staff", **people)
        order = ("Practitioner", people["practitioner"]), ("RelatedPerson", people["related_person"]), ("Patient", people["patient"])
        expected = next((f"{kind}/{identity}" for kind, identity in order if identity), None)
        assert account.fhir_user == expected
        found = during(partial(clinic.sign_in.sessions.begin_in_browser, account, "", "", clinic.clock.now()))
        found += during(partial(clinic.sign_in.accounts.offer_totp, account, "SECRET"))
        assert [each["kind"] for each in of(account, found)] == ["sign-in", "account-change"]
        known = standing(clinic.store, account.login)
        assert known is not None
        assert known[1].fhir_user == expected


def test_a_related_person_opens_the_patients_record_as_themselves(clinic: Clinic) -> None:
    bodies: list[Json] = [
        {"resourceType": "Patient", "id": "child"},
        {"resourceType": "RelatedPerson", "id": "mother", "patient": {"reference": "Patient/child"}},
        {"resourceType": "Patient", "id": "other"},
    ]
    clinic.store.transact([Put(each, each["id"]) for each in bodies], SYSTEM)
    mother = clinic.account("patient", patient="child", related_person="mother")
    own = clinic.account("patient", patient="child")
    tokens = [clinic.session(each)["access_token"] for each in (mother, own)]
    assert [json.loads(clinic("GET", "/auth/me", token=each).data)["fhirUser"] for each in tokens] == ["RelatedPerson/mother", "Patient/child"]

    def answers() -> list[int]:
        return [clinic("GET", f"/fhir/Patient/{name}", token=each).status_code for each in tokens for name in ("child", "other")]

    assert answers() == [200, 404, 200, 404]
    # What the patient forbids them holds, and for them alone.
    consent: Json = {
        "resourceType": "Consent",
        "id": "not-mother",
        "status": "active",
        "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": "Patient/child"},
        "policyRule": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "OPTIN"}]},
        "provision": {
            "type": "deny",
            "actor": [{"role": {"text": "recipient"}, "reference": {"reference": "RelatedPerson/mother"}}],
            "class": [{"system": "http://hl7.org/fhir/resource-types", "code": "Patient"}],
        },
    }
    clinic.store.transact([Put(consent, consent["id"])], SYSTEM)
    assert answers() == [404, 404, 200, 404]


def test_a_sign_in_that_fails(clinic: Clinic, during: During) -> None:
    account = clinic.account("staff")
    [failed] = of(account, during(lambda: clinic.post("login", login=account.login, password="not it at all")))
    assert (failed["kind"], failed["outcome"], failed["detail"], failed["address"]) == ("sign-in-failed", 4, "wrong password", clinic.address)
    challenge = clinic.challenge(account)
    [failed] = of(account, during(lambda: clinic.post("otp", challenge=challenge, code="000000")))
    assert (failed["kind"], failed["detail"]) == ("sign-in-failed", "wrong code")


def test_what_was_typed_for_a_login_that_there_is_none_of_is_not_kept(clinic: Clinic, during: During) -> None:
    [failed] = during(lambda: clinic.post("login", login="my-secret-password", password="x"))
    assert (failed["kind"], failed["actor"], failed["account"]) == ("sign-in-failed", "unknown", None)
    assert "secret" not in str(failed)


def test_sessions_that_others_or_time_end(clinic: Clinic, during: During) -> None:
    account = clinic.account("doctor")
    one, other = clinic.session(account), clinic.session(account)
    [revoked] = of(account, during(lambda: clinic("DELETE", f"/auth/sessions/{other['session']}", token=one["access_token"])))
    assert (revoked["kind"], revoked["detail"], revoked["session"]) == ("revocation", "revoked", other["session"])
    [locked, ended] = during(lambda: clinic.sign_in.accounts.set_state(account.id, "disabled", clinic.clock.now().astimezone(UTC)))
    assert (locked["kind"], locked["detail"]) == ("account-change", "changed: state; state active -> disabled")
    assert (ended["kind"], ended["session"]) == ("revocation", one["session"])


def test_a_refresh_token_used_twice(clinic: Clinic, during: During) -> None:
    account = clinic.account("doctor")
    token = clinic.session(account)["refresh_token"]
    assert during(lambda: clinic.post("refresh", refresh_token=token)) == []
    [reused] = of(account, during(lambda: clinic.post("refresh", refresh_token=token)))
    assert (reused["kind"], reused["outcome"]) == ("token-reuse", 4)


def test_a_password_that_is_changed(clinic: Clinic, during: During) -> None:
    account = clinic.account("doctor")
    session = clinic.session(account)
    changed, ended = of(account, during(lambda: clinic.post("password", session["access_token"], current=PASSWORD, new="another good password")))
    assert (changed["kind"], changed["resource"]) == ("password-change", account.id)
    assert ended["kind"] == "revocation"
    assert "good" not in str(changed)


def test_what_an_operator_changes_is_not_the_owners_doing(clinic: Clinic, during: During) -> None:
    account = clinic.account("doctor")
    [changed] = during(lambda: clinic.sign_in.accounts.set_password(account, "a password of the desk", clinic.clock.now(), expired=True))
    assert (changed["kind"], changed["actor"], changed["account"]) == ("password-change", "system", None)
    again = clinic.sign_in.accounts.by_id(account.id)
    assert again is not None
    [kept] = during(lambda: clinic.sign_in.accounts.rehash(again, "a password of the desk"))
    assert (kept["actor"], "newer parameters" in kept["detail"]) == ("system", True)


def test_a_sign_in_that_is_rolled_back_leaves_no_event(clinic: Clinic, during: During) -> None:
    account = clinic.account("doctor")

    def work() -> None:
        with clinic.store.database.connection() as connection, connection.transaction(force_rollback=True):
            connection.execute(
                "INSERT INTO session (id, account, created, last_seen, idle_at, expires, address, agent)"
                " VALUES ('rolled-back', %s, now(), now(), now(), now(), '', '')",
                (account.id,),
            )

    assert during(work) == []
