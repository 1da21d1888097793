"""One request and its answer, without HTTP: what REST, Bundle entries and operations hand to an interaction and get back."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from fhir_server.outcome import Issue
from fhir_server.search import Grant
from fhir_server.store.standing import Standing

Interaction = Literal["read", "vread", "update", "patch", "delete", "create", "search", "history", "capabilities", "bundle", "operation"]

Returning = Literal["minimal", "representation", "OperationOutcome"]


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request.

    `base` is the absolute FHIR base as the caller sees it, without a slash at its end. `params` are the query and form parameters in order,
    decoded, with `_format` and `_pretty` taken out. `body` is the decoded resource, or the list of a JSON Patch. `member` is what a search in the
    compartment of `type` and `id` is for: a type, or `*`.
    The preconditions are those of https://hl7.org/fhir/R4/http.html: `if_match` a version id, `if_none_match` version ids or `*`.
    `address` is where the request comes from, `provenance` the JSON of the header X-Provenance.
    `standing` is what the grant stands on where that is still to be asked, which a plain read does.
    `operation` is the name of one, without its dollar sign. `method` is that of HTTP, `key` the Idempotency-Key of operations.
    `later` is whether they want the answer later (`Prefer: respond-async`).
    `returning` is what `Prefer: return` asks for: interactions heed it in the entries of a Bundle, the way in does for a single answer.
    """

    interaction: Interaction
    grant: Grant
    base: str
    type: str | None = None
    id: str | None = None
    version: str | None = None
    params: tuple[tuple[str, str], ...] = ()
    body: Any = None
    if_match: str | None = None
    if_none_match: tuple[str, ...] = ()
    if_modified_since: datetime | None = None
    if_none_exist: str | None = None
    strict: bool = True
    returning: Returning | None = None
    request_id: str = ""
    member: str | None = None
    address: str = ""
    provenance: bytes | None = None
    standing: Standing | None = None
    key: str | None = None
    method: str = "POST"
    later: bool = False
    operation: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer.

    `body` is the JSON of a resource or Bundle, None where there is nothing to say (204, 304). `type`, `id`, `version` and `last_modified`
    name the version that was read or written, for ETag, Last-Modified and Location; they are None for Bundles.
    `issues` are notices that `Prefer: return=OperationOutcome` shows. `content_type` is that of a body which is no resource, and so has no XML.
    `headers` are sent besides.
    """

    status: int
    body: bytes | None = None
    type: str | None = None
    id: str | None = None
    version: str | None = None
    last_modified: datetime | None = None
    issues: tuple[Issue, ...] = field(default=())
    content_type: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
