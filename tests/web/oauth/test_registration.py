from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from fhir_server.outcome import Outcome

from .conftest import BACK, House, Json, ec_key, key_set

APP: Json = {"client_name": "Growth Chart", "redirect_uris": [BACK], "token_endpoint_auth_method": "none"}
SERVICE: Json = {
    "client_name": "Loader",
    "grant_types": ["client_credentials"],
    "token_endpoint_auth_method": "private_key_jwt",
    "scope": "system/*.rs",
    "jwks": key_set(),
}


@pytest.fixture
def open_house(house: House) -> Iterator[House]:
    house.policy.set_registration("open", "admin")
    yield house
    house.policy.set_registration("closed", "admin")


def test_nobody_registers_until_an_admin_decides(make_house: Callable[..., House]) -> None:
    house = make_house()
    with house.clinic.store.database.connection() as connection:
        connection.execute("DELETE FROM policy")
    answer = house.register(**APP)
    assert (answer.status_code, answer.get_json()["error"], answer.headers["WWW-Authenticate"]) == (401, "invalid_token", "Bearer")
    house.policy.set_registration("open", "admin", undecided=True)
    assert house.register(**APP).status_code == 201
    house.policy.set_registration("closed", "admin")
    house.policy.set_registration("open", "admin", undecided=True)
    assert house.register(**APP).status_code == 401
    with pytest.raises(Outcome):
        house.policy.set_registration("perhaps", "admin")


def test_an_app_registers_itself_and_is_let_in(open_house: House) -> None:
    answer = open_house.register(**APP)
    assert (answer.status_code, answer.headers["Cache-Control"]) == (201, "no-store")
    made = answer.get_json()
    assert made["grant_types"] == ["authorization_code", "refresh_token"]
    assert "client_secret" not in made
    client = open_house.clients.get(made["client_id"])
    assert client is not None
    assert (client.name, client.origins, client.created_by) == ("Growth Chart", ("https://app.example.org",), "open registration")
    assert open_house.tokens(open_house.account(), client)["patient"] == "p1"


def test_a_secret_is_shown_once_and_kept_as_a_digest(open_house: House) -> None:
    made = open_house.register(**APP | {"token_endpoint_auth_method": "client_secret_basic"}).get_json()
    assert made["client_secret_expires_at"] == 0
    client = open_house.clients.get(made["client_id"])
    assert client is not None
    with open_house.clinic.store.database.connection() as connection:
        (row,) = connection.execute("SELECT client::text FROM client WHERE id = %s", (client.id,)).fetchall()
    assert made["client_secret"] not in row[0]
    assert open_house.tokens(open_house.account(), client, made["client_secret"])["patient"] == "p1"


def test_an_admin_registers_always_and_alone_a_backend_service(open_house: House) -> None:
    assert open_house.register(**SERVICE).status_code == 401
    made = open_house.register(open_house.admin(), **SERVICE)
    assert made.status_code == 201, made.text
    client = open_house.clients.get(made.get_json()["client_id"])
    assert client is not None
    assert open_house.serve(client).status_code == 200
    open_house.policy.set_registration("closed", "admin")
    assert open_house.register(open_house.admin(), **APP).status_code == 201


def test_nobody_else_s_token_registers(house: House) -> None:
    app, _ = house.app()
    tokens = [
        house.token("doctor"),
        house.token(scope="system/*.cruds"),
        house.token("admin", scope="user/Patient.rs"),
        house.tokens(house.account("admin"), app, scope="user/*.cruds")["access_token"],
    ]
    for token in tokens:
        assert house.register({"Authorization": f"Bearer {token}"}, **APP).status_code == 403
    assert house.register({"Authorization": "Bearer nonsense"}, **APP).status_code == 401


