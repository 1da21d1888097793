"""What Consents say, kept apart as they are written: those that forbid something as they are, what others permit as rows.

https://hl7.org/fhir/R4/consent.html

Few patients forbid something: each process reads all of that, and a number tells when it has changed. Where nothing is open without permission every
patient permits something: that is looked up by the statement that it counts for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

import msgspec

from fhir_server.search import Registry
from fhir_server.search.grant import Party
from fhir_server.search.permit import permits_of, permitted

from .database import Connection
from .ops import Create, Op, Put
from .walking import chunks
from .writing.plan import Target

Json = Mapping[str, Any]

# Who works where decides whom a Consent means that names a role or an organization.
_CONCERNED: Final = frozenset({"Consent", "PractitionerRole"})
_CHUNK: Final = 1_000
_FORBIDDING: Final = """
WITH gone AS (DELETE FROM consent_rule WHERE rid = ANY(%s) RETURNING 1),
new AS (INSERT INTO consent_rule (rid, body) SELECT * FROM unnest(%s::bigint[], %s::text[])
    ON CONFLICT (rid) DO UPDATE SET body = excluded.body)
UPDATE consent_generation SET generation = generation + 1 WHERE %s OR EXISTS (SELECT FROM gone)
"""
_PERMITTING: Final = """
INSERT INTO consent_permit (rid, patient, parties, purposes, types, lo, hi)
SELECT * FROM json_to_recordset(%s::json)
    AS x(rid bigint, patient text, parties text[], purposes text[], types smallint[], lo timestamptz, hi timestamptz)
"""


def concerns(ops: Iterable[Op]) -> bool:
    """Whether some op may change what is forbidden or permitted to whom."""
    return any((op.resource["resourceType"] if isinstance(op, (Create, Put)) else op.type) in _CONCERNED for op in ops)


def follow(connection: Connection, registry: Registry, targets: Sequence[Target]) -> None:
    """Brings rules and permissions to what Consents say now. Up to three statements, for transactions that write any of the types concerned."""
    found = [target for target in targets if target.type in _CONCERNED]
    if not found:
        return
    written = [target for target in found if target.type == "Consent"]
    forbidding = [target for target in written if target.body is not None and (b'"deny"' in target.body or b"OPTOUT" in target.body)]
    connection.execute(
        _FORBIDDING,
        (
            [target.rid for target in written if target not in forbidding],
            [target.rid for target in forbidding],
            [target.body.decode() for target in forbidding if target.body is not None],
            bool(forbidding) or len(written) < len(found),
        ),
    )
    if written:
        connection.execute("DELETE FROM consent_permit WHERE rid = ANY(%s)", ([target.rid for target in written],))
        _add(connection, (row for target in written if target.resource is not None for row in _rows(registry, target.rid, target.resource)))


def renew(connection: Connection, registry: Registry) -> None:
    """Makes all permissions anew, as dates and references in Consents are to be read now. In a transaction; reads all Consents."""
    connection.execute("DELETE FROM consent_permit")
    rows = (row for consents in chunks(connection, "Consent") for rid, consent in consents.items() for row in _rows(registry, rid, consent))
    while chunk := list(islice(rows, _CHUNK)):
        _add(connection, chunk)


def decided_anew(connection: Connection) -> None:
    """Lets every process look at what is restricted again, from the commit of the caller's transaction on."""
    connection.execute("UPDATE consent_generation SET generation = generation + 1")


def generation(connection: Connection) -> int:
    """The number that goes up with every change of what is restricted, but for what single patients permit."""
    found: int = connection.execute("SELECT generation FROM consent_generation").fetchall()[0][0]
    return found


def rules(connection: Connection) -> list[tuple[int, str]]:
    """The numbers and bodies of the Consents that may forbid something."""
    return connection.execute("SELECT rid, body FROM consent_rule ORDER BY rid").fetchall()


def patient_of(registry: Registry, consent: Json) -> str | None:
    """The id of the patient whose Consent it is, where that is one of this server's."""
    return next((identity for name, identity in registry.references(consent, "patient") if name == "Patient"), None)


def permitted_of(connection: Connection, registry: Registry, party: Party, pairs: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Those pairs of a resource type and a patient's id of which a Consent permits the type to a party now. One statement per type."""
    by_type: dict[str, list[str]] = {}
    for name, patient in pairs:
        by_type.setdefault(name, []).append(patient)
    found: set[tuple[str, str]] = set()
    for name, patients in by_type.items():
        condition = permitted(party, "x.patient", registry.types[name])
        statement = f"SELECT x.patient FROM unnest(%s::text[]) AS x(patient) WHERE {condition.text}"
        found |= {(name, patient) for (patient,) in connection.execute(statement, (patients, *condition.params))}
    return found


def _rows(registry: Registry, rid: int, consent: Json) -> Iterator[Json]:
    patient = patient_of(registry, consent)
    for permit in permits_of(consent, registry.zone) if patient is not None else ():
        types = [registry.types[name] for name in permit.types if name in registry.types]
        # Types of another release of FHIR, and none besides, are not all types.
        if types or not permit.types:
            yield {"rid": rid, "patient": patient, **permit._asdict(), "types": types}


def _add(connection: Connection, rows: Iterable[Json]) -> None:
    made = msgspec.json.encode(list(rows)).decode()
    if made != "[]":
        connection.execute(_PERMITTING, (made,))
