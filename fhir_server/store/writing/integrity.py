"""Referential integrity, where the setting REFERENCE_INTEGRITY asks for it. https://hl7.org/fhir/R4/http.html#integrity

What a caller may not read is not there for them here either: no reference of theirs finds out whether it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fhir_server import fhirjson
from fhir_server.outcome import Outcome
from fhir_server.search import Grant
from fhir_server.search.conditions import granted
from fhir_server.spec import r4
from fhir_server.store.database import Connection
from fhir_server.store.index.rows import IndexRows, merge
from fhir_server.store.index.statements import EXISTING, REFERRING

from .guard import Guard, all_readable
from .plan import Target, Writer

Address = tuple[str, str]
"""A type and an id."""


class Integrity:
    """The references of one transaction, as its caller may see what they lead to."""

    def __init__(self, writer: Writer, connection: Connection, grant: Grant, guard: Guard) -> None:
        """Asks over a connection that is in the transaction."""
        self._writer = writer
        self._connection = connection
        self._grant = grant
        self._guard = guard

    def check(self, targets: Sequence[Target]) -> None:
        """Refuses references to local resources that neither exist nor are written here, and deletes of what others still refer to.

        Raises Outcome `business-rule` and `conflict`. What exists stays locked until the transaction ends.
        """
        deleted = [(target.type, target.id) for target in targets if target.method == "D"]
        self._check_references(targets, set(deleted))
        if deleted:
            self._check_deletes(deleted, [target.rid for target in targets])

    def _check_references(self, targets: Sequence[Target], deleted: set[Address]) -> None:
        wanted = self._named(targets) - {(target.type, target.id) for target in targets if target.body is not None}
        missing = wanted - (self._existing(wanted) - deleted)
        hidden = {(name, identity) for name, identity in missing if not all_readable(self._grant, name)} - deleted
        if hidden:
            # Whoever changes something else in a resource sends along what it refers to, and need not be able to see all of that.
            missing -= hidden & self._kept(targets)
        if missing:
            listed = ", ".join(f"{name}/{identity}" for name, identity in sorted(missing)[:10])
            raise Outcome("business-rule", f"References to resources that do not exist: {listed}", code="not-found")

    def _existing(self, wanted: set[Address]) -> set[Address]:
        """Those that exist and that the caller may read: one statement, which takes as long for what is hidden as for what is not there."""
        if not wanted:
            return set()
        dictionary, ordered = self._writer.dictionary, sorted(wanted)
        readable = granted(self._grant, self._writer.registry, sorted({name for name, _ in ordered}), "r")
        values = ([dictionary.types[name] for name, _ in ordered], [identity for _, identity in ordered], *readable.params)
        rows = self._connection.execute(EXISTING.format(readable=readable.text), values).fetchall()
        return {(dictionary.names[tid], identity) for tid, identity in rows}

    def _kept(self, targets: Sequence[Target]) -> set[Address]:
        """What is referred to from the versions before, of resources that the caller may read: they have seen it there."""
        known = [(target, target.current.rid, target.current.body) for target in targets if target.current is not None and target.current.body]
        readable = self._guard.readable({rid: target.type for target, rid, _ in known})
        before = ((target.type, fhirjson.loads(body.encode())) for target, rid, body in known if rid in readable)
        return self._addresses(merge((self._writer.registry.rows(resource), 0) for name, resource in before if name != "Bundle"))

    def _named(self, targets: Iterable[Target]) -> set[Address]:
        # The reference rows of a Bundle name resources that stand in the Bundle itself.
        resources = [target.resource for target in targets if target.resource is not None and target.type != "Bundle"]
        return self._addresses(merge((self._writer.registry.rows(resource), 0) for resource in resources))

    def _addresses(self, rows: IndexRows) -> set[Address]:
        return {(self._writer.dictionary.names[row[2]], row[1]) for row in rows["sp_reference"] if row[2] != 0}

    def _check_deletes(self, deleted: Sequence[Address], written: list[int]) -> None:
        spec, dictionary, numbers = r4(), self._writer.dictionary, self._writer.parameters.numbers
        pids = [
            numbers[name, code]
            for name in spec.resource_types
            for code, param in spec.search_params(name).items()
            if param.type == "reference" and (name, code) in numbers
        ]
        types = [dictionary.types[name] for name, _ in deleted]
        rows = self._connection.execute(REFERRING, (types, [identity for _, identity in deleted], pids, written)).fetchall()
        if rows:
            rid, tid, identity, target = rows[0]
            name = dictionary.names[tid]
            referring = f"{name}/{identity}" if self._guard.readable({rid: name}) else "Another resource"
            raise Outcome("conflict", f"{referring} still refers to '{target}', which is to be deleted")