def test_an_initial_token_registers_one_app(house: House) -> None:
    clients, now = house.clients, house.clinic.clock.now
    token = clients.new_initial_token("admin@example.org", now())
    sent = {"Authorization": f"Bearer {token}"}
    # Not while the policy is another one; and what cannot be registered does not use it up.
    assert house.register(sent, **APP).status_code == 401
    house.policy.set_registration("initial-token", "admin")
    assert house.register(**APP).status_code == 401
    assert house.register(sent, **SERVICE).status_code == 401
    assert house.register(sent, **APP | {"redirect_uris": []}).status_code == 400
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: house.register(sent, **APP), range(4)))
    assert sorted(each.status_code for each in answers) == [201, 401, 401, 401]
    (made,) = [each.get_json() for each in answers if each.status_code == 201]
    client = clients.get(made["client_id"])
    assert client is not None
    assert client.created_by == "admin@example.org"
    late = clients.new_initial_token("admin@example.org", now())
    house.clinic.clock.seconds += 7 * 24 * 3600
    assert house.register({"Authorization": f"Bearer {late}"}, **APP).status_code == 401
    house.policy.set_registration("closed", "admin")


@pytest.mark.parametrize(
    "address",
    [
        "http://app.example.org/back",
        "https://app.example.org/*",
        "https://*.example.org/back",
        "https://app.example.org/back#x",
        "https://app.example.org/back#",
        "https://user@app.example.org/back",
        "https:///back",
        "https://ex_ample.org/back",
        "https://%61pp.example.org/back",
        "x." + "y" * 60 + ":/back",
        "https://",
        "https://app.example.org:x/back",
        "javascript:alert(1)",
        "data:text/html,x",
        "myapp:/back",
        "com.example.app:",
        "/back",
        "",
        "https://app.example.org/ back",
        "https://app.example.org/\r\nX: 1",
        "https://app.example.org/\u00fc",
        "https://app.example.org;script-src/back",
        "https://app.example.org/" + "x" * 500,
        "http://localhost.example.org/back",
        "http://127.0.0.1.example.org/back",
    ],
)
def test_addresses_that_nobody_is_led_to(open_house: House, address: str) -> None:
    answer = open_house.register(**APP | {"redirect_uris": [BACK, address]})
    assert (answer.status_code, answer.get_json()["error"]) == (400, "invalid_redirect_uri")


@pytest.mark.parametrize(
    "address",
    [
        "https://app.example.org",
        "https://app.example.org:8443/back?x=1",
        "http://127.0.0.1:4000/",
        "http://[::1]:4000/",
        "http://localhost/",
        "org.app:/x",
    ],
)
def test_addresses_that_are_good(open_house: House, address: str) -> None:
    assert open_house.register(**APP | {"redirect_uris": [address]}).get_json()["redirect_uris"] == [address]


def _strong(**changed: Any) -> Json:
    return {"keys": [key_set()["keys"][0] | changed]}


def _weak() -> Json:
    return {"keys": [RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 1024).public_key(), as_dict=True)]}


def _curve() -> Json:
    return {"keys": [ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()).public_key(), as_dict=True)]}


