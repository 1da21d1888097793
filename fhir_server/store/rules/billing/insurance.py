"""What is claimed of a payer for an invoice stays as it was claimed, and is claimed once; what a payer answers fits what was claimed.

https://hl7.org/fhir/R4/claim.html, https://hl7.org/fhir/R4/claimresponse.html

Held at every door, as all of them write through `transact`. It is about Claims that the server has made of its invoices, and about no others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain
from typing import Any, Final

from fhir_server import fhirjson
from fhir_server.outcome import Outcome
from fhir_server.search import Grant, Registry
from fhir_server.settings import CANON
from fhir_server.store.database import Connection
from fhir_server.store.ops import Create, Op, Resource
from fhir_server.store.walking import chunks
from fhir_server.store.writing.plan import Target

CLAIMED: Final = f"{CANON}/StructureDefinition/claimed-invoice"
CHARGE: Final = f"{CANON}/StructureDefinition/claimed-charge"
INSURER: Final = "http://terminology.hl7.org/CodeSystem/organization-type|ins"
"""The type of an Organization that insures, and is not the clinic."""
CONSUMER: Final = "insurance"
"""The name under which insurance hears of answers."""

_CONCERNED: Final = frozenset({"Claim", "ClaimResponse"})
_OPEN: Final = ("status", "text")
_OF_MONEY: Final = ("extension", "item", "total", "insurance", "use")
_SAID: Final = ("status", "outcome", "request", "item", "addItem", "total", "payment")
_FINAL: Final = frozenset({"complete", "partial"})
_BENEFIT: Final = "benefit"
_MOST: Final = Decimal(10) ** 12

_FREE: Final = "DELETE FROM claimed WHERE rid = ANY(%s)"
_TAKE: Final = """
INSERT INTO claimed (rid, claim, invoice, coverage, answered) VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING RETURNING claim
"""
_ANSWERED: Final = "UPDATE claimed SET answered = %s WHERE claim = %s"
_ALL_ANSWERED: Final = "UPDATE claimed SET answered = true WHERE claim = ANY(%s)"
_ANSWERS: Final = """
SELECT v.body FROM resource r JOIN resource_version v USING (vid)
WHERE NOT r.deleted AND r.rid IN (SELECT s.rid FROM sp_reference s WHERE s.pid = %s AND s.id = %s AND s.type = %s)
"""
_BEFORE: Final = "SELECT rid FROM claimed WHERE rid = ANY(%s) AND answered"
_ONE: Final = "SELECT v.body FROM resource r JOIN resource_version v USING (vid) WHERE r.type = %s AND r.id = %s AND NOT r.deleted"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a payer says of a claim: how much of it is covered, and how much of that is paid. `is_final`: the rest is not covered."""

    benefit: Decimal
    paid: Decimal
    is_final: bool


def concerns(ops: Iterable[Op]) -> bool:
    """Whether some op creates what has rules or rows here."""
    return any(isinstance(op, Create) and op.resource["resourceType"] in _CONCERNED for op in ops)


def check(targets: Iterable[Target], grant: Grant, operation: str) -> None:
    """Raises Outcome `business-rule` for a Claim of an invoice that is made by hand, changed, or deleted. No statements.

    `operation` names the one of the server's own that writes, and is empty for plain writes.
    """
    for target in targets:
        if target.type != "Claim":
            continue
        old, new = _old(target), target.resource
        if old is not None and invoice_of(old) is not None:
            kept = _OF_MONEY if operation else tuple((old.keys() | (new or {}).keys()) - {*_OPEN, "id", "meta"})
            if new is None or any(old.get(name) != new.get(name) for name in kept):
                said = "What was claimed stays as it is: cancel the Claim, and make another one by $claim"
                raise Outcome("business-rule", said, expression="Claim")
        elif not operation and new is not None and invoice_of(new) is not None and (grant.roles or old is not None):
            raise Outcome("business-rule", "An invoice is claimed by $claim", expression="Claim.extension")


def follow(connection: Connection, registry: Registry, targets: Sequence[Target]) -> None:
    """Brings the rows to what Claims and ClaimResponses say that a transaction has written; no statements without such.

    Raises Outcome `conflict` for what is claimed already, `business-rule` for an answer that does not fit its Claim.
    """
    claims = [target for target in targets if target.type == "Claim"]
    if claims:
        _hold(connection, [(target.rid, target.resource) for target in claims], refuse=True)
    answers = [target for target in targets if target.type == "ClaimResponse"]
    for target in answers:
        _fit(connection, registry, _old(target), target.resource)
    for claim in {claim_of(each, registry) for target in answers for each in (_old(target), target.resource)} - {None}:
        _mark(connection, registry, str(claim))


def renew(connection: Connection, registry: Registry) -> None:
    """Makes all rows anew. In a transaction. Of what is there twice the first counts."""
    connection.execute("DELETE FROM claimed")
    for name in ("Claim", "ClaimResponse"):
        for chunk in chunks(connection, name):
            if name == "Claim":
                _hold(connection, list(chunk.items()), refuse=False)
                continue
            answered = {claim_of(response, registry) for response in chunk.values() if _is_final(response)}
            connection.execute(_ALL_ANSWERED, (sorted(each for each in answered if each is not None),))


def invoice_of(claim: Mapping[str, Any]) -> str | None:
    """The id of the invoice that a Claim was made of; None for one that the server has not made."""
    named = (each.get("valueReference", {}) for each in claim.get("extension", ()) if each.get("url") == CLAIMED)
    text = next((str(each.get("reference", "")) for each in named), "")
    return text.removeprefix("Invoice/") if text.startswith("Invoice/") else None


