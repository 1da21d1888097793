from __future__ import annotations

import base64
import json
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.access import grant_of, issue
from fhir_server.access.roles import AUDIT, BILLING, CLINICAL, DIRECTORY, PERSONAL, RELEASED, SCHEDULING, TEMPLATES
from fhir_server.access.tokens import AUDIENCE, ISSUER
from fhir_server.outcome import Outcome
from fhir_server.search import Grant
from fhir_server.search.grant import Way
from fhir_server.spec import r4

SECRET = "a-secret-of-more-than-thirty-two-bytes"
NOW = 1_800_000_000.0


def token(**given_parts: Any) -> str:
    parts: dict[str, Any] = {"role": None, "user": None, "patient": None, "scope": None, "ttl": 60, "now": NOW} | given_parts
    return issue(SECRET, **parts)


def grant(**given_parts: Any) -> Grant:
    return grant_of(SECRET, token(**given_parts), NOW)


def signed(**changes: Any) -> str:
    claims: dict[str, Any] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "x",
        "jti": "1",
        "iat": int(NOW),
        "exp": int(NOW) + 60,
        "roles": ["admin"],
        "scope": "",
    }
    return jwt.encode({name: value for name, value in (claims | changes).items() if value is not None}, SECRET, algorithm="HS256")


def test_admin_reads_everything_and_writes_what_is_not_clinical() -> None:
    found = grant(role="admin", user="ada")
    assert found.actor == "ada"
    assert found.roles == {"admin"}
    assert found.patient is None
    # A letterhead is a Binary too.
    shut = {*CLINICAL.split(), "AuditEvent"} - {"Binary"}
    for name in r4().resource_types:
        assert found.allows(name, "r")
        assert found.allows(name, "s")
        assert [found.allows(name, permission) for permission in ("c", "u", "d")] == [name not in shut] * 3


def test_a_backend_service_has_its_scope_and_no_role() -> None:
    found = grant(scope="system/*.cruds")
    assert found.roles == frozenset()
    assert found.allows("Patient", "d")


@pytest.mark.parametrize(
    ("scope", "allowed", "refused"),
    [
        ("system/Patient.rs", [("Patient", "r"), ("Patient", "s")], [("Patient", "c"), ("Observation", "r")]),
        ("system/*.read", [("Group", "r"), ("Group", "s")], [("Group", "u")]),
        ("system/Patient.write", [("Patient", "c"), ("Patient", "u"), ("Patient", "d")], [("Patient", "r")]),
        ("system/Patient.*", [("Patient", "d")], [("Group", "r")]),
        ("system/Patient.r system/Group.c", [("Patient", "r"), ("Group", "c")], [("Group", "r"), ("Patient", "c")]),
    ],
)
def test_scopes_of_both_versions(scope: str, allowed: list[tuple[str, Any]], refused: list[tuple[str, Any]]) -> None:
    found = grant(scope=scope)
    assert all(found.allows(*pair) for pair in allowed)
    assert not any(found.allows(*pair) for pair in refused)


def test_a_scope_narrows_a_role_and_never_widens_it() -> None:
    found = grant(role="doctor", scope="user/*.rds")
    assert found.allows("Observation", "r")
    assert not found.allows("Observation", "u")
    assert not found.allows("Observation", "d")
    assert not grant(role="staff", scope="user/Observation.rs").allows("Observation", "r")


def test_an_app_without_a_scope_has_nothing_of_the_role() -> None:
    assert grant_of(SECRET, signed(), NOW).allows("Patient", "r")
    assert grant_of(SECRET, signed(client_id="an app"), NOW).scopes == ()
    assert grant_of(SECRET, signed(client_id="an app", scope="openid"), NOW).scopes == ()


def test_patient_scopes_bind_to_the_patient() -> None:
    found = grant(scope="patient/Observation.rs", patient="p1")
    assert found.patient == "p1"
    assert found.allows("Observation", "s")
    assert grant(role="patient", patient="p1").patient == "p1"


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({}, "role or a scope"),
        ({"role": "patient"}, "need the id"),
        ({"scope": "patient/*.rs"}, "need the id"),
        ({"role": "doctor", "patient": "1"}, "goes with"),
        ({"role": "patient", "patient": "not an id"}, "not the id"),
        ({"scope": "user/*.rs"}, "need a role"),
        ({"scope": "system/*.rs?name=x"}, "query"),
        ({"scope": "system/Patient.cruds?name=x"}, "query"),
        ({"scope": "system/Patient.rs?"}, "query"),
        ({"scope": "system/Patiant.rs"}, "R4 does not have"),
        ({"scope": "system/Patient.sr"}, "is not a scope"),
        ({"scope": "system/Patient."}, "is not a scope"),
        ({"scope": "openid"}, "role or a scope"),
        ({"scope": "openId system/*.rs"}, "is not a scope"),
        ({"scope": "system/Observation.rs?subject:Patient.name=x"}, "own parameters"),
        ({"scope": "system/Observation.rs?_filter=subject.name+eq+x"}, "own parameters"),
        ({"scope": "system/Patient.rs?_has:Observation:subject:code=x"}, "own parameters"),
        ({"scope": "system/Patient.rs?_list=l1"}, "own parameters"),
        ({"scope": f"system/Patient.rs?{'gender=x&' * 20}gender=x"}, "at most 20"),
    ],
)
def test_what_does_not_fit_together_is_refused_at_issue(parts: dict[str, Any], says: str) -> None:
    with pytest.raises(Outcome, match=says) as caught:
        token(**parts)
    assert caught.value.status == 400


