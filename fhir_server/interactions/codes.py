"""What terminology makes of `:in`, `:not-in`, `:below` and `:above`: the codes themselves, from stored value sets and code systems first.

https://hl7.org/fhir/R4/search.html#modifiers
"""

from __future__ import annotations

from collections.abc import Callable

from fhir_server.outcome import Outcome
from fhir_server.search import Grant
from fhir_server.search.params.kind import split, unescape
from fhir_server.search.params.token import Token, folded
from fhir_server.search.query import Coded, Criterion, Filter
from fhir_server.store import Snapshot
from fhir_server.terminology import Terminology

from .engine import Engine
from .terminology import terminology


def expansion(engine: Engine, db: Snapshot, grant: Grant) -> Callable[[Coded], Filter]:
    """Makes the filter that codes named by terminology stand for. It raises Outcome `parameter` for what is not known here."""
    known = terminology(engine, db, grant)

    def expand(node: Coded) -> Filter:
        try:
            return named(node)
        except Outcome as error:
            said = f"{node.param.code}:{'not-in' if node.negated else node.how}: {error}"
            raise Outcome(error.category, said, code=error.issues[0].code, headers=error.headers) from None

    def named(node: Coded) -> Filter:
        if node.how != "in":
            tokens = [token for text in node.texts for token in _in_line(known, node, text)]
            return Criterion(node.param, tuple(dict.fromkeys(tokens)))
        tokens = [token for canonical in node.texts for token in _members(known, canonical)]
        return Criterion(node.param, tuple(dict.fromkeys(tokens)), "not" if node.negated else None)

    return expand


def _members(known: Terminology, canonical: str) -> list[Token]:
    expanded = known.expand(canonical)
    listed = [Token(folded(code), system) for system, code in sorted(expanded.codes)]
    return listed + [Token(None, system, tuple(sorted(map(folded, but)))) for system, but in expanded.systems.items()]


def _in_line(known: Terminology, node: Coded, text: str) -> list[Token]:
    system, *rest = split(text, "|")
    if len(rest) != 1 or not system:
        raise Outcome("parameter", f"needs [system]|[code], since a code lies below others in its system, not '{text[:80]}'")
    system, code = unescape(system), unescape(rest[0])
    codes = known.subsumed_by(system, code) if node.how == "below" else known.ancestors(system, code)
    return [Token(folded(found), system.partition("|")[0]) for found in sorted(codes)]
