from __future__ import annotations

import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from fhir_server.access.apps import Clients
from fhir_server.access.policy import Policy
from tests.web.conftest import Clinic, Json

from .conftest import Desk, problem

APP: Json = {
    "name": "Growth chart",
    "auth_method": "client_secret_basic",
    "grant_types": ["authorization_code", "refresh_token"],
    "scope": "openid launch/patient patient/Observation.rs",
    "redirect_uris": ["https://app.example.org/back"],
}


def made(desk: Desk, **fields: Any) -> Json:
    found: Json = desk.ok("POST", "/clients", APP | fields, 201)
    return found


def clients(clinic: Clinic) -> Clients:
    return Clients(clinic.store, clinic.sign_in.desk.vault)


def key_set() -> Json:
    key = ec.generate_private_key(ec.SECP384R1()).public_key()
    return {"keys": [ECAlgorithm.to_jwk(key, as_dict=True) | {"kid": "first"}]}


def open_session(clinic: Clinic, client: str) -> str:
    identity, now = uuid.uuid4().hex, clinic.clock.now()
    ends = now + timedelta(hours=1)
    with clinic.store.database.connection() as connection:
        connection.execute(
            "INSERT INTO session (id, client, created, last_seen, idle_at, expires, address, agent) VALUES (%s, %s, %s, %s, %s, %s, '', '')",
            (identity, client, now, now, ends, ends),
        )
    return identity


def test_an_app_is_registered_with_a_secret_that_is_shown_once(desk: Desk, clinic: Clinic) -> None:
    answer = desk("POST", "/clients", APP)
    assert answer.status_code == 201, answer.text
    client = json.loads(answer.data)
    secret = client.pop("secret")
    assert client["origins"] == ["https://app.example.org"]
    assert client["created_by"] == "role/admin"
    assert clients(clinic).is_secret(client["id"], secret)
    shown = desk("GET", answer.headers["Location"])
    assert json.loads(shown.data) == client
    assert shown.headers["ETag"] == answer.headers["ETag"]
    assert secret not in desk("GET", "/clients?limit=200").text


def test_a_key_registers_one_client(desk: Desk) -> None:
    key = uuid.uuid4().hex
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: desk("POST", "/clients", APP, Idempotency_Key=key).data, range(3)))
    assert len(set(answers)) == 1


def test_a_backend_service_is_registered_with_its_keys(desk: Desk) -> None:
    keys = key_set()
    service = {"name": "Statistics", "auth_method": "private_key_jwt", "grant_types": ["client_credentials"], "scope": "system/Patient.rs"}
    client = desk.ok("POST", "/clients", service | {"jwks": keys}, 201)
    assert (client["jwks"], client["secret"]) == (keys, None)
    problem(desk("POST", f"/clients/{client['id']}/rotate-secret"), 409)
    fresh = key_set()
    assert desk.ok("PATCH", f"/clients/{client['id']}", {"jwks": fresh})["jwks"] == fresh


@pytest.mark.parametrize(
    "fields",
    [
        {"redirect_uris": ["http://app.example.org/back"]},
        {"redirect_uris": ["https://app.example.org/*"]},
        {"redirect_uris": []},
        {"auth_method": "password"},
        {"grant_types": ["password"]},
        {"grant_types": ["client_credentials"]},
        {"scope": "system/Patient.rs"},
        {"origins": ["https://app.example.org/path"]},
        {"launch_uri": "javascript:alert(1)"},
        {"jwks": {"keys": []}},
        {"jwks": {"keys": [{"kty": "oct", "k": "x"}]}},
        {"name": ""},
        {"odd": True},
    ],
)
def test_what_cannot_be_registered(desk: Desk, fields: Json) -> None:
    problem(desk("POST", "/clients", APP | fields), 422)


def test_a_client_changes_and_what_it_was_let_in_to_ends(desk: Desk, clinic: Clinic) -> None:
    client = made(desk)
    session = open_session(clinic, client["id"])
    tag = desk("GET", f"/clients/{client['id']}").headers["ETag"]
    changed = desk("PATCH", f"/clients/{client['id']}", {"name": "Growth", "scope": "openid"}, If_Match=tag)
    assert json.loads(changed.data)["name"] == "Growth"
    assert json.loads(changed.data)["redirect_uris"] == APP["redirect_uris"]
    problem(desk("GET", f"/sessions/{session}"), 404)
    problem(desk("PATCH", f"/clients/{client['id']}", {"name": "Other"}, If_Match=tag), 412)
    problem(desk("PATCH", f"/clients/{client['id']}", {"redirect_uris": ["http://elsewhere.example.org"]}), 422)
    problem(desk("PATCH", "/clients/nobody", {"name": "Other"}), 404)


