"""Writes as data: what `Store.transact` is given, and what it answers.

https://hl7.org/fhir/R4/http.html#cud
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from fhir_server.search import Query

Resource = dict[str, Any]
Outcome = Literal["created", "updated", "deleted", "found", "nothing"]


@dataclass(slots=True)
class Create:
    """A new resource with an id of the server's choice; with `if_none_exist` only where nothing matches, else the one match is the result.

    `link` is the entry's fullUrl in a transaction: every reference to it is rewritten to the identity that the resource gets.
    """

    resource: Resource
    if_none_exist: Query | None = None
    link: str | None = None


@dataclass(slots=True)
class Put:
    """A whole new content for a known id, or for the one match of `criteria` (none: it is created, with the id of the body if it has one).

    `if_match` is the version that must be current; `absent` (If-None-Match: *) demands that there is none.
    """

    resource: Resource
    id: str | None = None
    criteria: Query | None = None
    if_match: str | None = None
    absent: bool = False
    link: str | None = None


@dataclass(slots=True)
class Patch:
    """A change computed from the current content, for a known id or for the one match of `criteria`.

    `apply` gets the current resource and returns the new one; it may raise. It may be called again when the transaction is retried.
    """

    type: str
    apply: Callable[[Resource], Resource]
    id: str | None = None
    criteria: Query | None = None
    if_match: str | None = None
    link: str | None = None


@dataclass(slots=True)
class Delete:
    """The end of a resource: a known id, the one match of `criteria`, or with `multiple` every match. Repeating it changes nothing."""

    type: str
    id: str | None = None
    criteria: Query | None = None
    if_match: str | None = None
    multiple: bool = False
    link: str | None = None


Op = Create | Put | Patch | Delete


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a resource as it is stored. `body` is JSON with id and meta in place, None for a deletion."""

    type: str
    id: str
    version: int
    at: datetime
    method: Literal["POST", "PUT", "PATCH", "DELETE"]
    body: bytes | None


@dataclass(frozen=True, slots=True)
class Written:
    """What became of one op. `found`: `if_none_exist` had a match, which is `version`; `nothing`: there was nothing to delete."""

    outcome: Outcome
    version: Version | None
    deleted: int = 0


@dataclass(frozen=True, slots=True)
class Lookup:
    """A conditional reference of a transaction: the text as it stands in the resources (`Patient?identifier=…`) and its Query."""

    text: str
    query: Query


@dataclass(frozen=True, slots=True)
class Commit:
    """A transaction that is durable: one Written per op, in the order of the ops; where `repeated`, an earlier one had the same key."""

    written: tuple[Written, ...]
    at: datetime
    links: Mapping[str, str] = field(default_factory=dict)
    repeated: bool = False