def test_a_token_is_good_until_its_time_is_over_also_from_the_cache() -> None:
    made = token(role="admin", ttl=60)
    assert grant_of(SECRET, made, NOW + 59.9).roles == {"admin"}
    for moment in (NOW + 60, NOW - 3600):
        with pytest.raises(Outcome) as caught:
            grant_of(SECRET, made, moment)
        assert caught.value.status == 401
        assert caught.value.headers["WWW-Authenticate"].startswith('Bearer error="invalid_token"')


def unsigned() -> str:
    header, payload = {"alg": "none", "typ": "JWT"}, jwt.decode(signed(), options={"verify_signature": False})
    return f"{encoded(header)}.{encoded(payload)}."


def encoded(part: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "x",
        "a.b.c",
        "x" * 10_000,
        unsigned(),
        signed(iss="somebody else"),
        signed(iss=None),
        signed(aud="somebody else"),
        signed(aud=None),
        signed(exp=None),
        signed(exp="soon"),
        signed(roles=None),
        signed(roles=["patient"]),
        signed(roles=["patient"], patient="../1"),
        signed(scope=None),
        signed(scope="of/another.version"),
        jwt.encode({"sub": "x"}, SECRET, algorithm="HS256"),
        jwt.encode(jwt.decode(signed(), options={"verify_signature": False}), SECRET * 2, algorithm="HS512"),
        jwt.encode(jwt.decode(signed(), options={"verify_signature": False}), "another-secret-of-thirty-two-bytes!", algorithm="HS256"),
    ],
)
def test_what_this_server_has_not_made_is_refused(bad: str) -> None:
    with pytest.raises(Outcome) as caught:
        grant_of(SECRET, bad, NOW)
    assert caught.value.status == 401


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_no_changed_byte_is_taken(place: int, change: int) -> None:
    made = signed()
    place %= len(made)
    other = made[:place] + chr(ord(made[place]) ^ change) + made[place + 1 :]
    header, payload, signature = made.split(".")
    if other.split(".")[:2] == [header, payload] and _bits(other.rpartition(".")[2]) == _bits(signature):
        return  # Unused bits of base64's last character: the same signature.
    with pytest.raises(Outcome):
        grant_of(SECRET, other, NOW)


def _bits(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text + "=")
    except ValueError:
        return b""


@given(st.text(max_size=200))
def test_no_text_is_a_token(text: str) -> None:
    with pytest.raises(Outcome) as caught:
        grant_of(SECRET, text, NOW)
    assert caught.value.status == 401


def test_roles_name_types_of_r4_once() -> None:
    names = [name for group in (CLINICAL, DIRECTORY, PERSONAL, SCHEDULING, BILLING, TEMPLATES, AUDIT) for name in group.split()]
    assert len(names) == len(set(names))
    assert set(names) <= set(r4().resource_types)


def test_levels_go_together_each_within_its_own_bounds() -> None:
    found = grant(role="doctor", scope="openid fhirUser launch/patient patient/Observation.rs user/Practitioner.r offline_access", patient="p1")
    assert found.ways("Observation") == (Way("p1", ""),)
    assert found.ways("Practitioner") == (Way(None, ""),)
    assert found.patient is None
    assert not found.allows("Practitioner", "s")
    assert not found.allows("Condition", "r")


def test_what_narrows_twice_has_to_match_both() -> None:
    found = grant(role="patient", scope="patient/Observation.rs?category=laboratory user/*.rs", patient="p1")
    assert Way("p1", RELEASED) in found.ways("Observation")
    narrow = grant(role="patient", scope="patient/Observation.rs?category=laboratory", patient="p1")
    assert narrow.ways("Observation") == (Way("p1", f"{RELEASED}&category=laboratory"),)
    assert not narrow.allows("Patient", "u")
