"""Referential integrity, where the setting REFERENCE_INTEGRITY asks for it. https://hl7.org/fhir/R4/http.html#integrity"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fhir_server.outcome import Outcome
from fhir_server.search import Grant
from fhir_server.spec import r4

from .database import Connection
from .dictionary import Dictionary
from .index import IndexRows
from .statements import EXISTING, REFERRING


def check_references(
    connection: Connection, dictionary: Dictionary, rows: IndexRows, written: set[tuple[str, str]], deleted: Sequence[tuple[str, str]]
) -> None:
    """Refuses references to local resources that neither exist nor are written here; what exists stays locked until the transaction ends."""
    wanted = {(dictionary.names[row[2]], row[1]) for row in rows["sp_reference"] if row[2] != 0} - written
    if not wanted:
        return
    ordered = sorted(wanted)
    found = connection.execute(EXISTING, ([dictionary.types[name] for name, _ in ordered], [identity for _, identity in ordered])).fetchall()
    missing = wanted - ({(dictionary.names[tid], identity) for tid, identity in found} - set(deleted))
    if missing:
        listed = ", ".join(f"{name}/{identity}" for name, identity in sorted(missing)[:10])
        raise Outcome("business-rule", f"References to resources that do not exist: {listed}", code="not-found")


def check_deletes(
    connection: Connection,
    dictionary: Dictionary,
    numbers: Mapping[tuple[str, str], int],
    deleted: Sequence[tuple[str, str]],
    gone: set[int],
    grant: Grant,
) -> None:
    """Refuses to delete what others still refer to, and names one of them where the caller may read it.

    `numbers` are those of the search parameters, `gone` those of all resources that this transaction writes.
    """
    if not deleted:
        return
    spec = r4()
    pids = [
        numbers[name, code]
        for name in spec.resource_types
        for code, param in spec.search_params(name).items()
        if param.type == "reference" and (name, code) in numbers
    ]
    types = [dictionary.types[name] for name, _ in deleted]
    rows = connection.execute(REFERRING, (types, [identity for _, identity in deleted], pids, list(gone))).fetchall()
    if rows:
        tid, identity, target = rows[0]
        name = dictionary.names[tid]
        referring = f"{name}/{identity}" if grant.allows(name, "r") else "Another resource"
        raise Outcome("conflict", f"{referring} still refers to '{target}', which is to be deleted")
