"""Payments as resources: what is booked stays as it is, nobody pays an invoice by writing one, and each says whose it is.

https://hl7.org/fhir/R4/paymentreconciliation.html, https://hl7.org/fhir/R4/paymentnotice.html

R4 has neither in a patient's compartment. So each carries the patient whose bills it is about, where they are one person's; the search parameter
`patient` of both rests on that (`search.compartment`). One about the bills of several, as an insurer's advice, belongs to none of them: it would tell
each of the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from fhir_server import fhirjson
from fhir_server.outcome import Outcome
from fhir_server.search import Grant, Registry
from fhir_server.search.params.reference import ABSOLUTE, locate
from fhir_server.settings import CANON
from fhir_server.store.arrays import one_of, rows_of
from fhir_server.store.database import Connection
from fhir_server.store.ops import Create, Op, Resource
from fhir_server.store.writing.plan import Target

PATIENT: Final = f"{CANON}/StructureDefinition/payment-patient"
METHOD: Final = f"{CANON}/StructureDefinition/payment-method"
TENDERED: Final = f"{CANON}/StructureDefinition/payment-tendered"

_TYPES: Final = frozenset({"PaymentNotice", "PaymentReconciliation"})
_OURS: Final = frozenset({METHOD, TENDERED})
"""What the ledger knows of has the first of these."""
_BILLS: Final = ("Account", "ChargeItem", "Claim", "Invoice")
_OF_MONEY: Final = (
    # How it went, and its number where it went, may be known later.
    *("identifier", "status", "created", "paymentDate", "paymentAmount", "detail"),
    *("request", "payment", "amount", "paymentStatus"),
)
_WHOSE: Final = f"""
SELECT DISTINCT x.type, x.id, g.id FROM {rows_of("smallint", "text")} AS x(type, id)
LEFT JOIN resource r ON r.type = x.type AND r.id = x.id AND NOT r.deleted
LEFT JOIN sp_reference g ON g.rid = r.rid AND g.pid = {one_of("smallint")} AND g.type = %s
"""


def concerns(ops: Iterable[Op]) -> bool:
    """Whether some op creates what has rules here."""
    return any(isinstance(op, Create) and op.resource["resourceType"] in _TYPES for op in ops)


def own(connection: Connection, registry: Registry, targets: Sequence[Target], grant: Grant, operation: str) -> None:
    """Writes into payments whose they are, but where the server itself, or another system, has said so. One statement if some do not say it.

    What a person says of it does not count.
    """
    trusted = operation or not grant.roles
    asked: list[tuple[Target, Resource, set[tuple[str, str]]]] = []
    for target in targets:
        resource = target.resource
        if target.type not in _TYPES or resource is None or (trusted and any(each.get("url") == PATIENT for each in resource.get("extension", ()))):
            continue
        target.resource = resource = _with(resource, None)
        bills = _bills(resource, registry)
        if bills is not None:
            asked.append((target, resource, bills))
    if not asked:
        return
    found = _owners(connection, registry, targets, {bill for _, _, bills in asked for bill in bills})
    for target, resource, bills in asked:
        patients = {patient for bill in bills for patient in found.get(bill, {None})}
        if len(patients) == 1 and (patient := patients.pop()) is not None:
            target.resource = _with(resource, patient)


def check(targets: Iterable[Target], grant: Grant, operation: str) -> None:
    """Raises Outcome `business-rule` for a change of what is booked, and for an invoice that somebody pays by a plain write. No statements.

    `operation` names the one of the server's own that writes, and is empty for plain writes.
    """
    for target in targets:
        if target.type not in _TYPES:
            continue
        current, new = target.current, target.resource
        alive = current is not None and not current.deleted and current.body is not None and not target.unseen
        old: Resource | None = fhirjson.loads(str(current.body).encode()) if alive and current is not None else None
        if old is not None and new is not None and _content(old) == _content(new):
            continue
        if old is not None and _is_booked(old):
            if not operation or new is None or any(old.get(name) != new.get(name) for name in _OF_MONEY):
                said = "A payment that is booked stays as it is; what was paid is given back by $refund"
                raise Outcome("business-rule", said, expression=target.type)
            continue
        if operation or new is None or not grant.roles:
            continue
        _check_new(target.type, old or {}, new)


def _check_new(name: str, old: Mapping[str, Any], new: Resource) -> None:
    before, after = ([each for each in one.get("extension", ()) if each.get("url") in _OURS] for one in (old, new))
    if before != after:
        raise Outcome("business-rule", "How something was paid is written by $pay", expression=f"{name}.extension")
    if name == "PaymentReconciliation" and new.get("status") == "active" and any(_pays_invoice(each) for each in new.get("detail", ())):
        said = "An invoice is paid by Invoice/[id]/$pay, which books it; a PaymentReconciliation that is written does not"
        raise Outcome("business-rule", said, expression="PaymentReconciliation.detail")


def _pays_invoice(detail: Mapping[str, Any]) -> bool:
    request = detail.get("request", {})
    return request.get("type") == "Invoice" or "Invoice" in str(request.get("reference", "")).split("/")


def _is_booked(resource: Mapping[str, Any]) -> bool:
    return any(each.get("url") == METHOD for each in resource.get("extension", ()))


def _content(resource: Resource) -> Resource:
    return {name: value for name, value in resource.items() if name not in {"id", "meta", "text"}}


def _with(resource: Resource, patient: str | None) -> Resource:
    """The resource, of that patient and no other."""
    extensions = [each for each in resource.get("extension", ()) if each.get("url") != PATIENT]
    extensions += [patient_extension(patient)] if patient is not None else []
    rest = {name: value for name, value in resource.items() if name != "extension"}
    return rest | ({"extension": extensions} if extensions else {})


def patient_extension(patient: str) -> Resource:
    """What says whose a payment is, by the id of the patient."""
    return {"url": PATIENT, "valueReference": {"reference": f"Patient/{patient}"}}


def _bills(resource: Resource, registry: Registry) -> set[tuple[str, str]] | None:
    """Type and id of the bills that a payment is about; None where it is about none, or about something else besides."""
    found = set(_requests(resource, registry))
    return {bill for bill in found if bill is not None} if found and None not in found else None


def _requests(resource: Resource, registry: Registry) -> Iterator[tuple[str, str] | None]:
    for part in (resource, *resource.get("detail", ())):
        if "request" not in part or (part is resource and resource["resourceType"] != "PaymentNotice"):
            continue
        text = str(part["request"].get("reference", ""))
        place = locate(text, registry.context) if text and not text.startswith("#") else None
        known = place is not None and place[1] != ABSOLUTE and registry.type_name(place[1]) in _BILLS
        yield (registry.type_name(place[1]), place[0]) if place is not None and known else None


def _owners(
    connection: Connection, registry: Registry, targets: Sequence[Target], bills: set[tuple[str, str]]
) -> dict[tuple[str, str], set[str | None]]:
    """The patients of bills, None for one that has none, those that the same transaction writes included."""
    listed = sorted(bills)
    pids = [registry.supported_params(name)["patient"].pid for name in _BILLS]
    arguments = ([registry.types[name] for name, _ in listed], [identity for _, identity in listed], pids, registry.types["Patient"])
    found: dict[tuple[str, str], set[str | None]] = {}
    for number, identity, patient in connection.execute(_WHOSE, arguments).fetchall():
        found.setdefault((registry.type_name(number), identity), set()).add(patient)
    for target in targets:
        if (target.type, target.id) in bills and target.resource is not None:
            patients: set[str | None] = {identity for name, identity in registry.references(target.resource, "patient") if name == "Patient"}
            found[target.type, target.id] = patients or {None}
    return found
