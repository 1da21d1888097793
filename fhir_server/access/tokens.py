"""Bearer tokens: JSON Web Tokens signed with HS256 by this server for itself.

https://www.rfc-editor.org/rfc/rfc7519, https://www.rfc-editor.org/rfc/rfc6750, https://www.rfc-editor.org/rfc/rfc8725
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import jwt

from fhir_server.outcome import Outcome
from fhir_server.search import Grant, Scope
from fhir_server.store.ids import is_id

from .roles import ROLES, Role, editable, hidden, role_acts, role_scopes
from .scopes import BOARD, Scopes, narrow, parse_scopes

ISSUER: Final = "urn:fhir-server"
AUDIENCE: Final = "urn:fhir-server:fhir"
"""What every access token is for; an ID token, which is for an app, opens nothing here."""
_ALGORITHM: Final = "HS256"
_MAX_LENGTH: Final = 8192  # Characters: beyond what proxies let through in a header.
_SKEW: Final = 60  # Seconds that the clocks of two hosts of one clinic may differ.
_CLAIMS: Final = {"iss": str, "aud": str, "sub": str, "jti": str, "iat": int, "exp": int, "roles": list, "scope": str}


IsAlive = Callable[[str, float], bool]
"""Whether the session of an id is open at a time."""


@dataclass(frozen=True, slots=True)
class Person:
    """What the token of a session says of whoever has signed in; `account` is the id of their account."""

    login: str
    roles: tuple[str, ...]
    patient: str | None = None
    fhir_user: str | None = None
    password_expired: bool = False
    account: str | None = None


def issue(
    secret: str,
    *,
    role: Role | None,
    user: str | None,
    patient: str | None,
    scope: str | None,
    ttl: int,
    now: float,
    fhir_user: str | None = None,
) -> str:
    """A signed token that is good for `ttl` seconds from `now` (seconds since 1970), for a `user` who is `fhir_user` in FHIR, as `Practitioner/7`.

    A role and a scope together give what both allow; a scope alone is a backend service's own. Raises Outcome `parameter` where the parts
    do not fit together: neither role nor scope, a patient's role or `patient/` scopes without the patient, a patient that nothing is bound to,
    or `user/` scopes without a role.
    """
    if patient is not None and not is_id(patient):
        raise Outcome("parameter", f"'{patient[:80]}' is not the id of a patient")
    scopes = parse_scopes(scope or "", patient)
    if BOARD in (scope or "").split():
        raise Outcome("parameter", "The scope board goes with the id of a location, and with nothing else")
    _refuse_contradictions(role, patient, scopes)
    claims: dict[str, Any] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": user or (f"role/{role}" if role else "service"),
        "jti": secrets.token_urlsafe(16),
        "iat": int(now),
        "exp": int(now) + ttl,
        "roles": [role] if role else [],
        "scope": " ".join((scope or "").split()),
    }
    if patient is not None:
        claims["patient"] = patient
    if fhir_user is not None:
        claims["fhirUser"] = fhir_user
    return jwt.encode(claims, secret, algorithm=_ALGORITHM)


def issue_board(secret: str, location: str, *, ttl: int, now: float) -> str:
    """A signed token that opens the board of a Location's queue and nothing else, for `ttl` seconds from `now` (seconds since 1970).

    Raises Outcome `parameter` for what is no id.
    """
    if not is_id(location):
        raise Outcome("parameter", f"'{location[:80]}' is not the id of a location")
    times = {"iat": int(now), "exp": int(now) + ttl}
    named = {"sub": f"board/{location}", "jti": secrets.token_urlsafe(16), "roles": [], "scope": BOARD, "location": location}
    return jwt.encode({"iss": ISSUER, "aud": AUDIENCE, **named, **times}, secret, algorithm=_ALGORITHM)


def issue_session(secret: str, person: Person, *, session: str, ttl: int, now: float) -> str:
    """A signed token of a person's session, good for `ttl` seconds from `now` (seconds since 1970) and no longer than the session.

    Where the password has to be changed first it carries no role, and so opens nothing.
    """
    claims: dict[str, Any] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": person.login,
        "jti": secrets.token_urlsafe(16),
        "iat": int(now),
        "exp": int(now) + ttl,
        "roles": [] if person.password_expired else list(person.roles),
        "scope": "",
        "sid": session,
        **_told(person),
    }
    return jwt.encode(claims, secret, algorithm=_ALGORITHM)


def issue_app(secret: str, person: Person | None, *, client: str, scope: str, context: dict[str, str], session: str, ttl: int, now: float) -> str:
    """A signed token of an app that a person has let in, or of a backend service where there is none; good for `ttl` seconds from `now`.

    `scope` is the whole text that was granted; `context` what the app was opened for: `patient` and `encounter`, where there are any.
    """
    claims: dict[str, Any] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": person.login if person is not None else client,
        "jti": secrets.token_urlsafe(16),
        "iat": int(now),
        "exp": int(now) + ttl,
        "roles": list(person.roles) if person is not None else [],
        "scope": scope,
        "sid": session,
        "client_id": client,
    }
    if person is not None:
        claims |= _told(person)
        # The patient is whom the app is opened for.
        claims.pop("patient", None)
    claims |= context
    return jwt.encode(claims, secret, algorithm=_ALGORITHM)


def claims_of(secret: str, token: str, now: float) -> dict[str, Any] | None:
    """The claims of a token that is good at `now` (seconds since 1970), without a look at its session; None for any other."""
    try:
        session_and_grant(secret, token, now)
    except Outcome:
        return None
    found: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return found


def _told(person: Person) -> dict[str, str]:
    stated = {"patient": person.patient, "fhirUser": person.fhir_user, "account": person.account}
    return {name: value for name, value in stated.items() if value is not None}


def person_grant(person: Person) -> Grant:
    """The grant that a person's own session has, before what patients have forbidden."""
    return _grant({"sub": person.login, "roles": list(person.roles), "scope": "", **_told(person)})


