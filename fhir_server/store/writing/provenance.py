"""Provenance that a transaction writes besides its ops: the one that the caller has sent along, and one for each amendment.

https://hl7.org/fhir/R4/provenance.html#header, https://hl7.org/fhir/R4/provenance.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from fhir_server import fhirjson
from fhir_server.search import Grant
from fhir_server.settings import CANON
from fhir_server.store.ops import Resource

from .content import instant
from .links import relink
from .plan import Target

AMENDMENTS: Final = frozenset({"amended", "corrected", "appended", "entered-in-error"})
"""What a status says of a resource that is not what it was when others have read it."""
_OPERATION: Final = "http://terminology.hl7.org/CodeSystem/v3-DataOperation"
_PARTICIPANT: Final = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"


def provenances(targets: Sequence[Target], grant: Grant, at: datetime, sent: Resource | None, links: Mapping[str, str]) -> Iterator[Resource]:
    """The Provenances of what a transaction writes; `sent` lacks its targets, and may refer to others by `links`."""
    written = [target for target in targets if target.resource is not None]
    if sent is not None and written:
        yield {**relink(sent, links), "target": [_version(target.type, target.id, target.version) for target in written]}
    for target in written:
        if target.type != "Provenance" and (status := _amended(target)) is not None:
            yield _of_amendment(target, status, grant, at)


def _amended(target: Target) -> str | None:
    """The status that a resource gets, where that is an amendment and was not before."""
    current = target.current
    if target.resource is None or current is None or current.deleted or current.body is None:
        return None
    status = target.resource.get("status")
    if not isinstance(status, str) or status not in AMENDMENTS:
        return None
    before = fhirjson.loads(current.body.encode()).get("status")
    return status if status != before else None


def _of_amendment(target: Target, status: str, grant: Grant, at: datetime) -> Resource:
    before = target.current.version if target.current is not None else 0
    who: dict[str, Any] = {"identifier": {"system": f"{CANON}/sid/login", "value": grant.actor}, "display": grant.actor}
    if grant.user is not None:
        who["reference"] = grant.user
    return {
        "resourceType": "Provenance",
        "target": [_version(target.type, target.id, target.version)],
        "recorded": instant(at),
        "activity": {"coding": [{"system": _OPERATION, "code": "UPDATE", "display": "revise"}], "text": status},
        "agent": [{"type": {"coding": [{"system": _PARTICIPANT, "code": "author", "display": "Author"}]}, "who": who}],
        "entity": [{"role": "revision", "what": _version(target.type, target.id, before)}],
    }


def _version(name: str, identity: str, version: int) -> dict[str, str]:
    return {"reference": f"{name}/{identity}/_history/{version}"}
