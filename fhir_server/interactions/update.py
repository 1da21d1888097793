"""FHIR update, update as create, and conditional update. https://hl7.org/fhir/R4/http.html#update"""

from __future__ import annotations

import re
from typing import Final

from fhir_server.outcome import Outcome
from fhir_server.store.ops import Put

from .conditions import conditions
from .create import allow, written_reply
from .engine import Engine
from .exchange import Exchange, Reply
from .provenance import provenance

_ID: Final = re.compile(r"[A-Za-z0-9\-.]{1,64}")


def update(engine: Engine, exchange: Exchange) -> Reply:
    """200 and the new version, or 201 where there was none. Raises Outcome `precondition`, `multiple-matches`, `invalid`, `malformed` and others."""
    (written,) = engine.store.transact(
        [update_op(engine, exchange)],
        exchange.grant,
        request_id=exchange.request_id,
        address=exchange.address,
        provenance=provenance(engine, exchange),
    ).written
    return written_reply(written, exchange.grant)


def update_op(engine: Engine, exchange: Exchange) -> Put:
    """The write that an update asks for, its resource checked and its id the same as in the address."""
    name = engine.known_type(exchange.type)
    allow(exchange, name, "u")
    resource = engine.checked(exchange.body, name)
    absent = "*" in exchange.if_none_match
    if exchange.id is None:
        return Put(resource, criteria=engine.criteria(name, conditions(exchange)), if_match=exchange.if_match, absent=absent)
    if not _ID.fullmatch(exchange.id):
        raise Outcome("malformed", f"'{exchange.id}' is not an id: 1 to 64 of A-Z, a-z, 0-9, '-' and '.'", code="value")
    if resource.get("id") != exchange.id:
        given = f"'{resource['id']}'" if "id" in resource else "none"
        raise Outcome("malformed", f"The id in the address is '{exchange.id}', that of the body is {given}; they must agree", expression=f"{name}.id")
    return Put(resource, exchange.id, if_match=exchange.if_match, absent=absent)
