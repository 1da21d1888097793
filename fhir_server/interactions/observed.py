"""What is asked of the record leaves an event in the audit trail: reads and operations one by one, and whatever is denied.

Writes have theirs in their own transaction (`store.transact`). https://hl7.org/fhir/R4/security.html#audit
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final, Literal
from urllib.parse import urlencode

from fhir_server.outcome import Outcome
from fhir_server.store.trail import Event, Kind
from fhir_server.store.witness import watching

from .engine import Engine
from .exchange import Exchange, Reply

_ELSEWHERE: Final = frozenset({"unavailable", "throttled", "timeout", "unauthenticated"})
"""Faults of the moment, which say nothing about the caller and leave no event, and what leaves one where tokens are looked at."""
_DENIED: Final = frozenset({"forbidden", "unauthenticated"})
_SERVERS: Final = 500
_NAMED: Final = re.compile(r"(?:Patient/)?([A-Za-z0-9\-.]{1,64})")
_VERSION: Final = re.compile(r"[0-9]{1,9}", re.ASCII)
_NAMING: Final = frozenset({"patient", "patient:Patient", "subject", "subject:Patient"})


def observed(engine: Engine, exchange: Exchange, run: Callable[[], Reply], operation: str | None = None) -> Reply:
    """What `run` gives, once the trail has an event of it, with every patient whose record was read.

    Raises what it raises, and leaves an event of that too. Raises Outcome `unavailable` where the trail takes none.
    """
    with watching() as patients:
        try:
            reply = run()
        except Outcome as outcome:
            if outcome.category not in _ELSEWHERE:
                _note_fault(engine, exchange, outcome, operation)
            raise
        patients.update(_named(exchange))
        engine.store.note(_event(exchange, _kind(exchange), operation, 0, patients))
    return reply


def guarded(engine: Engine, exchange: Exchange, run: Callable[[], Reply]) -> Reply:
    """What `run` gives; where it is denied, the trail has an event of that."""
    try:
        return run()
    except Outcome as outcome:
        if outcome.category in _DENIED:
            _note_fault(engine, exchange, outcome, None)
        raise


def _note_fault(engine: Engine, exchange: Exchange, outcome: Outcome, operation: str | None) -> None:
    kind: Kind = "denied" if outcome.category in _DENIED else _kind(exchange)
    result: Literal[4, 8] = 8 if outcome.status >= _SERVERS else 4
    engine.store.note(_event(exchange, kind, operation, result, set(_named(exchange)), str(outcome)))


def _kind(exchange: Exchange) -> Kind:
    interaction = exchange.interaction
    assert interaction != "capabilities"
    return "operation" if interaction == "bundle" else interaction


def _event(exchange: Exchange, kind: Kind, operation: str | None, outcome: Literal[0, 4, 8], patients: set[str], detail: str | None = None) -> Event:
    member = exchange.member
    said = f"${operation}" if operation is not None else exchange.interaction if kind == "denied" else None
    path = "/".join(part for part in (exchange.type, exchange.id, member) if part is not None)
    asked = exchange.params or kind == "search" or member is not None
    return Event(
        kind,
        outcome=outcome,
        type=member or exchange.type,
        resource=exchange.id if member is None else None,
        version=int(exchange.version) if exchange.version is not None and _VERSION.fullmatch(exchange.version) else None,
        patients=tuple(sorted(patients)),
        query=f"{path}?{urlencode(exchange.params)}" if asked else None,
        detail=": ".join(part for part in (said, detail) if part) or None,
    ).by(exchange.grant, address=exchange.address, request_id=exchange.request_id)


def _named(exchange: Exchange) -> Iterator[str]:
    """The ids of the patients that a request itself names, or is held to."""
    if exchange.type == "Patient" and exchange.id is not None:
        yield exchange.id
    if exchange.interaction == "search" and exchange.grant.patient is not None:
        yield exchange.grant.patient
    for name, value in exchange.params:
        if name in _NAMING or (name == "_id" and exchange.type == "Patient"):
            for part in value.split(","):
                if named := _NAMED.fullmatch(part):
                    yield named[1]
