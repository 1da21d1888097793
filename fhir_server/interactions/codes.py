"""What terminology makes of `:in`, `:not-in`, `:below` and `:above`: the codes themselves, from stored value sets and code systems first.

https://hl7.org/fhir/R4/search.html#modifiers
"""

from __future__ import annotations

from collections.abc import Callable

from fhir_server.outcome import Outcome
from fhir_server.search import Grant
from fhir_server.search.params.kind import split, unescape
from fhir_server.search.params.token import Token, folded
from fhir_server.search.query import AllOf, AnyOf, Coded, Criterion, Filter, Not, Param
from fhir_server.store import Snapshot
from fhir_server.terminology import Terminology

from .engine import Engine
from .terminology import terminology


def expansion(engine: Engine, db: Snapshot, grant: Grant) -> Callable[[Coded], Filter]:
    """Makes the filter that codes named by terminology stand for. It raises Outcome `parameter` for what is not known here."""
    known = terminology(engine, db, grant)

    def expand(node: Coded) -> Filter:
        if node.how != "in":
            tokens = [token for text in node.texts for token in _in_line(known, node, text)]
            return _tokens(node.param, tokens)
        found = AnyOf(tuple(_members(known, node.param, canonical) for canonical in node.texts))
        positive = found.filters[0] if len(found.filters) == 1 else found
        if not node.negated:
            return positive
        if isinstance(positive, Criterion):
            return Criterion(positive.param, positive.values, "not")
        return Not(positive)

    return expand


def _members(known: Terminology, param: Param, canonical: str) -> Filter:
    expanded = known.expand(canonical)
    listed = _tokens(param, [Token(folded(code), system) for system, code in sorted(expanded.codes)])
    whole: list[Filter] = []
    for system, but in expanded.systems.items():
        within = _tokens(param, [Token(None, system)])
        without = _tokens(param, [Token(folded(code), system) for code in sorted(but)])
        whole.append(AllOf((within, Not(without))) if but else within)
    return AnyOf((listed, *whole)) if whole else listed


def _tokens(param: Param, tokens: list[Token]) -> Criterion:
    return Criterion(param, tuple(dict.fromkeys(tokens)))


def _in_line(known: Terminology, node: Coded, text: str) -> list[Token]:
    system, *rest = split(text, "|")
    if len(rest) != 1 or not system:
        raise Outcome(
            "parameter", f"{node.param.code}:{node.how} needs [system]|[code], since a code lies below others in its system, not '{text[:80]}'"
        )
    system, code = unescape(system), unescape(rest[0])
    codes = known.subsumed_by(system, code) if node.how == "below" else known.ancestors(system, code)
    return [Token(folded(found), system.partition("|")[0]) for found in sorted(codes)]
