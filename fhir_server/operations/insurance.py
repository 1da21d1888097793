"""`Invoice/$claim` and `Claim/$record-response`: what is claimed of a payer, and what it answers."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from fhir_server.clinic.acting import Act
from fhir_server.clinic.insurance import claims, recording
from fhir_server.interactions import Engine, Exchange, Reply
from fhir_server.interactions.writing import written_reply
from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM
from fhir_server.store.ops import Commit, Version, Written

from .acts import Answer, first_written, once
from .billing import acting_for
from .operation import Operation, acting
from .parameters import Inputs

_OUTCOMES: Final = frozenset({"queued", "complete", "error", "partial"})
_DENIED: Final = frozenset({"patient", "write-off"})


def claim(engine: Engine, exchange: Exchange) -> Reply:
    """201 and the Claim, 200 where the invoice is claimed already. Raises as the workflow."""
    identity = Inputs(engine, exchange, ()).needed("id", exchange.id)
    there: list[Version] = []

    def run(act: Act) -> Commit:
        there.clear()
        return claims.claim(engine.store, act, identity, there.append)

    return once(engine, exchange, "claim", run, _made_or(there))


def record_response(engine: Engine, exchange: Exchange) -> Reply:
    """201 and the ClaimResponse, 200 where the same was said already. Raises as the workflow, and Outcome `parameter` where nothing is said."""
    names = ("response", "outcome", "benefit", "paid", "date", "reference", "disposition", "denied")
    inputs = Inputs(engine, exchange, names, resource="response")
    identity, response = inputs.needed("id", exchange.id), inputs.resource("response", "ClaimResponse")
    benefit, paid = inputs.money("benefit"), inputs.money("paid")
    outcome = inputs.text("outcome") or "complete"
    denied = inputs.text("denied") or "patient"
    if outcome not in _OUTCOMES:
        raise Outcome("parameter", f"The parameter 'outcome' is {', '.join(sorted(_OUTCOMES))}", code="value")
    if denied not in _DENIED:
        raise Outcome("parameter", f"The parameter 'denied' is {' or '.join(sorted(_DENIED))}: who has what is not covered", code="value")
    if response is not None and any(inputs.has(name) for name in names[1:-1]):
        raise Outcome("parameter", "A response says it all: name no amounts besides")
    if response is None and benefit is None and paid is None and outcome in {"complete", "partial"}:
        raise Outcome("parameter", "The parameter 'benefit' is needed, or a response: how much is covered", code="required")
    told = recording.Told(
        response,
        outcome,
        _amount(benefit),
        _amount(paid),
        inputs.text("date"),
        inputs.text("reference") or "",
        inputs.text("disposition") or "",
        give_up=denied == "write-off",
        limit=Decimal(engine.approval_limit),
        currencies=frozenset(currency for each in (benefit, paid) if each is not None for currency in each[1:]),
    )
    there: list[Version] = []

    def run(act: Act) -> Commit:
        there.clear()
        return recording.record(engine.store, acting_for(act, told.said), identity, told, there.append)

    return once(engine, exchange, "record-response", run, _made_or(there))


def _amount(money: tuple[Decimal, str] | None) -> Decimal | None:
    return money[0] if money is not None else None


def _made_or(there: list[Version]) -> Answer:
    """Answers with what was made, or with what was there."""

    def answer(commit: Commit) -> Reply:
        return first_written(201)(commit) if commit.written else written_reply(Written("found", there[-1]), SYSTEM)

    return answer


OPERATIONS: Final[dict[tuple[str, str], Operation]] = {
    ("Invoice", "claim"): acting("Invoice-claim", claim, "instance"),
    ("Claim", "record-response"): acting("Claim-record-response", record_response, "instance"),
}
