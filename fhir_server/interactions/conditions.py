"""The search parameters of conditional writes. https://hl7.org/fhir/R4/http.html#cond-update"""

from __future__ import annotations

from fhir_server.outcome import Outcome

from .exchange import Exchange


def sought(exchange: Exchange) -> list[tuple[str, str]]:
    """The parameters in the address that say which resource is meant: all but those that shape an answer."""
    return [(name, value) for name, value in exchange.params if name not in ("_summary", "_elements")]


def conditions(exchange: Exchange) -> list[tuple[str, str]]:
    """The same, where there must be some. Raises Outcome `parameter` where there are none: that would mean every resource."""
    found = sought(exchange)
    if not found:
        raise Outcome("parameter", f"A conditional {exchange.interaction} needs search parameters")
    return found
