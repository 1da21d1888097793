"""Whatever is sent, the answer is an answer, and nobody gets more than was given."""

from __future__ import annotations

import re
from urllib.parse import urlencode

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_server.access.apps.words import covered, grantable, known, read_word
from fhir_server.access.roles import ROLES
from fhir_server.access.scopes import parse_scopes

from .conftest import BACK, CHALLENGE, FHIR, House

TEXT = st.text(max_size=60)
NAMES = (
    "response_type",
    "client_id",
    "redirect_uri",
    "scope",
    "state",
    "aud",
    "code_challenge",
    "code_challenge_method",
    "prompt",
    "launch",
    "nonce",
)
FIELDS = ("grant_type", "code", "redirect_uri", "client_id", "client_secret", "code_verifier", "refresh_token", "client_assertion", "scope", "token")
WORDS = st.sampled_from(
    [
        *(
            f"{level}/{kind}.{letters}"
            for level in ("patient", "user", "system")
            for kind in ("*", "Patient", "Observation")
            for letters in ("rs", "cruds")
        ),
        *("patient/*.read", "user/Observation.*", "patient/Observation.write", "patient/Observation.rs?category=a", "user/Patient.r?_id=1"),
        *("user/Patient.rs?" + "a&" * 30, "user/Patient.rs?_filter=a.b%20eq%20c", "patient/Observation.c", "user/Observation.r"),
        *("openid", "fhirUser", "launch", "launch/patient", "offline_access", "online_access", "profile", "nonsense", "patient/Foo.rs"),
    ]
)
SCOPES = st.lists(WORDS, max_size=8).map(" ".join)


@given(asked=SCOPES, allowed=SCOPES, roles=st.lists(st.sampled_from(ROLES), max_size=2, unique=True))
def test_what_is_granted_is_among_what_was_asked_and_what_is_allowed(asked: str, allowed: str, roles: list[str]) -> None:
    granted = grantable(asked, allowed, roles)
    resources = [word for word in granted if read_word(word) is not None]
    # A word of version 1 claims its whole half, of which the roles hold a part.
    exact = [word for word in resources if not re.search(r"\.(read|write|\*)", word)]
    assert covered(exact, asked.split())
    assert covered(resources, allowed.split())
    assert all(word in asked.split() for word in granted if word not in resources)
    assert all(word.startswith(("patient/", "user/") if roles else "system/") for word in resources)
    parse_scopes(" ".join(granted), "p1")
    assert known(" ".join(granted)).split() == list(granted)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(params=st.dictionaries(st.sampled_from(NAMES), TEXT), good=st.sets(st.sampled_from(NAMES)))
def test_no_request_to_authorize_fails_here(house: House, params: dict[str, str], good: set[str]) -> None:
    client = house.clients.all()[0] if house.clients.all() else house.app()[0]
    right = {
        "response_type": "code",
        "client_id": client.id,
        "redirect_uri": BACK,
        "scope": "patient/*.rs",
        "aud": FHIR,
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
    }
    sent = params | {name: right[name] for name in good if name in right}
    answer = house.browser().get(f"/oauth/authorize?{urlencode(sent, errors='surrogatepass')}")
    assert answer.status_code in (303, 400)
    if answer.status_code == 303:
        # To the app whose address was registered, or to the sign-in; and to nowhere else.
        assert answer.headers["Location"].startswith((f"{BACK}?", "/sign-in?next=/oauth/authorize%3F"))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    fields=st.dictionaries(st.sampled_from(FIELDS), TEXT),
    grant=st.sampled_from(["authorization_code", "refresh_token", "client_credentials", "x"]),
    path=st.sampled_from(["token", "introspect", "revoke"]),
    header=st.one_of(st.none(), st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=40)),
)
def test_no_form_fails_here(house: House, fields: dict[str, str], grant: str, path: str, header: str | None) -> None:
    body = urlencode({"grant_type": grant} | fields, errors="surrogatepass")
    headers = {"Authorization": header} if header is not None else {}
    kind = "application/x-www-form-urlencoded"
    answer = house.clinic.app.test_client().post(f"/oauth/{path}", data=body, content_type=kind, headers=headers)
    assert answer.status_code in (400, 401, 403)
    assert set(answer.get_json()) <= {"error", "error_description"}


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    metadata=st.dictionaries(
        st.sampled_from(
            ["client_name", "redirect_uris", "grant_types", "scope", "jwks", "jwks_uri", "token_endpoint_auth_method", "allowed_origins"]
        ),
        st.recursive(st.one_of(st.none(), st.booleans(), st.integers(), TEXT), lambda inner: st.lists(inner, max_size=3), max_leaves=5),
    )
)
def test_no_registration_fails_here(house: House, metadata: dict[str, object]) -> None:
    answer = house.register(house.admin(), **metadata)
    assert answer.status_code in (201, 400)
    assert answer.status_code == 400 or all(each.startswith(("https://", "http://")) for each in answer.get_json()["redirect_uris"])


def test_what_people_decide_about_apps_is_in_the_trail(house: House) -> None:
    client, _ = house.app(name="Growth Chart")
    account = house.account()
    browser = house.browser(account)
    tokens = house.redeem(client, house.code(browser, client)).get_json()
    house.fill(browser, house.page(browser, client), answer="deny")
    house.clients.disable(client.id, "admin@example.org", house.clinic.clock.now())
    with house.clinic.store.database.connection() as connection:
        rows = connection.execute(
            "SELECT kind, actor, patients, detail FROM audit_event WHERE resource = %s OR client = %s ORDER BY id", (client.id, client.id)
        ).fetchall()
    told = [(kind, actor, detail) for kind, actor, _, detail in rows if kind in ("client-change", "authorization", "token-issue", "revocation")]
    assert told == [
        ("client-change", "tests", "registered: Growth Chart"),
        ("authorization", account.login, f"let in: {tokens['scope']}"),
        ("token-issue", account.login, None),
        ("authorization", account.login, "not let in"),
        ("revocation", account.login, "app disabled, by admin@example.org"),
        ("client-change", "admin@example.org", "disabled"),
    ]
    assert [patients for kind, _, patients, _ in rows if kind == "authorization"] == [["p1"], ["p1"]]
