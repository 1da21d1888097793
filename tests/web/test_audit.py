"""Every sign-in, failed sign-in, sign-out and ended session is in the audit trail, with what it tells of."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC
from typing import Any

import pytest
from psycopg.rows import dict_row

from fhir_server.access.accounts import Account
from tests.web.conftest import PASSWORD, Clinic

Json = dict[str, Any]


@pytest.fixture
def during(clinic: Clinic) -> Callable[[Callable[[], object]], list[Json]]:
    def events(work: Callable[[], object]) -> list[Json]:
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
