"""What makes FHIR of a message, as the intake sees it: steps that look at the record and write to it, and in the end say what came of the message.

A message does not look and write itself, but yields what it wants to look at and to write, and is sent what was found: so messages that are processed
at the same moment look by one statement and write in one transaction (`together`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from fhir_server.hl7v2.text.faults import Fault
from fhir_server.hl7v2.text.message import Message
from fhir_server.search import Grant
from fhir_server.store.ops import Put, Resource, Version

State = Literal["received", "processed", "warning", "unmatched", "unmapped", "invalid", "rejected", "unreadable", "failed"]
"""What became of a message.

`received`: stored, and still to be processed. `processed`, `warning`: its resources are committed, in the second case with faults that somebody
should know of. `unmatched`, `unmapped`, `invalid`: refused until somebody has named the patient, the code, or has mended it. `rejected`: of a type
that is not wanted. `unreadable`: no message at all. `failed`: for a reason of ours, so that the same may go well when it comes again.
"""

OPEN: tuple[State, ...] = ("received", "failed")
"""States in which a message that comes again is processed again; in all others it gets the answer that it got."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Who sends: the transport, `mllp` or `http`, and the name that they are known by, which is an address where there is no better one.

    `request_id` is that of the HTTP request.
    """

    transport: Literal["mllp", "http"]
    name: str
    address: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a message.

    `code` is MSA-1 in original mode. `unhandled` are the segments that nothing was made of, as `ZPI` or `OBX 3`; `patient` is the id of the patient
    that it is about. `written` are the versions, as `Observation/7/_history/2`, that it stands in; those of the commit that it was kept in are added.
    """

    code: Literal["AA", "AE", "AR"]
    state: State
    faults: tuple[Fault, ...] = ()
    unhandled: tuple[str, ...] = ()
    patient: str | None = None
    written: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Work:
    """What a message is processed under.

    `id` is that of the stored message, `received` when it came first, `grant` whom it is written for. `patient` is the id of the one whom an
    administrator has chosen for it.
    """

    id: str
    received: datetime
    peer: Peer
    grant: Grant
    patient: str | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """What a message wants to see of the record: resources by identifier (type, system, value), and by reference (type, id)."""

    identifiers: Sequence[tuple[str, str, str]] = ()
    references: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """What there is of it: current versions, each with the place of its identifier, and by their references."""

    identified: Sequence[tuple[int, Version]] = ()
    versions: Sequence[Version] = ()


@dataclass(frozen=True, slots=True)
class Write:
    """What a message writes, in one transaction, with its `provenance`; `seen` are versions that must not have changed, as those of a `Unit`.

    With a `result` the stored message and its acknowledgement are committed in the same transaction, or nothing is. One that `merges` patients writes
    also what nothing else may change any more.
    """

    ops: Sequence[Put]
    provenance: Resource
    seen: Sequence[tuple[str, str, int]] = ()
    result: Result | None = None
    merges: bool = False


Steps = Generator[Look | Write, Found, Result]
Process = Callable[[Message, Work], Steps]
"""Makes FHIR of a message, in steps. A Look is sent a Found, a Write, once it is committed, one with nothing in it.

The result that it gives back is stored where nothing was kept, as when nothing was to be written. What a step raises comes out of its `yield`: an
Outcome of the store, and Again where the record has changed by another message since it was looked at, and all has to begin with another look.
"""


class Again(Exception):  # noqa: N818 - an event, not a fault
    """A message that goes before this one has written what this one has looked at."""
