"""The newest observations of each code. https://hl7.org/fhir/R4/observation-operation-lastn.html"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from fhir_server import fhirjson
from fhir_server.interactions import Engine, Exchange, Reply
from fhir_server.interactions.finding import prepared
from fhir_server.interactions.searchset import entry, searchset
from fhir_server.outcome import Issue, Outcome, operation_outcome
from fhir_server.search.compile import MAX_PAGE_BYTES
from fhir_server.search.latest import MAX_MATCHED, compile_latest
from fhir_server.store.witness import seen

from .parameters import texts

MAX_MAX: Final = 1_000
MAX_ANSWERED: Final = 5_000
"""Observations of one answer, which has no pages."""

# What shapes a page of a search means nothing to the newest of each group.
_NOT_HERE: Final = re.compile(
    r"_(sort|count|cursor|total|summary|elements|include|revinclude|contained|containedType|maxresults|score|explain)(:.*)?"
)
_SUBJECT: Final = re.compile(r"(patient|subject)([:.].*)?", re.DOTALL)
_CODED: Final = re.compile(r"(category|code|combo-code|component-code|(code|combo-code|component-code)-value-[a-z]+)([:.].*)?", re.DOTALL)


def lastn(engine: Engine, exchange: Exchange) -> Reply:
    """200 and a searchset Bundle, newest first: of each code the newest `max` (1 without), and those of the same time as the last of these.

    Codes that one observation has side by side are one code; observations without any are grouped by text. One statement, beside what chains and
    terminology take. Raises Outcome `parameter` where no subject or no code is asked for and for what a search refuses, `too-costly` beyond limits.
    """
    asked, most = _asked(engine, exchange)
    query = engine.registry.parse("Observation", asked, strict=exchange.strict, now=engine.store.clock())
    with engine.store.snapshot(exchange.grant) as db:
        final = prepared(engine, db, query, exchange.grant)
        rows = db.select(compile_latest(final, engine.registry, exchange.grant, most, MAX_ANSWERED + 1, db.sources))
    if rows and rows[0][5] > MAX_MATCHED:
        raise Outcome("too-costly", f"More than {MAX_MATCHED:,} observations match; ask for fewer by date, category or code")
    if len(rows) > MAX_ANSWERED:
        raise Outcome("too-costly", f"The answer would have more than {MAX_ANSWERED:,} observations; ask for fewer by max, category or code")
    chosen = _newest(rows, most)
    for row in chosen:
        seen(row[4])
    if any(row[4] is None for row in chosen):
        raise Outcome("too-costly", f"The answer would be larger than {MAX_PAGE_BYTES // 1_000_000} MB; ask for fewer by max, category or code")
    entries = [entry(exchange.base, "Observation", row[0], row[4].encode(), "match") for row in chosen]
    total = len(entries)
    if query.ignored:
        told = [Issue("warning", "not-supported", f"'{code}' was left out: {reason}") for code, reason in query.ignored]
        entries.append(b'{"resource":' + fhirjson.dumps(operation_outcome(told)) + b',"search":{"mode":"outcome"}}')
    applied = [*query.applied, *([("max", str(most))] if most != 1 else [])]
    return searchset(exchange, "Observation/$lastn", applied, entries, total, None)


def _asked(engine: Engine, exchange: Exchange) -> tuple[list[tuple[str, str]], int]:
    given = texts(engine, exchange)
    limits = [value for name, value in given if name == "max"]
    asked = [pair for pair in given if pair[0] != "max"]
    for name, _ in asked:
        if _NOT_HERE.fullmatch(name):
            raise Outcome("parameter", f"{name[:80]} does not go with $lastn, whose answer is whole and has the newest first", code="not-supported")
    if exchange.grant.patient is not None and not any(_SUBJECT.fullmatch(name) for name, _ in asked):
        asked.append(("patient", exchange.grant.patient))
    if not any(_SUBJECT.fullmatch(name) and value for name, value in asked):
        raise Outcome("parameter", "$lastn needs a subject: patient=[id] or subject=[type]/[id]", code="required")
    if not any(_CODED.fullmatch(name) and value for name, value in asked):
        raise Outcome("parameter", "$lastn needs category=[code], or a parameter with a code in it such as code=[system]|[code]", code="required")
    if len(limits) > 1:
        raise Outcome("parameter", "The parameter 'max' stands twice")
    return asked, _most(limits[0]) if limits else 1


def _most(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and 0 < int(text) <= MAX_MAX):  # noqa: PLR2004 - beyond any limit
        raise Outcome("parameter", f"max is a whole number from 1 to {MAX_MAX:,}, not '{text[:80]}'", code="value")
    return int(text)


def _newest(rows: Sequence[tuple[Any, ...]], most: int) -> list[tuple[Any, ...]]:
    """Of rows that are newest first the newest of each group, once sets of codes that share one are one group.

    The newest of a group are among the newest of the sets that it is made of, which is what the rows are.
    """
    groups = _joined(_codes(row) for row in rows)
    taken: dict[str, tuple[int, int]] = {}
    chosen = []
    for row in rows:
        group = groups[_codes(row)[0]]
        count, last = taken.get(group, (0, 0))
        if count < most or row[1] == last:
            taken[group] = count + 1, row[1]
            chosen.append(row)
    return chosen


def _codes(row: tuple[Any, ...]) -> list[str]:
    """What an observation is grouped by; a text is no code."""
    return row[2] or [f"={text}" for text in row[3] or ("",)]


def _joined(sets: Iterable[Sequence[str]]) -> dict[str, str]:
    """Each code with the one that stands for its group."""
    parents: dict[str, str] = {}

    def root(code: str) -> str:
        while parents.setdefault(code, code) != code:
            parents[code] = code = parents[parents[code]]
        return code

    for first, *others in sets:
        head = root(first)
        for other in others:
            parents[root(other)] = head
    return {code: root(code) for code in list(parents)}
