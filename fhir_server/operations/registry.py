"""Which operations there are, and at which level each may be called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from fhir_server.interactions import Engine, Exchange, Reply
from fhir_server.interactions.search_parameters import status
from fhir_server.outcome import Outcome
from fhir_server.settings import CANON

from .validate import validate

Level = Literal["system", "type", "instance"]


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: its definition's URL, the levels it works at, whether it changes anything, what does it, and the types it is for if not all."""

    definition: str
    levels: frozenset[Level]
    affects_state: bool
    run: Callable[[Engine, Exchange], Reply]
    types: frozenset[str] | None = None


_OPERATIONS: Final = {
    "validate": Operation(
        "http://hl7.org/fhir/OperationDefinition/Resource-validate", frozenset({"type", "instance"}), affects_state=False, run=validate
    ),
    "status": Operation(
        f"{CANON}/OperationDefinition/SearchParameter-status",
        frozenset({"type", "instance"}),
        affects_state=False,
        run=lambda engine, exchange: status(engine.store, exchange),
        types=frozenset({"SearchParameter"}),
    ),
}


def names() -> dict[str, str]:
    """The operations on every resource type by name, with the URL of each definition."""
    return {name: operation.definition for name, operation in _OPERATIONS.items() if "type" in operation.levels and operation.types is None}


def dispatch_operation(engine: Engine, level: Level, exchange: Exchange, name: str) -> Reply:
    """Runs an operation; `exchange.body` is its Parameters, or the resource itself. Raises Outcome `not-found` for one that is not here."""
    operation = _OPERATIONS.get(name)
    if operation is None or level not in operation.levels or (operation.types is not None and exchange.type not in operation.types):
        raise Outcome("not-found", f"There is no operation ${name} on this {level}", code="not-supported")
    return operation.run(engine, exchange)
