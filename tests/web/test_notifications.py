from __future__ import annotations

from typing import Any

import pytest

from fhir_server.access.accounts.accounts import Account
from fhir_server.access.accounts.notifications import Wanted, wanted
from fhir_server.access.tokens import issue

from .conftest import SECRET, Clinic

PLACE = "/auth/me/notifications"


def signed_in(clinic: Clinic) -> tuple[Account, str]:
    account = clinic.account("patient")
    return account, str(clinic.session(account)["access_token"])


def test_messages_come_by_mail_until_their_owner_decides(clinic: Clinic) -> None:
    account, token = signed_in(clinic)
    assert clinic("GET", PLACE, token=token).json == {"email": True, "sms": False}
    answer = clinic("PUT", PLACE, {"email": False, "sms": True}, token)
    assert (answer.status_code, answer.json) == (200, {"email": False, "sms": True})
    assert clinic("GET", PLACE, token=token).json == {"email": False, "sms": True}
    assert wanted(clinic.store.database, account.id) == Wanted(email=False, sms=True)
    assert wanted(clinic.store.database, clinic.account("patient").id) == Wanted()
    assert wanted(clinic.store.database, "nobody") == Wanted()


def test_a_decision_stands_in_the_trail_as_its_owner_s(clinic: Clinic) -> None:
    account, token = signed_in(clinic)
    for _ in range(2):
        assert clinic("PUT", PLACE, {"email": False, "sms": False}, token).status_code == 200
    query = "SELECT kind, actor, address, detail FROM audit_event WHERE resource = %s AND kind = 'account-change' AND action = 'U'"
    with clinic.store.database.connection() as connection:
        rows = connection.execute(query, (account.id,)).fetchall()
    assert rows == [("account-change", account.login, clinic.address, "changed: notify_email")]


@pytest.mark.parametrize(
    "body", [{}, {"email": True}, {"email": "yes", "sms": True}, {"email": 1, "sms": 0}, {"email": None, "sms": None}, [True, False]]
)
def test_a_decision_is_two_truth_values(clinic: Clinic, body: Any) -> None:
    _, token = signed_in(clinic)
    answer = clinic("PUT", PLACE, body, token)
    assert (answer.status_code, answer.mimetype) == (400, "application/problem+json")
    assert clinic("GET", PLACE, token=token).json == {"email": True, "sms": False}


def test_only_who_has_signed_in_decides(clinic: Clinic) -> None:
    answer = clinic("PUT", PLACE, {"email": True, "sms": True})
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    token = issue(SECRET, role="admin", user="script", patient=None, scope=None, ttl=60, now=clinic.clock())
    assert clinic("PUT", PLACE, {"email": True, "sms": True}, token).status_code == 403
