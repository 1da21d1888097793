"""Events as their patient is shown them: who did what to this record and when, and nothing about anybody else's.

Left out are the login and the account of whoever it was, their address and session, what they searched for, and what else they saw by it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from fhir_server import fhirjson
from fhir_server.search import SYSTEM, Statement
from fhir_server.store import Store
from fhir_server.store.trail.search import Entry

from .render import rendered

_RESOURCE: Final = re.compile(r"[A-Z][A-Za-z]+")
_NAMED: Final = ("Practitioner/", "RelatedPerson/")
NOT_SENT: Final = Statement("e.received IS NULL")
"""What apps have sent of their own is left out: it says what its sender says, and of whom it pleases."""


def names_of(store: Store, entries: Iterable[Entry]) -> Mapping[str, str]:
    """The names of practitioners and related persons among the actors, by reference. One statement, none without any."""
    wanted = {entry.fhir_user for entry in entries if entry.fhir_user is not None and entry.fhir_user.startswith(_NAMED)}
    if not wanted:
        return {}
    with store.latest(SYSTEM) as db:
        found = db.read_many([(kind, identity) for kind, _, identity in (reference.partition("/") for reference in sorted(wanted))])
    return {f"{each.type}/{each.id}": _name(fhirjson.loads(each.body)) for each in found if each.body is not None}


def shown_to(patient: str, entry: Entry, names: Mapping[str, str]) -> dict[str, Any]:
    """The AuditEvent of an entry that concerns the patient."""
    alone = entry.patients == [patient] and _RESOURCE.fullmatch(entry.type or "") is not None
    kept = entry._replace(
        patients=[patient],
        resource=entry.resource if alone else None,
        query=None,
        detail=entry.detail if entry.kind == "break-glass" and entry.patients == [patient] else None,
        account=None,
        session=None,
        address=None,
        request_id=None,
    )
    made = rendered(kept)
    person = made["agent"][0]
    name = _called(patient, entry, names)
    person["who"] = {"display": name} | ({"reference": entry.fhir_user} if entry.fhir_user in names else {})
    person["name"] = name
    return made


def _called(patient: str, entry: Entry, names: Mapping[str, str]) -> str:
    """What a patient knows somebody by."""
    if entry.fhir_user == f"Patient/{patient}":
        return "you"
    if entry.fhir_user is not None and names.get(entry.fhir_user):
        return names[entry.fhir_user]
    if entry.client:
        return f"the app {entry.client}"
    if entry.fhir_user is not None and entry.fhir_user.startswith("RelatedPerson/"):
        return "a related person"
    known = [role for role in entry.roles if role != "patient"]
    return f"somebody with the role {' and '.join(known)}" if known else "a program of the clinic"


def _name(person: Mapping[str, Any]) -> str:
    for name in person.get("name", ()):
        if name.get("text"):
            return str(name["text"])
        parts = (*name.get("prefix", ()), *name.get("given", ()), name.get("family"))
        if joined := " ".join(part for part in parts if part):
            return joined
    return ""
