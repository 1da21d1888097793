"""From an Exchange to its interaction: the one place that knows them all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fhir_server.outcome import Outcome
from fhir_server.store import Snapshot

from .bundle import process
from .capabilities import capabilities
from .create import create
from .delete import delete
from .engine import Engine
from .exchange import Exchange, Interaction, Reply
from .history import history
from .patch import patch
from .read import read, vread
from .search import search
from .update import update

READS: Final[dict[Interaction, Callable[[Engine, Exchange, Snapshot], Reply]]] = {"read": read, "vread": vread, "search": search, "history": history}
WRITES: Final[dict[Interaction, Callable[[Engine, Exchange], Reply]]] = {"create": create, "update": update, "patch": patch, "delete": delete}
# One statement each, which is consistent by itself.
_SINGLE: Final = frozenset({"read", "vread"})


def dispatch(engine: Engine, exchange: Exchange) -> Reply:
    """Runs one interaction. Raises its Outcome."""
    interaction = exchange.interaction
    if interaction in READS:
        open_view = engine.store.latest if interaction in _SINGLE else engine.store.snapshot
        with open_view(exchange.grant) as db:
            return READS[interaction](engine, exchange, db)
    if interaction in WRITES:
        return WRITES[interaction](engine, exchange)
    if interaction == "capabilities":
        return capabilities(engine, exchange)
    return process(engine, exchange, dispatch, read_in)


def read_in(engine: Engine, exchange: Exchange, db: Snapshot) -> Reply:
    """Runs one interaction that reads, in a snapshot that is open."""
    if exchange.interaction == "capabilities":
        return capabilities(engine, exchange)
    if exchange.interaction not in READS:
        raise Outcome("not-implemented", f"'{exchange.interaction}' cannot stand in a transaction")
    return READS[exchange.interaction](engine, exchange, db)
