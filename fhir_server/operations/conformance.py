"""The server's own definitions: extensions, code systems, value sets and search parameters, kept as FHIR JSON in the folder `conformance`.

They become resources like any others, under the last segment of their canonical URL as id. Each is written once, and again when the program brings
another content; what an operator changes or deletes in between stays so.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Final

from fhir_server import fhirjson
from fhir_server.search import SYSTEM
from fhir_server.store import Store
from fhir_server.store.ops import Put

FOLDER: Final = Path(__file__).parents[2] / "conformance"


def definitions() -> list[tuple[dict[str, Any], bytes]]:
    """Every definition and the bytes of its file, in the order of their names."""
    return [(fhirjson.loads(data), data) for path in sorted(FOLDER.glob("*.json")) for data in (path.read_bytes(),)]


def install(store: Store) -> int:
    """Writes the definitions that this database has not had yet; how many. A statement for each that it has. Raises Outcome as `Store.transact`."""
    written = 0
    for resource, data in definitions():
        commit = store.transact([Put(resource, resource["id"])], SYSTEM, once=hashlib.sha256(b"conformance" + data).digest())
        written += not commit.repeated
    return written
