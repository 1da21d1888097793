"""The page that the QR code of a paper leads to: for pharmacists, insurers, whoever else was handed one, and who pays an invoice by it."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from flask import Blueprint, Response, request

from fhir_server.clinic import papers
from fhir_server.clinic.acting import Act
from fhir_server.clinic.billing.gateway import PATH, Online
from fhir_server.clinic.papers import Verified
from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM
from fhir_server.settings import Settings
from fhir_server.store import Store

from .views import Kit

_BEARER: Final = Act("pay", replace(SYSTEM, actor="bearer of an invoice"))
"""Whoever has the paper may pay it: nobody else is told of them, and nothing but the payment is open to them."""


class PaperView:
    """The view."""

    def __init__(self, kit: Kit, store: Store, settings: Settings) -> None:
        """Looks papers up in a store. Cheap."""
        self._kit = kit
        self._store = store
        self._online = Online(store, settings)

    def add_to(self, routes: Blueprint) -> None:
        """Adds the address."""
        routes.add_url_rule("/paper/<code>", "paper", self._show, methods=["GET"])
        routes.add_url_rule("/paper/<code>", "paper_pay", self._pay, methods=["POST"])

    def _show(self, code: str) -> Response:
        found = self._found(code)
        return self._kit.page("paper.html", paper=found, code=code, may_pay=found.payable is not None and self._online.is_set_up)

    def _pay(self, code: str) -> Response:
        """Begins a payment of all that is due, and leads to its page: the same one again while it waits to be paid."""
        self._kit.forms.read()
        found = self._found(code)
        if found.payable is None:
            raise Outcome("business-rule", "Nothing is to be paid of this paper any more")
        intent = self._online.begin(_BEARER, found.payable, None, None, request.host_url.removesuffix("/"))
        return self._kit.pages.redirect(f"{PATH}{intent.token}")

    def _found(self, code: str) -> Verified:
        found = papers.verify(self._store, code)
        if found is None:
            raise Outcome("not-found", "No paper was given out here with this code")
        return found
