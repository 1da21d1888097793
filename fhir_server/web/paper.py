"""The page that the QR code of a paper leads to: for pharmacists, insurers, and whoever else was handed one."""

from __future__ import annotations

from flask import Blueprint, Response

from fhir_server.clinic import papers
from fhir_server.outcome import Outcome
from fhir_server.store import Store

from .views import Kit


class PaperView:
    """The view."""

    def __init__(self, kit: Kit, store: Store) -> None:
        """Looks papers up in a store."""
        self._kit = kit
        self._store = store

    def add_to(self, routes: Blueprint) -> None:
        """Adds the address."""
        routes.add_url_rule("/paper/<code>", "paper", self._show)

    def _show(self, code: str) -> Response:
        found = papers.verify(self._store, code)
        if found is None:
            raise Outcome("not-found", "No paper was given out here with this code")
        return self._kit.page("paper.html", paper=found)
