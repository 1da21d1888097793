"""The Consents that forbid something, kept apart as they are written, and a number that tells when that has changed.

https://hl7.org/fhir/R4/consent.html
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from .database import Connection
from .ops import Create, Op, Put
from .plan import Target

# Who works where decides whom a Consent means that names a role or an organization.
_CONCERNED: Final = frozenset({"Consent", "PractitionerRole"})


def concerns(ops: Iterable[Op]) -> bool:
    """Whether some op may change what is forbidden to whom."""
    return any((op.resource["resourceType"] if isinstance(op, (Create, Put)) else op.type) in _CONCERNED for op in ops)


def follow(connection: Connection, targets: Sequence[Target]) -> None:
    """Brings the rules to what Consents say now. Two statements, for transactions that write any of the types concerned."""
    found = [target for target in targets if target.type in _CONCERNED]
    if not found:
        return
    written = [target for target in found if target.type == "Consent"]
    forbidding = [target for target in written if target.body is not None and (b'"deny"' in target.body or b"OPTOUT" in target.body)]
    connection.execute(
        "WITH gone AS (DELETE FROM consent_rule WHERE rid = ANY(%s)),"
        " new AS (INSERT INTO consent_rule (rid, body) SELECT * FROM unnest(%s::bigint[], %s::text[])"
        " ON CONFLICT (rid) DO UPDATE SET body = excluded.body)"
        " UPDATE consent_generation SET generation = generation + 1 WHERE %s OR EXISTS (SELECT FROM consent_rule)",
        (
            [target.rid for target in written if target not in forbidding],
            [target.rid for target in forbidding],
            [target.body.decode() for target in forbidding if target.body is not None],
            bool(written),
        ),
    )


def rules(connection: Connection) -> list[tuple[int, str]]:
    """The numbers and bodies of the Consents that may forbid something."""
    return connection.execute("SELECT rid, body FROM consent_rule ORDER BY rid").fetchall()
