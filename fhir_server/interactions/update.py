"""FHIR update, update as create, and conditional update. https://hl7.org/fhir/R4/http.html#update"""

from __future__ import annotations

from fhir_server.outcome import Outcome
from fhir_server.store.ids import ID_RULE, is_id
from fhir_server.store.ops import Put

from .conditions import conditions
from .engine import Engine
from .exchange import Exchange, Reply
from .writing import allow, write


def update(engine: Engine, exchange: Exchange) -> Reply:
    """200 and the new version, or 201 where there was none. Raises Outcome `precondition`, `multiple-matches`, `invalid`, `malformed` and others."""
    return write(engine, exchange, update_op(engine, exchange))


def update_op(engine: Engine, exchange: Exchange) -> Put:
    """The write that an update asks for, its resource checked and its id the same as in the address.

    Raises Outcome `malformed` where the ids differ or are none, and as `Engine.checked`.
    """
    name = engine.known_type(exchange.type)
    allow(exchange, name, "u")
    resource = engine.checked(exchange.body, name)
    absent = "*" in exchange.if_none_match
    if exchange.id is None:
        return Put(resource, criteria=engine.criteria(name, conditions(exchange)), if_match=exchange.if_match, absent=absent)
    if not is_id(exchange.id):
        raise Outcome("malformed", f"'{exchange.id}' is not an id: {ID_RULE}", code="value")
    if resource.get("id") != exchange.id:
        given = f"'{resource['id']}'" if "id" in resource else "none"
        raise Outcome("malformed", f"The id in the address is '{exchange.id}', that of the body is {given}; they must agree", expression=f"{name}.id")
    return Put(resource, exchange.id, if_match=exchange.if_match, absent=absent)
