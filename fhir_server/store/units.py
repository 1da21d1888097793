"""What one caller does at once, as `Store.transact` is given it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from fhir_server.search import Grant

from .database import Connection
from .ops import Op, Resource
from .snapshot import Snapshot

Ops: TypeAlias = Sequence[Op] | Callable[[Connection, Snapshot], Sequence[Op]]
"""What is to be done, or what says it in the transaction; see `Store.transact`."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What one caller does at once, where several are to be done in one database transaction.

    Its events in the audit trail have the `request_id` and the caller's `address`. A `provenance`, valid but for its targets, is created for all that
    it writes. `seen` are resources (type, id, version) that it goes by and does not write: they have to be of that version still, and stay so until
    the commit. An `operation` of the server's own is named that keeps the rules of bills by itself, which plain writes are held to.
    """

    ops: Ops
    grant: Grant
    request_id: str = ""
    address: str = ""
    provenance: Resource | None = None
    seen: Sequence[tuple[str, str, int]] = ()
    operation: str = ""