def grant_of(secret: str, token: str, now: float, is_alive: IsAlive | None = None) -> Grant:
    """The grant of a token at `now` (seconds since 1970).

    Raises Outcome `unauthenticated` with a `WWW-Authenticate` header for any token that this server has not made, or whose time is not now.
    Costs about 1 µs for a token seen lately, 60 µs for a new one, and the question besides for one of a session: that is good only while `is_alive`,
    given the session's id and `now`, says so.
    """
    session, grant = session_and_grant(secret, token, now)
    if session is not None and not (is_alive is not None and is_alive(session, now)):
        raise ended()
    return grant


def session_and_grant(secret: str, token: str, now: float) -> tuple[str | None, Grant]:
    """The id of the session that a token belongs to, None for one that was made for itself, and its grant, without a look at the session.

    Raises Outcome `unauthenticated` as `grant_of`.
    """
    if len(token) > _MAX_LENGTH:
        raise _refused("The token is too long")
    starts, ends, session, grant = _verified(secret, token)
    if now >= ends:
        raise _refused("The token has expired")
    if now < starts - _SKEW:
        raise _refused("The token is of the future; compare the clocks")
    return session, grant


def _refuse_contradictions(role: Role | None, patient: str | None, scopes: Scopes) -> None:
    if role is None and not scopes.resources:
        raise Outcome("parameter", "A role or a scope is needed")
    bound = role == "patient" or "patient" in scopes.levels
    if bound and patient is None:
        raise Outcome("parameter", "The role patient and scopes that begin with patient/ need the id of the patient")
    if patient is not None and not bound:
        raise Outcome("parameter", "A patient goes with the role patient or with scopes that begin with patient/")
    if role is None and "user" in scopes.levels:
        raise Outcome("parameter", "Scopes that begin with user/ need a role")


