"""What a grant lets a transaction do to single resources: which it may touch, what of them it may change, and where they may end up.

The type of each op is checked before; this is for types whose resources are not all open alike, and costs a transaction with such two statements.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from fhir_server import fhirjson
from fhir_server.outcome import Outcome
from fhir_server.search import Grant, Registry
from fhir_server.search.conditions import granted
from fhir_server.search.grant import Permission
from fhir_server.store.database import Connection
from fhir_server.store.ops import Resource

from .plan import Target

_PERMISSIONS: Final[dict[str, Permission]] = {"P": "c", "U": "u", "A": "u", "D": "d"}
_OF_THE_SERVER: Final = frozenset({"id", "meta", "resourceType"})
_LABELS: Final = ("security", "tag")


def is_open(grant: Grant, resource_type: str, permission: Permission) -> bool:
    """Whether all resources of a type are open to a permission that some of them are open to, so that nothing has to be looked at."""
    held = any(way.patient is not None for way in grant.ways(resource_type, permission))
    return not held and not grant.differs_by_content(resource_type, permission)


def all_readable(grant: Grant, resource_type: str) -> bool:
    """Whether the caller may read all resources of a type."""
    return bool(grant.ways(resource_type)) and is_open(grant, resource_type, "r")


class Guard:
    """The grant at work in one transaction."""

    def __init__(self, connection: Connection, registry: Registry, grant: Grant) -> None:
        """Asks over a connection that is in the transaction, its targets locked."""
        self._connection = connection
        self._registry = registry
        self._grant = grant

    def before(self, targets: Sequence[Target]) -> None:
        """Takes what the caller may not see for not there. Raises Outcome `forbidden` for what they see but may not treat so."""
        asked = [t for t in targets if t.method != "F" and t.current is not None and not self._is_open(t)]
        if not asked:
            return
        open_to_them = self._granted(asked)
        shut = [t for t in asked if t.current is not None and t.current.rid not in open_to_them]
        seen = self._granted(shut, "r") if shut else set()
        for target in shut:
            assert target.current is not None
            if target.current.rid not in seen:
                target.unseen = True
            elif not target.current.deleted:
                raise Outcome("forbidden", f"The token does not allow to change {target.type}/{target.id}")

    def unseen(self, targets: Iterable[Target]) -> None:
        """Raises Outcome `forbidden`, in the words of `after`, for what would be written over although the caller may not know of it."""
        for target in targets:
            if target.unseen and target.current is not None and not target.current.deleted:
                raise _outside(target)

    def changes(self, targets: Iterable[Target]) -> None:
        """Raises Outcome `forbidden` for a change of an element that is not the caller's to change."""
        for target in targets:
            elements = self._grant.editable_of(target.type)
            current = target.current
            if elements is None or target.resource is None or current is None or current.body is None or target.unseen:
                continue
            old, new = fhirjson.loads(current.body.encode()), target.resource
            changed = {name.removeprefix("_") for name in {*old, *new} if old.get(name) != new.get(name)}
            if others := sorted(changed - elements - _OF_THE_SERVER) or (["meta"] if _is_labelled_anew(old, new) else []):
                said = f"Of a {target.type} you may change {', '.join(sorted(elements))}, but not {others[0]}"
                raise Outcome("forbidden", said, expression=f"{target.type}.{others[0]}")

    def after(self, targets: Sequence[Target]) -> None:
        """Raises Outcome `forbidden` where something that was written would not be open to whoever wrote it."""
        asked = [t for t in targets if t.resource is not None and not self._is_open(t)]
        if asked:
            open_to_them = self._granted(asked)
            for target in asked:
                if target.rid not in open_to_them:
                    raise _outside(target)

    def readable(self, types: Mapping[int, str]) -> set[int]:
        """Of resources, by number with their types, those that the caller may read. No statement where all of their types are open."""
        shut = {rid: name for rid, name in types.items() if not all_readable(self._grant, name)}
        return (types.keys() - shut) | (self._open_to("r", shut) if shut else set())

    def _is_open(self, target: Target) -> bool:
        return is_open(self._grant, target.type, _PERMISSIONS[target.method])

    def _granted(self, targets: Iterable[Target], permission: Permission | None = None) -> set[int]:
        """Of the resources that targets are about those, by number, that are open to what is done to them, or to a permission."""
        asked: dict[Permission, dict[int, str]] = {}
        for target in targets:
            rid = target.current.rid if target.current is not None else target.rid
            asked.setdefault(permission or _PERMISSIONS[target.method], {})[rid] = target.type
        found: set[int] = set()
        for each, types in asked.items():
            found |= self._open_to(each, types)
        return found

    def _open_to(self, permission: Permission, types: Mapping[int, str]) -> set[int]:
        predicate = granted(self._grant, self._registry, sorted(set(types.values())), "r", permission=permission)
        statement = f"SELECT r.rid FROM resource r WHERE r.rid = ANY(%s) AND {predicate.text}"
        return {rid for (rid,) in self._connection.execute(statement, (list(types), *predicate.params))}


def _outside(target: Target) -> Outcome:
    return Outcome("forbidden", f"The token does not allow to write this {target.type}: its content is outside of what is open to you")


def _is_labelled_anew(old: Resource, new: Resource) -> bool:
    """Whether tags or security labels, by which others are kept out, are not the same; in which order does not matter."""
    before, after = ({name: sorted(map(fhirjson.dumps, each.get("meta", {}).get(name, ()))) for name in _LABELS} for each in (old, new))
    return before != after
