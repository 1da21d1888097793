"""Moments of the record: one is written down with a page link, and the search tables are shown as they were at it.

https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-SNAPSHOT

PostgreSQL tells of every version whether the transaction that wrote it was visible at a moment. Resources that were made later have numbers that
were not given out yet; of those that were changed later, the rows of the version of that moment are made again from its body.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from fhir_server import fhirjson
from fhir_server.outcome import Outcome
from fhir_server.search import Registry
from fhir_server.search.sources import Sources

from .database import Connection, scalar
from .index.dictionary import Dictionary
from .index.rows import as_json, merge
from .tables import BLOCK, INDEX_TABLES

MAX_CHANGED: Final = 2_000
"""So many resources may have changed since a page link was made; making their rows anew costs up to 0.1 s then."""

_TEXT: Final = re.compile(r"([0-9]{1,20}):([0-9]{1,20}):[0-9,]*/([0-9]{1,19})", re.ASCII)
_encode: Final = msgspec.json.Encoder(decimal_format="number").encode

_CHANGED: Final = """
SELECT DISTINCT v.rid FROM resource_version v
WHERE v.xid >= %(oldest)s AND v.rid <= %(highest)s AND NOT pg_visible_in_snapshot(v.xid::text::xid8, %(snapshot)s::pg_snapshot)
LIMIT %(limit)s
"""
_AS_THEY_WERE: Final = """
SELECT DISTINCT ON (v.rid) v.rid, v.type, r.id, v.vid, v.version, v.at, v.body FROM resource_version v JOIN resource r ON r.rid = v.rid
WHERE v.rid = ANY(%(rids)s) AND (v.xid < %(oldest)s OR pg_visible_in_snapshot(v.xid::text::xid8, %(snapshot)s::pg_snapshot))
ORDER BY v.rid, v.version DESC
"""
VISIBLE: Final = "(v.xid < %s OR pg_visible_in_snapshot(v.xid::text::xid8, %s::pg_snapshot))"
"""Whether a version was there at a moment; arguments as `bounds` gives them."""


def now(connection: Connection) -> str:
    """The moment that a transaction sees, as text."""
    # Numbers are given out in blocks, beginning with the last value.
    moment: str = scalar(connection, f"SELECT pg_current_snapshot() || '/' || last_value + {BLOCK - 1} FROM resource_rid")
    return moment


def bounds(moment: str) -> tuple[int, str]:
    """The oldest transaction that was not over at a moment, and PostgreSQL's own text of it. Raises Outcome `parameter`."""
    found = _TEXT.fullmatch(moment)
    if found is None:
        raise Outcome("parameter", "The page link is damaged; start the search again")
    return int(found[1]), moment.partition("/")[0]


def sources(connection: Connection, registry: Registry, dictionary: Dictionary, moment: str) -> Sources:
    """The search tables as they were. Raises Outcome `gone` where too much has changed since."""
    oldest, snapshot = bounds(moment)
    highest = int(moment.partition("/")[2])
    named: dict[str, Any] = {"oldest": oldest, "snapshot": snapshot, "highest": highest, "limit": MAX_CHANGED + 1}
    changed = [row[0] for row in connection.execute(_CHANGED, named)]
    if len(changed) > MAX_CHANGED:
        raise Outcome(
            "gone", f"The page link has run out: more than {MAX_CHANGED:,} resources have changed since it was made; start the search again"
        )
    parts, pointers = [], []
    for rid, tid, identity, vid, version, at, body in connection.execute(_AS_THEY_WERE, {**named, "rids": changed}) if changed else ():
        pointer = {"rid": rid, "type": tid, "id": identity, "vid": vid, "version": version, "deleted": body is None, "updated": at}
        pointers.append(pointer)
        if body is not None:
            parts.append((registry.rows(fhirjson.loads(body.encode())), rid))
    rows = {table.name: _encode(made).decode() for table, made in zip(INDEX_TABLES, as_json(dictionary, merge(parts)), strict=True) if made}
    return Sources(highest, tuple(changed), {**rows, "resource": _encode(pointers).decode()})