# An entry is some 10 kB at the most; what fails is not kept, so that nobody can push good tokens out.
@lru_cache(maxsize=1024)
def _verified(secret: str, token: str) -> tuple[int, int, str | None, Grant]:
    try:
        # The times are checked at each use, against the caller's clock.
        claims = jwt.decode(
            token,
            secret,
            algorithms=[_ALGORITHM],
            issuer=ISSUER,
            audience=AUDIENCE,
            options={"verify_exp": False, "verify_iat": False, "verify_nbf": False},
        )
    except (jwt.InvalidTokenError, ValueError, RecursionError):
        raise _refused("The token is not one of this server, or was changed") from None
    if any(type(claims.get(name)) is not kind for name, kind in _CLAIMS.items()):
        raise _refused("The token lacks a claim")
    try:
        grant = _grant(claims)
        return claims["iat"], claims["exp"], grant.session, grant
    except Outcome as error:
        raise _refused("The token carries a scope that this server does not know") if error.category == "parameter" else error from None


def _grant(claims: dict[str, Any]) -> Grant:
    roles = [role for role in ROLES if role in claims["roles"]]
    patient, user = _optional(claims, "patient"), _optional(claims, "fhirUser")
    if patient is not None and not is_id(patient):
        raise _refused("The token lacks the patient it is bound to")
    asked = parse_scopes(claims["scope"], patient)
    # The patient of an app that a clinician has opened is whom it is about; that of everybody else is themselves.
    own = patient if roles == ["patient"] else _own(user)
    if roles == ["patient"] and own is None:
        raise _refused("The token lacks the patient it is bound to")
    open_to_roles = tuple(scope for role in roles for scope in role_scopes(role, user, own))
    if roles:
        # Only to people themselves is all open that is open to their roles; an app has what its scopes say, and nothing without any.
        whole = not claims["scope"] and "client_id" not in claims
        scopes = open_to_roles if whole else narrow(open_to_roles, asked.resources)
        acts_of_roles = tuple(scope for role in roles for scope in role_acts(role, own))
        acts = acts_of_roles if whole else narrow(acts_of_roles, asked.resources)
        reach = None if whole else open_to_roles
    else:
        # Without a role, what is held to a patient is that patient's own app.
        held = tuple(scope for scope in asked.resources if scope.patient is not None)
        free = tuple(scope for scope in asked.resources if scope.patient is None)
        of_patient = role_scopes("patient", None, patient)
        scopes = (*narrow(of_patient, held), *free)
        # A scope for all of another type, as system/Organization.rs, shows no file that a patient's own app does not see.
        unheld = not held or any(scope.type in {"*", "Binary"} for scope in free)
        reach = (*of_patient, Scope("*", frozenset("rs"))) if unheld else of_patient
        acts = (*narrow(role_acts("patient", patient), held), *free)
    return Grant(
        claims["sub"],
        frozenset(roles),
        scopes,
        editable=editable(roles or (["patient"] if "system" not in asked.levels else [])),
        hidden=hidden(roles),
        acts=acts,
        account=_optional(claims, "account"),
        session=_optional(claims, "sid"),
        client=_optional(claims, "client_id"),
        user=user,
        reach=reach,
        board=_optional(claims, "location") if claims["scope"] == BOARD and not roles else None,
    )


def _own(user: str | None) -> str | None:
    return user.removeprefix("Patient/") if user is not None and user.startswith("Patient/") else None


def _optional(claims: dict[str, Any], name: str) -> str | None:
    value = claims.get(name)
    if value is not None and not isinstance(value, str):
        raise _refused("The token lacks a claim")
    return value


def ended() -> Outcome:
    """What is said of a token whose session is over."""
    return _refused("The session has ended; sign in again")


def _refused(reason: str) -> Outcome:
    return Outcome("unauthenticated", reason, headers={"WWW-Authenticate": f'Bearer error="invalid_token", error_description="{reason}"'})
