"""What callers say and hear of bulk exports: the kick-off, the status, the files, and that one is not wanted any more.

https://hl7.org/fhir/uv/bulkdata/STU2/export.html#bulk-data-export-operation-request-flow
"""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, Final
from urllib.parse import quote, urlencode

from fhir_server import fhirjson
from fhir_server.interactions import Engine, Exchange, Reply
from fhir_server.interactions.engine import parse_parameters
from fhir_server.operations.parameters import stored
from fhir_server.outcome import Outcome
from fhir_server.search import Grant
from fhir_server.search.compartment import compartment_pids
from fhir_server.search.grant import Way
from fhir_server.search.params.date import parse_date
from fhir_server.store import exports
from fhir_server.store.rules.subscribers import holder_of
from fhir_server.store.witness import seen

from .making import Asked

NDJSON: Final = "application/fhir+ndjson"

_FORMATS: Final = frozenset({NDJSON, "application/ndjson", "ndjson"})
_KNOWN: Final = ("_elements", "_outputFormat", "_since", "_type", "_typeFilter", "patient")
_OPTIONAL: Final = frozenset({"includeAssociatedData", "organizeOutputBy", "allowPartialManifests"})
_OF_RESULTS: Final = frozenset(
    {"_count", "_sort", "_include", "_revinclude", "_summary", "_elements", "_total", "_contained", "_containedType", "_cursor", "_explain", "_score"}
)
"""What says how a search shows what it finds, which an export does not heed."""
_MOST: Final = 10_000
_COMMA: Final = re.compile(",")
# A search has commas of its own, as in `Observation?code=1,2`.
_NEXT_FILTER: Final = re.compile(r",(?=[A-Za-z]*\?)")
_RETRY: Final = ("Retry-After", "2")


def export(engine: Engine, exchange: Exchange) -> Reply:
    """202, with the status's address in Content-Location. The export is made in the background, with what is open to the caller then and now.

    Raises Outcome `parameter` without `Prefer: respond-async` and for what is not understood, `forbidden` for a caller held to one patient,
    `not-found` and `gone` for the group, `throttled` for one who has too many.
    """
    if not exchange.later:
        raise Outcome("parameter", "An export is made in the background: send `Prefer: respond-async`")
    if exchange.grant.patient is not None or not exchange.grant.scopes:
        raise Outcome("forbidden", "An export is of many records; this token is for one: Patient/[id]/$everything gives that")
    asked = _asked(engine, exchange)
    with engine.store.snapshot(exchange.grant) as db:
        if exchange.type == "Group":
            stored(engine, exchange, db)
    with engine.store.database.connection() as connection:
        assert engine.settings is not None
        identity = exports.ask(connection, exchange.grant, fhirjson.dumps(asdict(asked)).decode(), engine.store.clock(), engine.settings.max_exports)
    return Reply(202, headers=(("Content-Location", f"{exchange.base}/$export-status?id={identity}"),))


def export_status(engine: Engine, exchange: Exchange) -> Reply:
    """202 with X-Progress while it is being made, then 200 and the manifest; DELETE ends it and takes its files away, 202 too.

    Raises Outcome `not-found` for one that is not there or not the caller's, `internal` for one that has failed.
    """
    with engine.store.database.connection() as connection:
        current = _own(connection, exchange)
        if exchange.method == "DELETE":
            exports.drop(connection, current.id)
            return Reply(202)
        if current.state == "failed":
            raise Outcome("internal", f"The export has failed: {current.fault}")
        if current.ended is None or current.at is None:
            progress = "waiting" if current.state == "waiting" else f"{current.done} resources so far"
            return Reply(202, headers=(("X-Progress", progress), _RETRY))
        listed = exports.files(connection, current.id)
    manifest = {
        "transactionTime": current.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "request": fhirjson.loads(current.request.encode())["url"],
        "requiresAccessToken": True,
        "output": [_listed(exchange, current, file) for file in listed if not file.deleted],
        # Each line is a Bundle with the ids of what was deleted.
        "deleted": [_listed(exchange, current, file) | {"type": "Bundle"} for file in listed if file.deleted],
        "error": [],
    }
    ends = format_datetime((current.ended + exports.KEPT).astimezone(UTC), usegmt=True)
    return Reply(200, fhirjson.dumps(manifest), content_type="application/json", headers=(("Expires", ends),))


def export_file(engine: Engine, exchange: Exchange) -> Reply:
    """200 and NDJSON. Raises Outcome `not-found`, `forbidden` where the token does not open what it was asked for with, of this type."""
    number = dict(exchange.params).get("file", "")
    with engine.store.database.connection() as connection:
        current = _own(connection, exchange)
        found = exports.content(connection, current.id, int(number)) if number.isascii() and number.isdigit() and len(number) < 9 else None  # noqa: PLR2004 - an integer
    if found is None or current.state != "done":
        raise Outcome("not-found", "There is no such file")
    if not exchange.grant.allows(found[0], "r"):
        raise Outcome("forbidden", f"The token does not allow to read {found[0]}")
    holder = holder_of(current.holder)
    # A Binary is as open as what it belongs to, of whatever type.
    beside = [name for name in engine.registry.types if name != "Binary"] if found[0] == "Binary" else []
    reach, other = exchange.grant.reaching(None), holder.reaching(None)
    if not _covers(exchange.grant, holder, found[0]) or not all(_covers(reach, other, name) for name in beside):
        raise Outcome("forbidden", f"The token opens less of {found[0]} than the one that this export was asked for with")
    for line in found[1].decode().split("\n"):
        seen(line)
    return Reply(200, found[1], content_type=NDJSON)