def claim_of(response: Mapping[str, Any] | None, registry: Registry) -> str | None:
    """The id of the Claim of this server that a ClaimResponse answers."""
    if response is None:
        return None
    return next((identity for name, identity in registry.references(response, "request") if name == "Claim"), None)


def answer_of(response: Mapping[str, Any]) -> Answer | None:
    """What a ClaimResponse says; None for one that is not active, or says nothing yet.

    The benefit is that of its totals, else of its items, else what is paid. Raises Outcome `business-rule` where these disagree, and for amounts that
    cannot be.
    """
    if response.get("status") != "active" or response.get("outcome") not in _FINAL:
        return None
    totals = [each.get("amount") for each in response.get("total", ()) if _is_benefit(each)]
    items = [each.get("amount") for each in _adjudications(response) if _is_benefit(each) and "amount" in each]
    payment = response.get("payment", {}).get("amount")
    paid = _sum([payment] if payment is not None else [])
    benefit = _sum(totals or items or ([payment] if payment is not None else []))
    if totals and items and _sum(items) != benefit:
        said = f"The benefits of the items come to {_sum(items)}, and the total says {benefit}"
        raise Outcome("business-rule", said, expression="ClaimResponse.total")
    if paid > benefit:
        raise Outcome("business-rule", f"More is paid than the {benefit} that are covered", expression="ClaimResponse.payment.amount")
    return Answer(benefit, paid, response["outcome"] == "complete")


def fits(answer: Answer, response: Mapping[str, Any], claim: Mapping[str, Any]) -> None:
    """Raises Outcome `business-rule` for an answer in another currency than the Claim's, in other digits, or of more than is claimed."""
    total = claim.get("total", {})
    claimed, currency = Decimal(total.get("value", 0)), total.get("currency")
    if other := next((each for each in _currencies(response) if each != currency), None):
        raise Outcome("business-rule", f"The claim is in {currency}, and the answer in {other}", expression="ClaimResponse.total")
    if answer.benefit > claimed:
        said = f"Only {claimed} {currency} are claimed; more is not covered"
        raise Outcome("business-rule", said, expression="ClaimResponse.total")
    if any(amount != amount.quantize(claimed) for amount in (answer.benefit, answer.paid)):
        raise Outcome("business-rule", f"An amount in {currency} has the digits of {claimed}", expression="ClaimResponse.total")


def _fit(connection: Connection, registry: Registry, old: Resource | None, response: Resource | None) -> None:
    identity = claim_of(response, registry)
    if response is None or identity is None or (old is not None and all(old.get(name) == response.get(name) for name in _SAID)):
        return
    row = connection.execute(_ONE, (registry.types["Claim"], identity)).fetchone()
    claim = fhirjson.loads(row[0].encode()) if row is not None else {}
    found = answer_of(response) if invoice_of(claim) is not None else None
    if found is not None:
        fits(found, response, claim)
        if claim.get("status") != "active":
            raise Outcome("business-rule", f"The claim is {claim.get('status')}", expression="ClaimResponse.request")


def _mark(connection: Connection, registry: Registry, claim: str) -> None:
    pid = registry.supported_params("ClaimResponse")["request"].pid
    rows = connection.execute(_ANSWERS, (pid, claim, registry.types["Claim"])).fetchall()
    connection.execute(_ANSWERED, (any(_is_final(fhirjson.loads(body.encode())) for (body,) in rows), claim))


def _is_final(response: Resource) -> bool:
    return response.get("status") == "active" and response.get("outcome") == "complete"


def _hold(connection: Connection, claims: Sequence[tuple[int, Resource | None]], *, refuse: bool) -> None:
    rids = [rid for rid, _ in claims]
    answered = {rid for (rid,) in connection.execute(_BEFORE, (rids,)).fetchall()}
    connection.execute(_FREE, (rids,))
    for rid, claim in claims:
        invoice = invoice_of(claim) if claim is not None else None
        if claim is None or invoice is None or claim.get("status") not in {"draft", "active"}:
            continue
        coverage = next((str(each.get("coverage", {}).get("reference", "")) for each in claim.get("insurance", ())), "").removeprefix("Coverage/")
        taken = connection.execute(_TAKE, (rid, claim["id"], invoice, coverage, rid in answered)).fetchone()
        if taken is None and refuse:
            raise Outcome("conflict", f"Invoice/{invoice} is claimed already", expression="Claim.extension")


def _adjudications(response: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for each in chain(response.get("item", ()), response.get("addItem", ())):
        yield from each.get("adjudication", ())


def _is_benefit(part: Mapping[str, Any]) -> bool:
    return any(coding.get("code") == _BENEFIT for coding in part.get("category", {}).get("coding", ()))


def _currencies(response: Mapping[str, Any]) -> Iterator[Any]:
    parts = [*response.get("total", ()), *_adjudications(response), response.get("payment", {})]
    yield from (part["amount"]["currency"] for part in parts if "currency" in part.get("amount", {}))


def _sum(amounts: Sequence[Any]) -> Decimal:
    values = [Decimal((each or {}).get("value", 0)) for each in amounts]
    if not all(0 <= value < _MOST for value in values):
        said = f"What a payer covers and pays is not negative, and below {_MOST:,}"
        raise Outcome("business-rule", said, expression="ClaimResponse")
    return sum(values, Decimal(0))


def _old(target: Target) -> Resource | None:
    current = target.current
    if current is None or current.deleted or current.body is None:
        return None
    old: Resource = fhirjson.loads(current.body.encode())
    return old
