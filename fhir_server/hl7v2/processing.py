"""What makes FHIR of a message, as the intake sees it: a function that is given the message and a Work, and says what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from fhir_server.search import Grant
from fhir_server.store.database import Connection
from fhir_server.store.ops import Commit

from .faults import Fault
from .message import Message

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


Hook = Callable[[Connection, Commit], None]
Keep = Callable[[Callable[[Commit], Result]], Hook]


@dataclass(frozen=True, slots=True)
class Work:
    """What a message is processed under.

    `id` is that of the stored message, `received` when it came first, `grant` whom it is written for. `keep` makes of a result, which may depend on
    what was written, the `beside` of the one `Store.transact` that writes: with it the stored message and its acknowledgement are committed together
    with the resources, or not at all. What it raises is not to be caught. `patient` is the id of the one whom an administrator has chosen for it.
    """

    id: str
    received: datetime
    peer: Peer
    grant: Grant
    keep: Keep
    patient: str | None = None


Process = Callable[[Message, Work], Result]
"""Makes FHIR of a message: by one `store.transact(…, work.grant, beside=work.keep(…))` at the most.

The result that it gives back is stored where nothing was kept, as when nothing was to be written. Raises Outcome for what it is told by the store.
"""
