"""Payments online: the webhook of the gateway, and the page where somebody pays, or comes back to.

The page is open to whoever has its address, which is a long random one: whoever was given the link may pay. It has no script where the gateway has a
page of its own, to which it leads; else the gateway's script takes what a payer enters, so that no number of a card ever comes here.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from babel.numbers import format_currency
from flask import Blueprint, Response, request

from fhir_server.clinic.billing.gateway import PATH, Online, Shown, events
from fhir_server.interactions import Engine
from fhir_server.outcome import Outcome
from fhir_server.settings import Settings

from .exchange import problem
from .views import Kit

WEBHOOK: Final = "/payments/webhook/stripe"
_LANGUAGES: Final = ("en", "de")
_MEANS: Final = "means"
_TEXTS: Final[dict[str, dict[str, str]]] = {
    "en": {
        "title": "Pay an invoice",
        "paid": "It is paid. Thank you.",
        "paid_more": "You get a receipt from the clinic.",
        "under_way": "Your payment is on its way. This can take some days with some ways to pay; you need not do anything more.",
        "failed": "The last try was refused, and nothing was taken. Try again, or in another way.",
        "over": "This link is not good any more. Nothing was taken by it. Ask the clinic for another one, if the invoice is still open.",
        "unknown": "We do not know yet whether the payment has begun. Nothing was taken. Load this page again in a minute.",
        "waits": "This invoice is still to be paid.",
        "invoice": "Invoice",
        "amount": "Amount",
        "pay": "Pay now",
        "onward": "You are led to the page of our payment service, and back here.",
        "card": "Card",
        "script": "To enter a card here, the page needs JavaScript, which comes from the payment service. You can also pay at the clinic's desk.",
        "again": "Look again",
        "skip": "Go to the content",
        "refused": "The payment was refused. Nothing was taken; try again, or with another card.",
    },
    "de": {
        "title": "Rechnung bezahlen",
        "paid": "Bezahlt. Vielen Dank.",
        "paid_more": "Von der Praxis erhalten Sie eine Quittung.",
        "under_way": "Ihre Zahlung ist unterwegs. Bei manchen Zahlungsarten dauert das einige Tage; Sie müssen nichts weiter tun.",
        "failed": "Der letzte Versuch wurde abgelehnt, und es wurde nichts abgebucht. Versuchen Sie es noch einmal oder auf andere Weise.",
        "over": "Dieser Link gilt nicht mehr. Über ihn wurde nichts abgebucht. Ist die Rechnung noch offen, bitten Sie die Praxis um einen neuen.",
        "unknown": "Noch ist nicht bekannt, ob die Zahlung begonnen hat. Abgebucht wurde nichts. Laden Sie die Seite in einer Minute neu.",
        "waits": "Diese Rechnung ist noch zu bezahlen.",
        "invoice": "Rechnung",
        "amount": "Betrag",
        "pay": "Jetzt bezahlen",
        "onward": "Sie kommen zur Seite unseres Zahlungsdienstes und danach wieder hierher.",
        "card": "Karte",
        "script": "Um hier eine Karte einzugeben, braucht die Seite JavaScript vom Zahlungsdienst. Sie können auch am Empfang bezahlen.",
        "again": "Noch einmal nachsehen",
        "skip": "Zum Inhalt",
        "refused": "Die Zahlung wurde abgelehnt. Es wurde nichts abgebucht; versuchen Sie es noch einmal oder mit einer anderen Karte.",
    },
}


class Paying:
    """The views."""

    def __init__(self, engine: Engine, settings: Settings, kit: Kit) -> None:
        """Cheap."""
        self._store = engine.store
        self._online = Online(engine.store, settings)
        self._limit = min(events.MAX_BODY, settings.max_body)
        self._kit = kit

    def for_programs(self) -> Blueprint:
        """The address of the webhook."""
        routes = Blueprint("payments", __name__)
        routes.register_error_handler(Exception, problem)
        routes.add_url_rule(WEBHOOK, "webhook", self.hear, methods=["POST"])
        return routes

    def add_to(self, routes: Blueprint) -> None:
        """Gives the page its address."""
        routes.add_url_rule(f"{PATH}<token>", "pay", self.page, methods=["GET"])
        routes.add_url_rule(f"{PATH}<token>", "pay_sent", self.sent, methods=["POST"])

    def hear(self) -> Response:
        """Takes an event: 200, whatever it is about, as long as the gateway has signed it."""
        if not self._online.is_set_up:
            raise Outcome("not-found", "No payment gateway is set up here")
        if (request.content_length or 0) > self._limit:
            raise _too_large()
        raw = request.environ["wsgi.input"].read(self._limit + 1)
        if len(raw) > self._limit:
            raise _too_large()
        events.hear(self._store, self._online.gateway, raw, request.headers.get("Stripe-Signature", ""))
        return Response(b"{}", 200, content_type="application/json")

    def page(self, token: str) -> Response:
        """Shows how it stands, and the way to pay where it is to be paid."""
        return self._shown(token, None)

    def sent(self, token: str) -> Response:
        """Pays by what the gateway's script has made of a card."""
        fields = self._kit.forms.read(_MEANS)
        try:
            self._online.confirm(token, fields[_MEANS])
        except Outcome as outcome:
            if outcome.category != "business-rule":
                raise
            return self._shown(token, "refused")
        return self._kit.pages.redirect(f"{PATH}{token}")

    def _shown(self, token: str, fault: str | None) -> Response:
        found = self._online.shown(token)
        language = request.accept_languages.best_match(_LANGUAGES) or "en"
        texts = _TEXTS[language]
        state = _state(found)
        context: dict[str, Any] = {
            "lang": language,
            "t": texts,
            "state": state,
            "number": found.number,
            "amount": format_currency(found.intent.amount, found.intent.currency, locale=language),
            "token": token,
            "fault": texts[fault] if fault is not None else None,
            "url": found.intent.url,
            "script": None,
        }
        if state in {"waits", "failed"} and found.intent.url is None:
            script, key = self._online.gateway.script()
            context |= {"script": script, "key": key}
            return self._kit.pages.render("pay.html", scripts_from=_origin(script), **context)
        return self._kit.pages.render("pay.html", **context)


def _state(found: Shown) -> str:
    state = found.intent.state
    if state in {"created", "unknown"}:
        return "unknown"
    return {"succeeded": "paid", "processing": "under_way", "cancelled": "over", "failed": "failed"}.get(state, "waits")


def _origin(script: str) -> str:
    parts = urlsplit(script)
    return f"{parts.scheme}://{parts.netloc}"


def _too_large() -> Outcome:
    return Outcome("too-large", f"The body is larger than {events.MAX_BODY // 1024} KiB")
