"""FHIR create and conditional create. https://hl7.org/fhir/R4/http.html#create"""

from __future__ import annotations

from fhir_server.store.ops import Create

from .conditions import sought
from .engine import Engine
from .exchange import Exchange, Reply
from .writing import allow, write


def create(engine: Engine, exchange: Exchange) -> Reply:
    """201 and the new version; with If-None-Exist 200 and the one match if there is one. Raises Outcome `invalid`, `multiple-matches` and others."""
    return write(engine, exchange, create_op(engine, exchange))


def create_op(engine: Engine, exchange: Exchange) -> Create:
    """The write that a create asks for, its resource checked."""
    name = engine.known_type(exchange.type)
    # Search parameters in the address of a create are no part of R4, but clients that send them mean If-None-Exist; to drop them makes duplicates.
    allow(exchange, name, "c")
    condition = exchange.if_none_exist if exchange.if_none_exist is not None else sought(exchange) or None
    return Create(engine.checked(exchange.body, name), engine.criteria(name, condition) if condition is not None else None)