def test_of_two_changes_with_one_etag_one_is_done(desk: Desk) -> None:
    for _ in range(3):
        client = made(desk)
        tag = desk("GET", f"/clients/{client['id']}").headers["ETag"]
        with ThreadPoolExecutor(2) as pool:
            answers = pool.map(lambda name, at=client["id"], tag=tag: desk("PATCH", f"/clients/{at}", {"name": name}, If_Match=tag).status_code, "ab")
            assert sorted(answers) == [200, 412]


def test_a_client_is_shut_out_and_let_in_again(desk: Desk, clinic: Clinic) -> None:
    client = made(desk)
    session = open_session(clinic, client["id"])
    (listed,) = desk.ok("GET", f"/sessions?client={client['id']}")["items"]
    assert (listed["id"], listed["user"], listed["login"], listed["client"]) == (session, None, None, client["id"])
    desk.ok("DELETE", f"/clients/{client['id']}", None, 204)
    problem(desk("GET", f"/sessions/{session}"), 404)
    assert desk.ok("GET", f"/clients/{client['id']}")["disabled"] is not None
    assert desk.ok("PATCH", f"/clients/{client['id']}", {"disabled": False})["disabled"] is None
    assert desk.ok("PATCH", f"/clients/{client['id']}", {"disabled": True})["disabled"] is not None
    clinic.store.flush_notes()
    details = [each["detail"] for each in desk.ok("GET", f"/audit?type=client&resource={client['id']}")["items"]]
    assert details == ["disabled", "enabled", "disabled", "registered: Growth chart"]


def test_all_sessions_of_an_app_end(desk: Desk, clinic: Clinic) -> None:
    client = made(desk)
    for _ in range(3):
        open_session(clinic, client["id"])
    assert desk.ok("POST", "/sessions/revoke", {"client": client["id"]}) == {"revoked": 3}


def test_another_secret_takes_the_place_of_the_one_before(desk: Desk, clinic: Clinic) -> None:
    client = made(desk)
    secret = desk.ok("POST", f"/clients/{client['id']}/rotate-secret")["secret"]
    assert clients(clinic).is_secret(client["id"], secret)
    assert not clients(clinic).is_secret(client["id"], client["secret"])
    problem(desk("POST", "/clients/nobody/rotate-secret"), 404)


def test_clients_come_in_pages(desk: Desk) -> None:
    ids = [made(desk)["id"] for _ in range(3)]
    found: list[str] = []
    address = "/clients?limit=2"
    while address:
        page = desk.ok("GET", address.removeprefix("http://localhost"))
        found += [each["id"] for each in page["items"]]
        address = page["next"]
    assert set(ids) <= set(found)
    assert len(found) == len(set(found))


def test_the_policy_holds_from_the_next_request_on(desk: Desk, clinic: Clinic) -> None:
    policy = Policy(clinic.store)
    for value in ("open", "initial-token", "closed"):
        assert desk.ok("PATCH", "/policy", {"registration": value}) == {"registration": value, "consent": "permit", "subscriptions": "public"}
        assert policy.registration() == value
        assert desk.ok("GET", "/policy") == {"registration": value, "consent": "permit", "subscriptions": "public"}
    problem(desk("PATCH", "/policy", {"registration": "odd"}), 422)
    problem(desk("PATCH", "/policy", {}), 422)
    tag = desk("GET", "/policy").headers["ETag"]
    values = ["open", "initial-token"]
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda value: desk("PATCH", "/policy", {"registration": value}, If_Match=tag).status_code, values))
    assert sorted(answers) == [200, 412]


def test_one_part_of_the_policy_changes_without_the_other(desk: Desk, clinic: Clinic) -> None:
    desk.ok("PATCH", "/policy", {"registration": "open"})
    before = desk("GET", "/policy").headers["ETag"]
    changed = desk("PATCH", "/policy", {"consent": "deny"}, If_Match=before)
    assert changed.status_code == 200
    assert changed.json == {"registration": "open", "consent": "deny", "subscriptions": "public"}
    assert changed.headers["ETag"] == desk("GET", "/policy").headers["ETag"] != before
    problem(desk("PATCH", "/policy", {"consent": "permit"}, If_Match=before), 412)
    assert Policy(clinic.store).consent() == "deny"
    for wrong in ("odd", None, True, ["deny"]):
        problem(desk("PATCH", "/policy", {"consent": wrong}), 422)
    told = desk.ok("GET", "/audit?type=policy&resource=consent&limit=1")["items"][0]
    assert (told["kind"], told["detail"]) == ("policy-change", "consent: deny")
    assert desk.ok("PATCH", "/policy", {"registration": "closed", "consent": "permit"})["consent"] == "permit"


def test_a_token_for_one_registration_is_good_once(desk: Desk, clinic: Clinic) -> None:
    token = desk.ok("POST", "/initial-tokens", None, 201)["token"]
    assert clients(clinic).use_initial_token(token, clinic.clock.now()) == "role/admin"
    assert clients(clinic).use_initial_token(token, clinic.clock.now()) is None
