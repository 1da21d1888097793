"""`$document`: the paper of a resource, as PDF; `$statement`: what was booked for a patient or on an account, and what is due."""

from __future__ import annotations

from datetime import date
from typing import Final, get_args

from fhir_server.clinic import papers
from fhir_server.clinic.acting import Act
from fhir_server.interactions import Engine, Exchange, Reply
from fhir_server.outcome import Outcome
from fhir_server.papers import PAPERS, Paper
from fhir_server.settings import CANON

from .operation import Operation, reading
from .parameters import Inputs

_KINDS: Final[dict[str, tuple[str, ...]]] = {
    "Invoice": ("invoice",),
    "PaymentReconciliation": ("receipt",),
    "MedicationRequest": ("prescription",),
    "DiagnosticReport": ("report",),
    "Encounter": ("summary", "token"),
    "Appointment": ("card",),
}
"""What may be printed of a type; the first where nothing else is asked for."""
_MAX_LANGUAGE: Final = 35


def document(engine: Engine, exchange: Exchange) -> Reply:
    """200 and the PDF of what the caller may see. `kind` of an Encounter is summary or token; `paper` is a4 or letter, `language` a code as de-AT.

    Raises Outcome `not-found`, `gone`, `parameter`, and `too-costly` beyond some forty pages.
    """
    inputs = Inputs(engine, exchange, ("kind", "paper", "language"))
    name = str(exchange.type)
    kind = _one_of("kind", inputs.text("kind"), _KINDS[name]) or _KINDS[name][0]
    return _given(engine, exchange, inputs, kind, None)


def statement(engine: Engine, exchange: Exchange) -> Reply:
    """200 and the PDF of what was booked from `start` to `end`, days that are both included: from the beginning, and until today.

    Raises Outcome `forbidden` for who neither works at the desk nor is the patient, `not-found`, `gone`, `parameter`, and `too-costly`.
    """
    inputs = Inputs(engine, exchange, ("start", "end", "paper", "language"))
    act = Act("statement", exchange.grant)
    if act.is_clinical and not act.is_desk:
        raise Outcome("forbidden", "$statement is for the desk, and for the patient themself")
    today = engine.store.clock().astimezone(engine.registry.zone).date()
    start, end = _day(inputs, "start"), _day(inputs, "end")
    period = papers.Period(start, min(end or today, today))
    if start is not None and start > period.end:
        raise Outcome("parameter", "The parameter 'start' is a day until the end of the statement, and not to come", code="value")
    return _given(engine, exchange, inputs, "statement", period)


def _given(engine: Engine, exchange: Exchange, inputs: Inputs, kind: str, period: papers.Period | None) -> Reply:
    name, identity = str(exchange.type), str(exchange.id)
    paper = _paper(inputs.text("paper"))
    language = inputs.text("language")
    if language is not None and len(language) > _MAX_LANGUAGE:
        raise Outcome("parameter", "The parameter 'language' is a code such as de-AT", code="value")
    root = exchange.base.removesuffix("/fhir")
    act = Act("document", exchange.grant, exchange.request_id, exchange.address)
    wanted = papers.Wanted(kind, name, identity, root, language, paper, period)
    # A HEAD is asked by programs that look whether there is something, and gives nothing out.
    given = papers.give(engine.store, act, wanted, keep=exchange.method != "HEAD")
    file = f"{kind}-{identity}{'-copy' if given.is_copy else ''}.pdf"
    headers = (("Content-Disposition", f'inline; filename="{file}"'),)
    return Reply(200, given.pdf, content_type="application/pdf", headers=headers)


def _one_of(name: str, text: str | None, known: tuple[str, ...]) -> str | None:
    if text is not None and text not in known:
        raise Outcome("parameter", f"The parameter '{name}' is {' or '.join(known)} here, not '{text[:40]}'", code="value")
    return text


def _day(inputs: Inputs, name: str) -> date | None:
    text = inputs.text(name)
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        raise Outcome("parameter", f"The parameter '{name}' is a day such as 2026-01-31", code="value") from None


def _paper(text: str | None) -> Paper | None:
    found = _one_of("paper", text.lower() if text is not None else None, PAPERS)
    return next((each for each in get_args(Paper) if each == found), None)


OPERATIONS: Final[dict[tuple[str, str], Operation]] = {
    (name, "document"): reading(CANON, f"{name}-document", document, frozenset({"instance"})) for name in _KINDS
} | {(name, "statement"): reading(CANON, f"{name}-statement", statement, frozenset({"instance"})) for name in ("Account", "Patient")}
