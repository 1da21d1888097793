"""All resources of a type that are there, for whatever is made of them anew."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

from fhir_server import fhirjson

from .database import Connection
from .ops import Resource

_CHUNK: Final = 1_000
_CURRENT: Final = """
SELECT r.rid, v.body FROM resource r JOIN resource_version v USING (vid)
WHERE r.type = (SELECT tid FROM resource_type WHERE name = %s) AND NOT r.deleted ORDER BY r.rid
"""


def chunks(connection: Connection, resource_type: str) -> Iterator[dict[int, Resource]]:
    """Those of a type by their numbers, the oldest first, a thousand at a time. In a transaction; keeps one chunk in memory."""
    with connection.cursor("walking") as cursor:
        cursor.execute(_CURRENT, (resource_type,))
        while chunk := {rid: fhirjson.loads(body.encode()) for rid, body in islice(cursor, _CHUNK)}:
            yield chunk
