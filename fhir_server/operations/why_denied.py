"""`$why-denied`: why an account may or may not do something to a resource, rule by rule, for administrators.

The same engine answers as at every door: each step asks it with a grant that lacks the rules of the steps behind it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from fhir_server import fhirjson
from fhir_server.access import is_administrator
from fhir_server.access.accounts.accounts import standing
from fhir_server.access.consent import closing, denials
from fhir_server.access.gate import is_restricted
from fhir_server.access.restrictions import Restricted, Restrictions
from fhir_server.access.roles import RULES
from fhir_server.access.tokens import person_grant
from fhir_server.interactions import Engine, Exchange, Reply
from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM, Grant
from fhir_server.search.grant import Permission

from .parameters import Inputs

_PERMISSIONS: Final[dict[str, Permission]] = {"read": "r", "search": "s", "create": "c", "update": "u", "delete": "d"}


class _Step(NamedTuple):
    rule: str
    met: bool
    text: str


class _Asked(NamedTuple):
    type: str
    id: str | None
    permission: Permission


def why_denied(engine: Engine, exchange: Exchange) -> Reply:
    """200 and Parameters: `allowed`, and a `step` for each rule in the order in which they count, with `rule`, `met` and `text`.

    `login` is the account's, `reference` the resource, or `type` alone for `create`; `interaction` is read, search, create, update or delete.
    Raises Outcome `forbidden` for anybody but administrators, `not-found` for an unknown login.
    """
    if not is_administrator(exchange.grant):
        raise Outcome("forbidden", "Only administrators may ask why somebody else is denied something")
    login, asked = _inputs(engine, exchange)
    found = standing(engine.store, login)
    if found is None:
        raise Outcome("not-found", f"There is no account '{login[:80]}'")
    state, person = found
    steps = [_Step("account", state == "active", f"The account {person.login} is {state}, with the roles {', '.join(person.roles)}")]
    for step in _rules(engine, person_grant(person), asked):
        if not steps[-1].met:
            break
        steps.append(step)
    parts: list[dict[str, Any]] = [{"name": "allowed", "valueBoolean": all(step.met for step in steps)}]
    for step in steps:
        told = {"rule": ("Code", step.rule), "met": ("Boolean", step.met), "text": ("String", step.text)}
        parts.append({"name": "step", "part": [{"name": name, f"value{kind}": value} for name, (kind, value) in told.items()]})
    return Reply(200, fhirjson.dumps({"resourceType": "Parameters", "parameter": parts}))


def _inputs(engine: Engine, exchange: Exchange) -> tuple[str, _Asked]:
    inputs = Inputs(engine, exchange, ("login", "reference", "type", "interaction"))
    login = inputs.text("login")
    if login is None:
        raise Outcome("parameter", "The parameter 'login' is needed: whose rights are asked about", code="required")
    interaction = inputs.text("interaction") or "read"
    if interaction not in _PERMISSIONS:
        raise Outcome("parameter", f"The parameter 'interaction' is one of {', '.join(_PERMISSIONS)}", code="value")
    try:
        reference = inputs.text("reference")
    except Outcome:
        reference = (inputs.object("reference") or {}).get("reference")
    name, _, identity = (reference or inputs.text("type") or "").partition("/")
    if not name or (not identity and interaction != "create"):
        raise Outcome("parameter", "The parameter 'reference' names a resource, as Observation/7", code="required")
    return login, _Asked(engine.known_type(name), identity or None, _PERMISSIONS[interaction])


def _rules(engine: Engine, grant: Grant, asked: _Asked) -> Iterator[_Step]:
    name, identity, permission = asked
    opening = [role for role in sorted(grant.roles) if any(name in rule.types.split() and permission in rule.permissions for rule in RULES[role])]  # type: ignore[index]  # the roles of an account are known ones
    said = f"by the role {' and '.join(opening)}" if opening else "by none of these roles"
    yield _Step("role", grant.allows(name, permission), f"{name} is open to this {said}")
    if permission == "c" or identity is None:
        return
    exists = _opens(engine, SYSTEM, asked)
    yield _Step("resource", exists, f"{name}/{identity} {'exists' if exists else 'does not exist, or is deleted'}")
    plain = replace(grant, scopes=tuple(replace(scope, query="") for scope in grant.scopes))
    yield _Step("compartment", _opens(engine, plain, asked), _of_patients(grant, asked))
    queries = sorted({way.query for way in grant.ways(name, permission) if way.query})
    needed = f"it has to match {' or '.join(queries)}" if queries else "nothing is asked of its content"
    yield _Step("content", _opens(engine, grant, asked), f"Of what is open by role {needed}")
    if not is_restricted(grant):
        yield _Step("consent", met=True, text="Consents do not restrict a patient's own sight of the record")
        return
    found = Restrictions(engine.store).of(grant)
    yield _consented(engine, grant, asked, found)
    yield _permitted(engine, grant, asked, found)


def _of_patients(grant: Grant, asked: _Asked) -> str:
    held = sorted({way.patient for way in grant.ways(asked.type, asked.permission) if way.patient is not None})
    return f"The account is held to the record of Patient/{', Patient/'.join(held)}" if held else "The account is held to no single patient's record"


def _consented(engine: Engine, grant: Grant, asked: _Asked, found: Restricted) -> _Step:
    now = datetime.now(UTC)
    forbidding = [
        each.id
        for each in found.restrictions
        if (denied := denials([each], found.party, now, engine.registry.zone)) and not _opens(engine, replace(grant, denials=denied), asked)
    ]
    if not forbidding:
        return _Step("consent", met=True, text="No Consent forbids it")
    return _Step("consent", met=False, text=f"Forbidden by Consent/{', Consent/'.join(forbidding)}; a doctor may break the glass")


def _permitted(engine: Engine, grant: Grant, asked: _Asked, found: Restricted) -> _Step:
    if not found.closed:
        return _Step("policy", met=True, text="The policy leaves records open unless a Consent forbids it")
    closed = replace(grant, denials=(closing(found.party),))
    if not closed.denials_of(asked.type):
        return _Step("policy", met=True, text=f"The policy closes clinical records alone, to which {asked.type} does not belong")
    if _opens(engine, closed, asked):
        return _Step("policy", met=True, text="The policy closes records without permission; a Consent permits this, or it is no patient's")
    said = "The policy closes records without permission, and no active Consent of the patient permits it; a doctor may break the glass"
    return _Step("policy", met=False, text=said)


def _opens(engine: Engine, grant: Grant, asked: _Asked) -> bool:
    with engine.store.latest(grant) as db:
        return db.opens(asked.type, str(asked.id), asked.permission)