def _listed(exchange: Exchange, current: exports.Export, file: exports.File) -> dict[str, Any]:
    return {"type": file.type, "url": f"{exchange.base}/$export-file?id={quote(current.id)}&file={file.number}", "count": file.resources}


def _own(connection: Any, exchange: Exchange) -> exports.Export:
    found = exports.export(connection, dict(exchange.params).get("id", "")[:80])
    if found is None or found.actor != exchange.grant.actor or holder_of(found.holder).client != exchange.grant.client:
        raise Outcome("not-found", "There is no such export; it may have been deleted, or be too old")
    return found


def _covers(grant: Grant, other: Grant, name: str) -> bool:
    """Whether all of a type that is open to another grant is open to this one."""
    ways = set(grant.ways(name))
    return (Way(None, "") in ways or ways.issuperset(other.ways(name))) and grant.hidden_of(name) <= other.hidden_of(name)


def _asked(engine: Engine, exchange: Exchange) -> Asked:
    given = _given(engine, exchange)
    level = "system" if exchange.type is None else exchange.type.lower()
    types = _types(engine, exchange, given["_type"], level)
    filters: dict[str, list[str]] = {}
    for text in given["_typeFilter"]:
        name, _, query = text.partition("?")
        if name not in types:
            raise Outcome("parameter", f"_typeFilter: '{text[:80]}' is [type]?[search], of a type that is exported")
        parameters = parse_parameters(query)
        if shown := [key for key, _ in parameters if key.partition(":")[0] in _OF_RESULTS]:
            raise Outcome(
                "parameter", f"_typeFilter: {shown[0]} says how a search shows what it finds; an export gives all of it", code="not-supported"
            )
        engine.registry.parse(name, parameters, strict=True, now=engine.store.clock())
        filters.setdefault(name, []).append(query)
    since = given["_since"][0] if given["_since"] else None
    if since is not None:
        since = _instant(engine, since)
    query = urlencode([(name, ",".join(values)) for name, values in given.items() if values and name != "patient"])
    path = "$export" if exchange.type is None else f"{exchange.type}/$export" if exchange.id is None else f"{exchange.type}/{exchange.id}/$export"
    url = f"{exchange.base}/{path}" + (f"?{query}" if query else "")
    patients = [text.removeprefix("Patient/") for text in given["patient"]] or None
    if patients is not None and level == "system":
        raise Outcome("parameter", "patient belongs to Patient/$export and Group/[id]/$export")
    return Asked(url, level, types, filters, exchange.id, patients, since, given["_elements"])


def _given(engine: Engine, exchange: Exchange) -> dict[str, list[str]]:
    """The parameters, from the query and from a Parameters resource; lists that are separated by commas taken apart."""
    pairs = list(exchange.params)
    body = exchange.body
    if body is not None:
        if not isinstance(body, dict) or body.get("resourceType") != "Parameters":
            raise Outcome("malformed", "The body of an operation is a Parameters resource")
        engine.validator.require(body)
        for part in body.get("parameter", ()):
            value = next((value for key, value in part.items() if key.startswith("value")), "")
            pairs.append((part["name"], str(value.get("reference", "")) if isinstance(value, dict) else str(value)))
    found: dict[str, list[str]] = {name: [] for name in _KNOWN}
    for name, value in pairs:
        if name in found:
            comma = _NEXT_FILTER if name == "_typeFilter" else _COMMA
            found[name] += [value] if name in ("_since", "_outputFormat") else [part for part in comma.split(value) if part]
        elif exchange.strict or name not in _OPTIONAL:
            raise Outcome("parameter", f"The parameter '{name[:80]}' is not supported here; {', '.join(_KNOWN)} are", code="not-supported")
    if len(pairs) > _MOST or any(len(values) > _MOST for values in found.values()):
        raise Outcome("parameter", f"No more than {_MOST} values are possible", code="too-long")
    # A '+' that was not encoded arrives as a space.
    if len(found["_since"]) > 1:
        raise Outcome("parameter", "_since stands twice")
    if any(text.replace(" ", "+") not in _FORMATS for text in found["_outputFormat"]):
        raise Outcome("parameter", f"_outputFormat is {NDJSON}")
    return found


def _types(engine: Engine, exchange: Exchange, named: list[str], level: str) -> list[str]:
    """The types that are exported, in order. Raises Outcome `parameter` for one that is none or not there, `forbidden` for one that is not open."""
    registry = engine.registry
    possible = [name for name in registry.types if level == "system" or name == "Patient" or compartment_pids(registry, name)]
    for name in named:
        if name not in possible:
            raise Outcome("parameter", f"_type: '{name[:80]}' is no resource type that a {level} export has")
        if not exchange.grant.allows(name, "r"):
            raise Outcome("forbidden", f"The token does not allow to read {name}")
    return [name for name in possible if exchange.grant.allows(name, "r") and (not named or name in named)]


def _instant(engine: Engine, text: str) -> str:
    try:
        first: datetime = parse_date(text.replace(" ", "+"), engine.registry.zone)[0]
    except ValueError:
        raise Outcome("parameter", f"_since: '{text[:80]}' is not an instant, as 2026-01-31T09:00:00Z is") from None
    return first.astimezone(UTC).isoformat()
