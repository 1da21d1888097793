"""What a transaction is about to do: the resources it writes, each with what is there now and what will be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from fhir_server.search import Registry
from fhir_server.store.database import Database
from fhir_server.store.index.dictionary import Dictionary, Parameters
from fhir_server.store.index.rows import Fit
from fhir_server.store.ops import Resource, Written

BY_SERVER: Final = -2
"""In place of an op's number: a write that follows of another, and whose rights are not asked for."""


@dataclass(frozen=True, slots=True)
class Writer:
    """What a transaction needs besides its ops. `registry`, `parameters` and `fit` belong together: they change as one."""

    database: Database
    registry: Registry
    dictionary: Dictionary
    parameters: Parameters
    fit: Fit
    clock: Callable[[], datetime]
    new_id: Callable[[], str]
    referential_integrity: bool


@dataclass(slots=True)
class Current:
    """The current version of a resource, locked. `body` is None for a deletion."""

    rid: int
    version: int
    deleted: bool
    updated: datetime
    body: str | None
    vid: int


@dataclass(slots=True)
class Target:
    """One resource that an op writes: what is there now, and what will be. `met` is the version number that met the op's condition.

    `unseen` says that what is there now is not for the caller's eyes, so that they are told what they would be told if there were nothing.
    `patients` are the ids of those whose record it belongs to, before or after.
    """

    op: int
    type: str
    id: str
    method: str
    rid: int = 0
    version: int = 1
    at: datetime | None = None
    current: Current | None = None
    resource: Resource | None = None
    body: bytes | None = None
    unmatched: bool = False
    met: int | None = None
    unseen: bool = False
    patients: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Plan:
    """All of a transaction: its targets, what became of ops that write nothing, where links lead, and how many each delete took."""

    targets: list[Target] = field(default_factory=list)
    written: dict[int, Written] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    deleted: dict[int, int] = field(default_factory=dict)