@pytest.mark.parametrize(
    "changed",
    [
        {"client_name": "x" * 101},
        {"client_name": "a\nb"},
        {"client_name": 7},
        {"token_endpoint_auth_method": "client_secret_jwt"},
        {"grant_types": ["password"]},
        {"grant_types": "authorization_code"},
        {"grant_types": [7]},
        {"response_types": ["token"]},
        {"redirect_uris": []},
        {"redirect_uris": [f"https://app.example.org/{number}" for number in range(21)]},
        {"allowed_origins": ["https://app.example.org/"]},
        {"allowed_origins": ["*"]},
        {"allowed_origins": ["null"]},
        {"launch_uri": "javascript:1"},
        {"launch_uri": "com.example.app:/x"},
        {"token_endpoint_auth_method": "private_key_jwt"},
        {"token_endpoint_auth_method": "private_key_jwt", "jwks": key_set(), "jwks_uri": "https://app.example.org/keys"},
        {"jwks_uri": "http://app.example.org/keys"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks": {"keys": []}},
        {"jwks": {"keys": [{"kty": "oct", "k": "AAAA"}]}},
        {"jwks": {"keys": [{"kty": "RSA", "n": "!", "e": 7}]}},
        {"jwks": {"keys": [7]}},
        {"jwks": {}},
        {"jwks": []},
        {"jwks": {"keys": [ECAlgorithm.to_jwk(ec_key(), as_dict=True)]}},
        {"jwks": _strong(x5c="y" * 13_000)},
        {"jwks": {"keys": _strong()["keys"] * 11}},
        {"jwks": _weak()},
        {"jwks": _curve()},
        {"scope": " ".join(f"patient/Observation.rs?code={number:0200}" for number in range(30))},
    ],
)
def test_metadata_that_cannot_be(open_house: House, changed: Json) -> None:
    answer = open_house.register(**APP | changed)
    assert answer.status_code in (400, 413), answer.text
    assert answer.get_json()["error"] in ("invalid_client_metadata", "invalid_redirect_uri", "invalid_request")


def test_nobody_elsewhere_has_this_machine_asked_for_keys(open_house: House) -> None:
    app = APP | {"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "http://127.0.0.1:2575/keys"}
    client = open_house.clinic.app.test_client(use_cookies=False)

    def registered(address: str, **headers: str) -> int:
        return client.post("/oauth/register", json=app, headers=headers, environ_overrides={"REMOTE_ADDR": address}).status_code

    assert registered("192.0.2.1") == 400
    assert registered("127.0.0.1", **{"X-Forwarded-For": "192.0.2.1"}) == 400
    assert registered("127.0.0.1") == 201
    assert registered("192.0.2.1", **open_house.admin()) == 201


@pytest.mark.parametrize(
    "changed", [{"token_endpoint_auth_method": "client_secret_basic"}, {"scope": "patient/*.rs"}, {"scope": ""}, {"redirect_uris": [BACK]}]
)
def test_a_backend_service_has_a_key_and_scopes_of_its_own(house: House, changed: Json) -> None:
    assert house.register(house.admin(), **SERVICE | changed).status_code == 400


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b'{"client_name": "\\u0000"}', b'{"client_name": "\\ud800"}', b"[" * 10_000, b"\xff"])
def test_bodies_that_are_no_registration(open_house: House, body: bytes) -> None:
    answer = open_house.clinic.app.test_client().post("/oauth/register", data=body, content_type="application/json")
    assert (answer.status_code, answer.get_json()["error"]) == (400, "invalid_request")


def test_scopes_that_mean_nothing_here_are_left_out(open_house: House) -> None:
    made = open_house.register(**APP | {"scope": "openid email patient/*.rs patient/Foo.rs system/*.rs launch"}).get_json()
    assert made["scope"] == "openid patient/*.rs launch"


def test_an_address_registers_a_hundred_apps_in_a_quarter_of_an_hour(make_house: Callable[..., House]) -> None:
    house = make_house()
    house.policy.set_registration("open", "admin")

    def register() -> int:
        environ = {"REMOTE_ADDR": "198.51.100.7"}
        return house.clinic.app.test_client().post("/oauth/register", json=APP, environ_overrides=environ).status_code

    answers = [register() for _ in range(101)]
    assert answers == [201] * 100 + [429]


def test_clients_are_listed_changed_and_shut_out(house: House) -> None:
    clients, now = house.clients, house.clinic.clock.now()
    client, _ = house.app(name="Before", launch_uri="https://app.example.org/launch")
    tokens = house.tokens(house.account(), client)
    assert client in clients.all()
    assert client in clients.launchable()
    from fhir_server.access.apps import NewClient

    changed = clients.change(client.id, NewClient("After", "none", ("authorization_code",), "patient/*.rs", (BACK,)), "admin", now)
    assert changed is not None
    assert (changed.name, changed.grant_types, changed.launch_uri) == ("After", ("authorization_code",), None)
    # What it had was given to what it was.
    assert house.status(tokens["access_token"]) == 401
    with pytest.raises(Outcome):
        clients.change(client.id, NewClient("After", "client_secret_basic", ("authorization_code",), "patient/*.rs", (BACK,)), "admin", now)
    assert clients.change("nobody", NewClient("After", "none", ("authorization_code",), "patient/*.rs", (BACK,)), "admin", now) is None
    assert [clients.disable(client.id, "admin", now), clients.disable(client.id, "admin", now)] == [True, False]
    assert client.id not in {each.id for each in clients.launchable()}
    assert [clients.enable(client.id, "admin"), clients.enable(client.id, "admin")] == [True, False]
    assert json.loads(json.dumps(changed.redirect_uris)) == [BACK]
