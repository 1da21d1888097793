"""OpenID Connect, introspection and revocation."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jwt
import pytest

from fhir_server.access.apps import SigningKeys
from fhir_server.access.vault import Vault
from tests.web.conftest import SECRET

from .conftest import FHIR, ISSUER, House, Json

DAY = 24 * 3600


def _checked(house: House, token: str, client: str) -> Json:
    keys = jwt.PyJWKSet.from_dict(house.get("/oauth/jwks").get_json())
    key = keys[jwt.get_unverified_header(token)["kid"]]
    # The times are those of the test's clock.
    options: Any = {"verify_exp": False, "verify_iat": False}
    found: Json = jwt.decode(token, key, algorithms=["RS256"], audience=client, issuer=ISSUER, options=options)
    return found


def test_an_id_token_says_who_has_signed_in(house: House) -> None:
    client, _ = house.app()
    account = house.account()
    browser = house.browser(account)
    signed_in = int(house.clinic.clock())
    house.clinic.clock.seconds += 20
    tokens = house.redeem(client, house.code(browser, client, nonce="n&1", scope="openid fhirUser profile patient/*.rs")).get_json()
    claims = _checked(house, tokens["id_token"], client.id)
    now = int(house.clinic.clock())
    half = hashlib.sha256(tokens["access_token"].encode()).digest()[:16]
    assert claims == {
        "iss": ISSUER,
        "sub": account.id,
        "aud": client.id,
        "iat": now,
        "exp": now + 3600,
        "auth_time": signed_in,
        "nonce": "n&1",
        "at_hash": base64.urlsafe_b64encode(half).rstrip(b"=").decode(),
        "fhirUser": f"{FHIR}/Patient/p1",
        "profile": f"{FHIR}/Patient/p1",
        "preferred_username": account.login,
    }


def test_an_id_token_says_no_more_than_was_asked_for(house: House) -> None:
    client, _ = house.app()
    tokens = house.tokens(house.account("doctor"), client, scope="openid user/*.rs")
    assert set(_checked(house, tokens["id_token"], client.id)) == {"iss", "sub", "aud", "iat", "exp", "auth_time", "at_hash"}
    assert "id_token" not in house.tokens(house.account("doctor"), client, scope="fhirUser user/*.rs")


def test_an_id_token_opens_nothing(house: House) -> None:
    client, _ = house.app()
    token = house.tokens(house.account(), client)["id_token"]
    assert house.status(token) == 401
    assert house.get("/oauth/userinfo", token).status_code == 401
    # Nor does one that is signed with the public key in the place of the secret.
    assert house.status(jwt.encode(jwt.decode(token, options={"verify_signature": False}), "x" * 32, algorithm="HS256")) == 401


def test_behind_a_proxy_the_issuer_is_the_public_address(make_house: Callable[..., House]) -> None:
    house = make_house(public_url="https://clinic.example.org/ehr")
    client, _ = house.app()
    public = "https://clinic.example.org/ehr"
    browser = house.browser()
    secret = house.clinic.sign_in.sessions.begin_in_browser(house.account(), "", "", house.clinic.clock.now())
    browser.set_cookie("__Host-session", secret, secure=True, domain="localhost")
    answer = browser.get(f"/oauth/authorize?{house.query(client, aud=f'{public}/fhir')}", base_url="https://localhost")
    place = answer.headers["Location"].removeprefix("/ehr")
    page = browser.get(place, base_url="https://localhost").text
    token = page.split('name="form_token" value="')[1].split('"')[0]
    assert f'action="/ehr{place}"' in page
    scopes = ["openid", "fhirUser", "patient/*.rs"]
    sent = browser.post(place, data={"form_token": token, "answer": "allow", "scope": scopes}, base_url="https://localhost")
    code = sent.headers["Location"].split("code=")[1].split("&")[0]
    claims = jwt.decode(house.redeem(client, code).get_json()["id_token"], options={"verify_signature": False})
    assert (claims["iss"], claims["fhirUser"]) == (public, f"{public}/fhir/Patient/p1")
    assert house.get("/.well-known/openid-configuration").get_json()["issuer"] == public


def test_userinfo_is_for_whom_openid_was_granted(house: House) -> None:
    client, _ = house.app()
    account = house.account("doctor")
    token = house.tokens(account, client, scope="openid fhirUser user/*.rs")["access_token"]
    assert house.get("/oauth/userinfo", token).get_json() == {"sub": account.id, "fhirUser": f"{FHIR}/Practitioner/d1"}
    assert house.post("/oauth/userinfo", {"Authorization": f"Bearer {token}"}).status_code == 200
    plain = house.tokens(account, client, scope="user/*.rs")["access_token"]
    for other, status in ((plain, 403), (house.token("doctor"), 403), (house.clinic.session(account)["access_token"], 403), ("x", 401)):
        assert house.get("/oauth/userinfo", other).status_code == status
    assert house.get("/oauth/userinfo").headers["WWW-Authenticate"] == "Bearer"


def test_a_key_signs_for_90_days_and_is_known_as_long_as_it_counts(make_house: Callable[..., House]) -> None:
    house = make_house()
    with house.clinic.store.database.connection() as connection:
        connection.execute("DELETE FROM signing_key")
    client, _ = house.app()

    def kids() -> list[str]:
        return [key["kid"] for key in house.get("/oauth/jwks").get_json()["keys"]]

    def signer() -> str:
        return str(jwt.get_unverified_header(house.tokens(house.account(), client)["id_token"])["kid"])

    first = signer()
    assert kids() == [first]
    house.clinic.clock.seconds += 90 * DAY - 1
    assert signer() == first
    house.clinic.clock.seconds += 1
    second = signer()
    assert kids() == [second, first]
    house.clinic.clock.seconds += 3601
    assert kids() == [second, first]
    house.clinic.clock.seconds += DAY
    assert kids() == [second]
    assert all(set(key) == {"kty", "n", "e", "kid", "use", "alg"} for key in house.get("/oauth/jwks").get_json()["keys"])


def test_many_processes_make_one_key(make_house: Callable[..., House]) -> None:
    house = make_house()
    now = house.clinic.clock.now()
    makers = [SigningKeys(house.clinic.store, Vault(SECRET)) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        signed = list(pool.map(lambda keys: keys.signed({"a": 1}, now), makers))
    assert len({jwt.get_unverified_header(token)["kid"] for token in signed}) == 1
    # Under another secret the key cannot be opened, and another one is made.
    other = SigningKeys(house.clinic.store, Vault("another secret")).signed({"a": 1}, now)
    assert len({jwt.get_unverified_header(token)["kid"] for token in (*signed, other)}) == 2


def test_a_client_is_told_what_its_tokens_are(house: House) -> None:
    client, secret = house.app("client_secret_post")
    account = house.account()
    tokens = house.tokens(account, client, secret)
    sent = {"client_id": client.id, "client_secret": secret}
    now = int(house.clinic.clock())
    assert house.post("/oauth/introspect", token=tokens["access_token"], **sent).get_json() == {
        "active": True,
        "client_id": client.id,
        "scope": tokens["scope"],
        "iat": now,
        "exp": now + 900,
        "iss": ISSUER,
        "patient": "p1",
        "token_type": "Bearer",
        "username": account.login,
        "sub": account.id,
        "fhirUser": f"{FHIR}/Patient/p1",
    }
    refresh = house.post("/oauth/introspect", token=tokens["refresh_token"], token_type_hint="access_token", **sent).get_json()
    assert (refresh["active"], refresh["exp"], "token_type" in refresh) == (True, now + 90 * DAY, False)


def test_what_is_not_good_or_not_the_caller_s_is_not_active(house: House) -> None:
    client, secret = house.app("client_secret_post")
    other, foreign = house.app("client_secret_post")
    public, _ = house.app()
    account = house.account()
    tokens = house.tokens(account, client, secret)
    own = {"client_id": client.id, "client_secret": secret}
    ended = house.refresh(client, house.tokens(account, client, secret, prompt="consent")["refresh_token"], secret).get_json()
    house.post("/oauth/revoke", token=ended["access_token"], **own)
    told = [house.post("/oauth/introspect", token=tokens["access_token"], client_id=other.id, client_secret=foreign)]
    held = ("x", "x" * 9000, tokens["id_token"], ended["access_token"], ended["refresh_token"], house.token("admin"))
    told += [house.post("/oauth/introspect", token=token, **own) for token in (*held, house.clinic.session(account)["access_token"])]
    assert [each.get_json() for each in told] == [{"active": False}] * len(told)
    assert house.post("/oauth/introspect", token=tokens["access_token"], client_id=public.id).status_code == 401
    assert house.post("/oauth/introspect", token=tokens["access_token"]).status_code == 401
    assert house.post("/oauth/introspect", **own).get_json()["error"] == "invalid_request"


def test_an_admin_is_told_of_every_client_s_tokens(house: House) -> None:
    client = house.service()
    token = house.serve(client).get_json()["access_token"]
    told = house.post("/oauth/introspect", house.admin(), token=token).get_json()
    assert (told["active"], told["client_id"], told["sub"], told["scope"]) == (True, client.id, client.id, "system/*.rs")
    assert house.post("/oauth/introspect", house.admin(), token="x").get_json() == {"active": False}
    assert house.post("/oauth/introspect", {"Authorization": f"Bearer {house.token('doctor')}"}, token=token).status_code == 403


def test_an_admin_is_told_of_tokens_that_no_app_holds(house: House) -> None:
    account = house.account("staff")
    session = house.clinic.session(account)
    told = house.post("/oauth/introspect", house.admin(), token=session["access_token"]).get_json()
    assert (told["active"], told["username"], told["sub"], told["roles"]) == (True, account.login, account.id, ["staff"])
    assert "client_id" not in told
    shell = house.post("/oauth/introspect", house.admin(), token=house.token("admin", user="script")).get_json()
    assert (shell["active"], shell["username"], shell["sub"], shell["scope"]) == (True, "script", "script", "")
    house.clinic.post("logout", session["access_token"])
    assert house.post("/oauth/introspect", house.admin(), token=session["access_token"]).get_json() == {"active": False}
    client, secret = house.app(auth_method="client_secret_basic")
    assert house.post("/oauth/introspect", token=house.token("admin"), client_id=client.id, client_secret=secret).get_json().get("active") is not True


def test_an_app_s_token_of_an_ended_session_is_not_the_server_s_own(house: House) -> None:
    client, _ = house.app()
    tokens = house.tokens(house.account(), client)
    assert house.post("/oauth/revoke", token=tokens["access_token"], client_id=client.id).status_code == 200
    assert house.post("/oauth/introspect", house.admin(), token=tokens["access_token"]).get_json() == {"active": False}


def test_nobody_revokes_the_tokens_of_others(house: House) -> None:
    client, _ = house.app()
    other, _ = house.app()
    tokens = house.tokens(house.account(), client)
    assert house.post("/oauth/revoke", token=tokens["access_token"], client_id=other.id).get_json()["error"] == "invalid_grant"
    assert house.status(tokens["access_token"]) == 200
    for token in ("x", tokens["id_token"], house.token("admin")):
        assert house.post("/oauth/revoke", token=token, token_type_hint="x", client_id=client.id).status_code == 200
    assert house.status(tokens["access_token"]) == 200


@pytest.mark.parametrize(
    "path", ["/.well-known/openid-configuration", "/.well-known/oauth-authorization-server", "/fhir/.well-known/smart-configuration"]
)
def test_discovery_names_what_answers(house: House, path: str) -> None:
    told = house.get(path).get_json()
    assert told.pop("management_endpoint", f"{ISSUER}/account") == f"{ISSUER}/account"
    assert told["issuer"] == ISSUER
    assert told["code_challenge_methods_supported"] == ["S256"]
    places = {name: url for name, url in told.items() if name.endswith("_endpoint") or name == "jwks_uri"}
    names = ("authorization", "token", "introspection", "revocation", "registration", "userinfo")
    assert set(places) == {*(f"{each}_endpoint" for each in names), "jwks_uri"}
    for url in places.values():
        assert url.startswith(f"{ISSUER}/oauth/")
        assert house.get(url.removeprefix(ISSUER)).status_code in (200, 400, 401, 405)


def test_a_host_that_can_be_none_is_refused(house: House) -> None:
    for path in ("/.well-known/openid-configuration", "/oauth/authorize?client_id=x", "/fhir/.well-known/smart-configuration"):
        assert house.get(path, base_url="http://evil.example.org%3Cx%3E").status_code in (400, 404)
