"""From an Exchange to its interaction: the one place that knows them all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final

from fhir_server.outcome import Outcome
from fhir_server.store import Snapshot
from fhir_server.store.standing import Unsettled

from . import audit_trail
from .bundle.process import process
from .capabilities import capabilities
from .create import create
from .delete import delete
from .engine import Engine
from .exchange import Exchange, Interaction, Reply
from .history import history
from .observed import guarded, observed
from .patch import patch
from .read import read, vread
from .search import search
from .update import update

READS: Final[dict[Interaction, Callable[[Engine, Exchange, Snapshot], Reply]]] = {"read": read, "vread": vread, "search": search, "history": history}
WRITES: Final[dict[Interaction, Callable[[Engine, Exchange], Reply]]] = {"create": create, "update": update, "patch": patch, "delete": delete}
# One statement each, which is consistent by itself.
_SINGLE: Final = frozenset({"read", "vread"})
_EVENTS: Final[dict[Interaction, Callable[[Engine, Exchange, Snapshot], Reply]]] = {
    "read": audit_trail.read,
    "vread": audit_trail.vread,
    "search": audit_trail.search,
    "history": audit_trail.history,
}


def no_operations(_engine: Engine, exchange: Exchange) -> Reply:
    """Raises Outcome `not-found`: where an Exchange is made by the server itself there are none."""
    raise Outcome("not-found", f"There is no operation ${exchange.operation} here", code="not-supported")


def dispatch(engine: Engine, exchange: Exchange, operate: Callable[[Engine, Exchange], Reply] = no_operations) -> Reply:
    """Runs one interaction. Raises its Outcome. The audit trail has an event of it when this returns, or within 0.1 s (`store.trail.recorder`).

    `operate` runs an operation, whether it is asked for alone or in a batch.
    """
    interaction = exchange.interaction
    if exchange.standing is not None and (interaction != "read" or exchange.type == "AuditEvent"):
        raise TypeError("only a read of the record asks what its grant stands on")
    if interaction in READS:
        return observed(engine, exchange, lambda: _read(engine, exchange))
    if interaction == "operation":
        return operate(engine, exchange)
    if interaction == "capabilities":
        return capabilities(engine, exchange)
    return guarded(engine, exchange, lambda: _write(engine, exchange, operate))


def read_in(engine: Engine, exchange: Exchange, db: Snapshot) -> Reply:
    """Runs one interaction that reads, in a snapshot that is open."""
    if exchange.interaction == "capabilities":
        return capabilities(engine, exchange)
    if exchange.interaction not in READS:
        raise Outcome("not-implemented", f"'{exchange.interaction}' cannot stand in a transaction")
    return observed(engine, exchange, lambda: _reader(exchange)(engine, exchange, db))


def _read(engine: Engine, exchange: Exchange) -> Reply:
    open_view = engine.store.latest if exchange.interaction in _SINGLE else engine.store.snapshot
    try:
        with open_view(exchange.grant) as db:
            return _reader(exchange)(engine, exchange, db)
    except Unsettled as found:
        if exchange.standing is None:
            raise
        # Without the view, whose connection others may wait for to settle theirs.
        grant = exchange.standing.settle(found.generation, found.is_open)
    return _read(engine, replace(exchange, grant=grant, standing=None))


def _reader(exchange: Exchange) -> Callable[[Engine, Exchange, Snapshot], Reply]:
    return (_EVENTS if "AuditEvent" in (exchange.type, exchange.member) else READS)[exchange.interaction]


def _write(engine: Engine, exchange: Exchange, operate: Callable[[Engine, Exchange], Reply]) -> Reply:
    if exchange.interaction not in WRITES:
        return process(engine, exchange, partial(dispatch, operate=operate), read_in)
    if exchange.type == "AuditEvent":
        if exchange.interaction != "create":
            raise Outcome("method", "An AuditEvent cannot be changed or deleted", headers={"Allow": "GET, HEAD, POST"})
        return audit_trail.create(engine, exchange)
    return WRITES[exchange.interaction](engine, exchange)
