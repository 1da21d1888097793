"""How clients show who they are, and backend services."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fhir_server.access.apps import assertions
from tests.listening import Handler, http_server

from .conftest import BACK, FHIR, House, Json, key_set, rsa_key


def _basic(identity: str, secret: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{identity}:{secret}".encode()).decode()}


def test_a_secret_is_taken_in_the_header_and_in_the_form(house: House) -> None:
    client, secret = house.app("client_secret_basic")
    assert secret is not None
    account = house.account()
    assert "refresh_token" in house.tokens(account, client, secret)
    code = house.code(house.browser(account), client, prompt="consent")
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK, "code_verifier": "v" * 43}
    assert house.post("/oauth/token", _basic(client.id, secret), **form).status_code == 200


@pytest.mark.parametrize("way", ["none", "wrong", "empty", "other", "both", "header of nobody", "header that is none", "header in bytes"])
def test_without_its_own_secret_a_client_gets_nothing(house: House, way: str) -> None:
    client, secret = house.app("client_secret_basic")
    _, foreign = house.app("client_secret_basic")
    assert secret is not None
    assert foreign is not None
    code = house.code(house.browser(house.account()), client)
    form: Json = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK, "code_verifier": "v" * 43, "client_id": client.id}
    given: dict[str, tuple[dict[str, str], Json]] = {
        "none": ({}, {}),
        "wrong": ({}, {"client_secret": "wrong"}),
        "empty": ({}, {"client_secret": ""}),
        "other": ({}, {"client_secret": foreign}),
        "both": (_basic(client.id, secret), {"client_secret": secret}),
        "header of nobody": (_basic("nobody", secret), {}),
        "header that is none": ({"Authorization": "Basic !!!"}, {}),
        "header beyond ASCII": ({"Authorization": "Basic é"}, {}),
        "header in bytes": ({"Authorization": "Basic " + base64.b64encode(b"\xff\xfe:\xff").decode()}, {}),
    }
    headers, more = given[way]
    answer = house.post("/oauth/token", headers, **form, **more)
    assert (answer.status_code, answer.get_json()["error"]) == ((400, "invalid_request") if way == "both" else (401, "invalid_client"))
    assert house.redeem(client, code, secret).status_code == 200


def test_clients_that_there_are_and_that_there_are_none_of_get_one_answer(house: House) -> None:
    client, _ = house.app("client_secret_basic")
    answers = [
        house.post("/oauth/token", _basic(identity, "wrong"), grant_type="refresh_token", refresh_token="x") for identity in (client.id, "nobody")
    ]
    house.clients.disable(client.id, "admin", house.clinic.clock.now())
    answers.append(house.post("/oauth/token", _basic(client.id, "wrong"), grant_type="refresh_token", refresh_token="x"))
    assert len({(each.status_code, each.text, each.headers["WWW-Authenticate"]) for each in answers}) == 1


def test_a_secret_can_be_replaced(house: House) -> None:
    client, old = house.app("client_secret_post")
    account = house.account()
    tokens = house.tokens(account, client, old)
    new = house.clients.rotate_secret(client.id, "admin")
    assert new is not None
    assert house.refresh(client, tokens["refresh_token"], old).status_code == 401
    assert house.refresh(client, tokens["refresh_token"], new).status_code == 200
    assert house.clients.rotate_secret(house.app()[0].id, "admin") is None


@pytest.mark.parametrize("algorithm", ["RS384", "ES384"])
def test_a_backend_service_has_a_token_for_five_minutes(house: House, algorithm: str) -> None:
    client = house.service("system/Patient.rs system/Observation.read")
    answer = house.serve(client, house.assertion(client, algorithm), scope="system/*.rs system/Patient.cruds")
    assert answer.status_code == 200, answer.text
    tokens = answer.get_json()
    assert (tokens["token_type"], tokens["expires_in"], "refresh_token" in tokens) == ("Bearer", 300, False)
    assert set(tokens["scope"].split()) == {"system/Patient.rs", "system/Observation.rs"}
    seen = [house.status(tokens["access_token"], each) for each in ("Patient/p1", "Patient/p2", "Observation/laboratory-p1", "Encounter/e1")]
    assert seen == [200, 200, 200, 403]
    house.clinic.clock.seconds += 300
    assert house.status(tokens["access_token"]) == 401


def test_a_backend_service_that_asks_for_nothing_gets_what_it_was_registered_for(house: House) -> None:
    client = house.service("system/Patient.read")
    assert house.serve(client, scope=None).get_json()["scope"] == "system/Patient.read"
    assert house.serve(client, scope="system/Observation.rs").get_json()["error"] == "invalid_scope"
    assert house.serve(client, scope="user/Patient.rs patient/*.rs openid").get_json()["error"] == "invalid_scope"


def test_a_disabled_service_is_out_at_once(house: House) -> None:
    client = house.service()
    token = house.serve(client).get_json()["access_token"]
    assert house.status(token) == 200
    house.clients.disable(client.id, "admin", house.clinic.clock.now())
    assert house.status(token) == 401
    assert house.serve(client).get_json()["error"] == "invalid_client"


def _other_key() -> Any:
    return rsa.generate_private_key(65537, 2048)


@pytest.mark.parametrize(
    "changed",
    [
        {"iss": "another"},
        {"sub": "another"},
        {"iss": None},
        {"sub": None},
        {"sub": 7},
        {"aud": None},
        {"aud": "https://elsewhere.example.org/oauth/token"},
        {"aud": FHIR},
        {"exp": None},
        {"exp": 1},
        {"exp": "soon"},
        {"exp": 1e400},
        {"exp": 4_000_000_000},
        {"nbf": 4_000_000_000},
        {"iat": 4_000_000_000},
        {"jti": None},
        {"jti": ""},
        {"jti": 7},
        {"jti": "x" * 201},
        {"kid": "another"},
        {"kid": None},
        {"algorithm": "RS256"},
        {"key": _other_key},
    ],
)
def test_assertions_that_do_not_hold(house: House, changed: Json) -> None:
    client = house.service()
    given = {name: value() if callable(value) else value for name, value in changed.items()}
    answer = house.serve(client, house.assertion(client, **given))
    assert (answer.status_code, answer.get_json()["error"]) == (401, "invalid_client"), answer.text


def test_assertions_that_are_forged(house: House) -> None:
    client = house.service()
    now = int(house.clinic.clock())
    claims = {"iss": client.id, "sub": client.id, "aud": "http://localhost/oauth/token", "exp": now + 60, "jti": "1"}
    public = rsa_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    secret = base64.urlsafe_b64encode(public).rstrip(b"=").decode()
    unsigned = jwt.encode(claims, "", algorithm="none")
    # The public key in the place of a shared secret: PyJWT refuses to make it, so it is made by hand.
    head = base64.urlsafe_b64encode(json.dumps({"alg": "HS256", "kid": "r"}).encode()).rstrip(b"=")
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=")
    mac = base64.urlsafe_b64encode(hmac.new(public, head + b"." + body, hashlib.sha256).digest()).rstrip(b"=")
    confused = b".".join((head, body, mac)).decode()
    good = house.assertion(client)
    for assertion in (unsigned, confused, secret, good[:-4] + "AAAA", good.replace(".", ""), "", ".", "..", "x" * 10_000, "é.é.é"):
        answer = house.serve(client, assertion)
        assert answer.status_code in (400, 401), assertion
        assert answer.get_json()["error"] in ("invalid_client", "invalid_request")
    assert house.serve(client, good, client_assertion_type="x").get_json()["error"] == "invalid_client"
    assert house.serve(client, good, client_id="another").get_json()["error"] == "invalid_client"


def test_an_assertion_is_good_once(house: House) -> None:
    client = house.service()
    other = house.service()
    assertion = house.assertion(client, jti="same")
    assert house.serve(client, assertion).status_code == 200
    assert house.serve(client, assertion).get_json()["error"] == "invalid_client"
    assert house.serve(client, house.assertion(client, jti="same", exp=int(house.clinic.clock()) + 100)).status_code == 401
    # Clients count for themselves.
    assert house.serve(other, house.assertion(other, jti="same")).status_code == 200


def test_of_many_uses_of_one_assertion_at_once_one_is_served(house: House) -> None:
    client = house.service()
    assertion = house.assertion(client)
    with ThreadPoolExecutor(6) as pool:
        answers = [each.status_code for each in pool.map(lambda _: house.serve(client, assertion), range(6))]
    assert sorted(answers) == [200, 401, 401, 401, 401, 401]


def test_without_a_kid_a_single_key_will_do(house: House) -> None:
    client = house.service(jwks=json.dumps({"keys": key_set()["keys"][:1]}))
    assert house.serve(client, house.assertion(client, kid=None)).status_code == 200


def test_an_app_may_show_who_it_is_by_a_key_too(house: House) -> None:
    client, _ = house.app("private_key_jwt")
    code = house.code(house.browser(house.account()), client)
    kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    assert house.redeem(client, code).get_json()["error"] == "invalid_client"
    tokens = house.redeem(client, code, client_assertion=house.assertion(client), client_assertion_type=kind).get_json()
    assert tokens["patient"] == "p1"
    assert house.serve(client, scope="system/*.rs").get_json()["error"] == "unauthorized_client"


def test_only_a_key_makes_a_backend_service(house: House) -> None:
    client, secret = house.app("client_secret_basic")
    assert secret is not None
    answer = house.post("/oauth/token", _basic(client.id, secret), grant_type="client_credentials", scope="system/*.rs")
    assert answer.get_json()["error"] == "invalid_client"


class Keys(Handler):
    body = b""
    asked: list[str]

    def take(self) -> None:
        self.asked.append(self.path)
        body = self.body * (1000 if self.path == "/huge" else 1)
        if self.path == "/moved":
            self.answer(302, body, {"Location": "/keys"})
        else:
            self.answer(200, body)


@pytest.fixture
def keys() -> Iterator[tuple[str, type[Keys]]]:
    kind = type("Handler", (Keys,), {"asked": [], "body": json.dumps(key_set()).encode()})
    with http_server(kind) as address:
        yield address, kind


def test_keys_at_an_address_are_fetched_and_kept_for_a_minute(house: House, keys: tuple[str, type[Keys]]) -> None:
    address, kind = keys
    client = house.service(jwks=None, jwks_uri=f"{address}/keys")
    assert [house.serve(client).status_code for _ in range(3)] == [200, 200, 200]
    assert kind.asked == ["/keys"]


def test_slow_addresses_hold_one_thread(house: House, keys: tuple[str, type[Keys]]) -> None:
    address, kind = keys
    client = house.service(jwks=None, jwks_uri=f"{address}/others")
    with assertions._fetching:
        answer = house.serve(client)
    assert (answer.status_code, answer.get_json()["error"], answer.headers["Retry-After"]) == (503, "temporarily_unavailable", "2")
    assert kind.asked == []
    assert house.serve(client).status_code == 200


@pytest.mark.parametrize("path", ["/moved", "/huge"])
def test_keys_elsewhere_or_without_end_are_not_taken(house: House, keys: tuple[str, type[Keys]], path: str) -> None:
    address, kind = keys
    client = house.service(jwks=None, jwks_uri=f"{address}{path}")
    assert house.serve(client).get_json()["error"] == "invalid_client"
    assert kind.asked == [path]


def test_an_address_that_does_not_answer_is_not_asked_again_at_once(house: House, keys: tuple[str, type[Keys]]) -> None:
    address, kind = keys
    kind.body = b'{"keys": 7}'
    client = house.service(jwks=None, jwks_uri=f"{address}/none")
    assert [house.serve(client).status_code for _ in range(3)] == [401, 401, 401]
    assert kind.asked == ["/none"]


@pytest.mark.parametrize(
    "host",
    [
        *("10.0.0.1", "192.168.1.1", "169.254.169.254", "[fd00::1]", "[::ffff:10.0.0.1]", "0.0.0.0", "224.0.0.1"),
        *("[64:ff9b::7f00:1]", "[64:ff9b::a9fe:a9fe]", "[2002:7f00:1::]", "[::10.0.0.1]", "[::ffff:127.0.0.1]"),
    ],
)
def test_the_house_is_not_asked_for_keys(host: str) -> None:
    assert assertions.fetched_keys(f"https://{host}/keys") == []
    with pytest.raises(ValueError, match="inside the house"):
        assertions._outside(host.strip("[]"), 443)
