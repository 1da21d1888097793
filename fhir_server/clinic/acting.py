"""What somebody does by an operation of the clinic: looked at as they see the record, written by the operation's own right, in one transaction.

A plain write is held to the caller's Grant. An operation keeps rules that no Grant can say, as that a patient books only what is free; so it looks
with the Grant, and writes what its rules allow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from fhir_server import fhirjson
from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM, Grant
from fhir_server.search.grant import Permission
from fhir_server.settings import CANON
from fhir_server.store import Store, instant
from fhir_server.store.database import Connection
from fhir_server.store.ops import Commit, Op, Resource, Version
from fhir_server.store.snapshot import Snapshot

PASSING: Final = frozenset({"unavailable", "conflict", "throttled"})
"""Categories of an Outcome that the next try may not meet."""
_ACTIVITY: Final = f"{CANON}/CodeSystem/clinic-act"
_PARTICIPANT: Final = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"


@dataclass(frozen=True, slots=True)
class Act:
    """Who does what: `name` is the operation's, `reason` what they say of it.

    `beside` writes in the same transaction what the way in has to keep of it.
    """

    name: str
    grant: Grant
    request_id: str = ""
    address: str = ""
    beside: Callable[[Connection, Commit], None] | None = None
    reason: str = ""

    @property
    def is_desk(self) -> bool:
        """Whether it is done for the clinic's desk: staff, admins, and backend services."""
        return bool(self.grant.roles & {"staff", "admin"}) if self.grant.roles else self._is_service

    @property
    def is_clinical(self) -> bool:
        """Whether a clinician does it, or a backend service for one."""
        return "doctor" in self.grant.roles if self.grant.roles else self._is_service

    @property
    def patient(self) -> str | None:
        """The id of the patient who does it for themself, None where it is done for the clinic."""
        if self.is_desk or self.is_clinical:
            return None
        return next((scope.patient for scope in self.grant.acts if scope.patient is not None), None)

    @property
    def _is_service(self) -> bool:
        return any(scope.patient is None and scope.permissions for scope in self.grant.acts)

    def require(self, resource_type: str, permission: Permission) -> None:
        """Raises Outcome `forbidden` where the caller's role, or the scopes of their app, do not allow it."""
        if not self.grant.may_act(resource_type, permission):
            verb = {"c": "create", "u": "change"}[permission]
            raise Outcome("forbidden", f"${self.name} is not open to this caller: it would {verb} {resource_type}")

    @property
    def authority(self) -> Grant:
        """The grant that the operation writes by, under the caller's name."""
        return replace(self.grant, scopes=SYSTEM.scopes, reach=None, denials=(), editable=(), hidden=())


Prepare = Callable[[Connection, Snapshot], Sequence[Op]]
"""Looks, locks, and says what is to be written, in the transaction that writes it. The Snapshot shows what the operation itself may see."""


def carry_out(store: Store, act: Act, prepare: Prepare, beside: Callable[[Connection, Commit], None] | None = None) -> Commit:
    """Writes what an operation comes to, with a Provenance that names the operation and who called it; `beside` as of `Store.transact`.

    Raises Outcome as `Store.transact`, and what `prepare` raises.
    """

    def both(connection: Connection, commit: Commit) -> None:
        if beside is not None:
            beside(connection, commit)
        if act.beside is not None:
            act.beside(connection, commit)

    return store.transact(
        prepare,
        act.authority,
        request_id=act.request_id,
        address=act.address,
        provenance=_provenance(store, act),
        beside=both,
        operation=act.name,
    )


def visible(db: Snapshot, act: Act, resource_type: str, identity: str) -> Version:
    """The current version of a resource as the caller sees it. Raises Outcome `not-found` where they do not, `gone` where it was deleted."""
    found = db.seen_by(act.grant).read(resource_type, identity)
    if found is None:
        raise Outcome("not-found", f"{resource_type}/{identity} does not exist")
    if found.body is None:
        raise Outcome("gone", f"{resource_type}/{identity} was deleted")
    return found


def content(version: Version) -> Resource:
    """The resource of a version that is no deletion."""
    assert version.body is not None
    resource: Resource = fhirjson.loads(version.body)
    return resource


def resource_of(version: Version | None) -> Resource | None:
    """The resource of a version; None where there is none, or where it was deleted."""
    return content(version) if version is not None and version.body is not None else None


def _provenance(store: Store, act: Act) -> Resource:
    who: dict[str, Any] = {"identifier": {"system": f"{CANON}/sid/login", "value": act.grant.actor}, "display": act.grant.actor}
    if act.grant.user is not None:
        who["reference"] = act.grant.user
    made = {
        "resourceType": "Provenance",
        "recorded": instant(store.clock()),
        "activity": {"coding": [{"system": _ACTIVITY, "code": act.name}]},
        "agent": [{"type": {"coding": [{"system": _PARTICIPANT, "code": "performer"}]}, "who": who}],
    }
    return made | ({"reason": [{"text": act.reason}]} if act.reason else {})
