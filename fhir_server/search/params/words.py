"""Full text: `_content` asks for words anywhere in a resource, `_text` for words in its narrative.

https://hl7.org/fhir/R4/search.html#content

What people read is content: narratives, names, addresses, titles, comments, displays, units, and the values of identifiers and contacts. Ids,
codes, dates, URLs, UUIDs and whatever else has a parameter of its own or is there for programs is not. Words are runs of letters and digits, folded
as strings are; of one resource the first million characters count, and of these 5,000 different words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from html import unescape as unescape_html
from itertools import chain, islice
from typing import Any, Final, NamedTuple

from fhir_server.search.statement import Statement, any_of
from fhir_server.spec import Element, Spec

from .kind import Context, Maker, Row, unescape
from .string import folded

TABLE: Final = "sp_words"
MODIFIERS: Final[frozenset[str]] = frozenset()
ORDER: Final = None

CONTENT: Final = "_content"
NARRATIVE: Final = "_text"

_LONGEST: Final = 40
"""Characters of a word that count: with 5,000 words of four bytes a character it stays below the megabyte that a tsvector may have."""
_MOST_WORDS: Final = 5_000
_MOST_ASKED: Final = 50
_MOST_READ: Final = 1_000_000
_SHORT: Final = 200
_READ_BY_PROGRAMS: Final = frozenset(
    (
        *("id", "url", "version", "versionId", "reference", "source", "sourceId", "language", "status", "type", "code", "expression", "path"),
        *("xpath", "data", "condition", "criteria", "min", "max", "element", "scope", "mustSupport", "etag", "ifMatch", "ifNoneMatch", "field"),
        *("ifNoneExist", "linkId", "requestURL", "params", "systemType", "searchParam", "searchInclude", "searchRevInclude", "representation"),
        *("sequence", "cigar", "basis", "network", "part", "map", "sourceVersion", "targetVersion", "performerLinkId", "reasonLinkId"),
        *("requesterLinkId", "contextLinkId"),
    )
)
_WORD: Final = re.compile(r"[^\W_]+")
_TOKEN: Final = re.compile(r'"[^"]*"|[()]|[^\s()"]+|"')
_TAG: Final = re.compile(r"<[^<>]*>")
_NO_TEXT: Final = re.compile(r"urn:|[^ ]*://|[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-", re.ASCII)


class Words(NamedTuple):
    """All of `words` stand in one resource of these types, those that end in `*` as beginnings of words; with `narrative` in its narrative."""

    words: tuple[str, ...]
    narrative: bool
    types: tuple[str, ...]


def _properties(spec: Spec) -> frozenset[str]:
    """Names of JSON properties that hold text for people; 0.5 ms."""
    found = {element.key for definition in spec.types.values() for element in definition.elements.values() if element.type in {"string", "markdown"}}
    return frozenset(found) - _READ_BY_PROGRAMS


def maker(fhir_type: str, element: Element | None, context: Context) -> Maker | None:
    """The row (words,) of a whole resource of a type, a tsvector as PostgreSQL reads it; none for one without words."""
    del element
    definition = context.spec.types.get(fhir_type)
    if definition is None or definition.kind != "resource":
        return None
    properties, head = _properties(context.spec), f"'={fhir_type}'"

    def row(resource: dict[str, Any]) -> tuple[Row, ...]:
        texts: list[str] = []
        _collect(resource, properties, texts)
        words = _words(texts)
        div = resource["text"].get("div") if "text" in resource else None
        if not div:
            return ((f"{head} {' '.join(words)}",),) if words else ()
        told = _words([_plain(div)])
        listed = [word + "A" for word in told]
        listed += [word for word in words if word not in told][: _MOST_WORDS - len(told)]
        return ((" ".join((head, *listed)),),) if listed else ()

    return row


def _collect(value: Mapping[str, Any], properties: frozenset[str], texts: list[str]) -> None:
    for key, below in value.items():
        kind = type(below)
        if kind is str:
            if key in properties:
                texts.append(below)
            elif key == "div":
                texts.append(_plain(below))
        elif kind is dict:
            _collect(below, properties, texts)
        elif kind is list:
            for item in below:
                if type(item) is dict:
                    _collect(item, properties, texts)
                elif type(item) is str and key in properties:
                    texts.append(item)


def _plain(div: str) -> str:
    """The text of XHTML without its tags."""
    return unescape_html(_TAG.sub(" ", div[:_MOST_READ]))


def _words(texts: list[str]) -> dict[str, None]:
    """The different words of texts in their order, each as a tsvector has it."""
    if sum(map(len, texts)) > _MOST_READ:
        texts = _read(texts)
    found = dict.fromkeys(chain.from_iterable([_known(text) if len(text) <= _SHORT else _split(text) for text in texts]))
    return found if len(found) <= _MOST_WORDS else dict.fromkeys(islice(found, _MOST_WORDS))


def _read(texts: list[str]) -> list[str]:
    left, kept = _MOST_READ, []
    for text in texts:
        kept.append(text[:left])
        left -= len(kept[-1])
        if not left:
            break
    return kept


def _split(text: str) -> list[str]:
    # A word without a position would pass for one of any weight.
    return [] if _NO_TEXT.match(text) else [f"'{word[:_LONGEST]}':1" for word in _WORD.findall(folded(text))]


# Displays and units come again and again: 6 µs of 15 for a resource.
_known: Final = lru_cache(maxsize=8192)(_split)


def alternatives(text: str) -> list[str]:
    """The texts of which one must be there: `(bone OR liver) and metastases` is `bone metastases` and `liver metastases`.

    Words without a connector between them must all be there; connectors within quotes are words. Raises ValueError for brackets without their other,
    and for more than 50 alternatives or brackets within brackets.
    """
    tokens = _TOKEN.findall(text)
    found, end = _either(tokens, 0, 0)
    if end < len(tokens):
        raise ValueError("has a bracket without its other")
    return found


def _either(tokens: Sequence[str], at: int, depth: int) -> tuple[list[str], int]:
    """The alternatives that begin at a token, and where they end."""
    if depth > _MOST_ASKED:
        raise ValueError(f"has more than {_MOST_ASKED} brackets within brackets")
    found: list[str] = []
    every = [""]
    while at < len(tokens) and tokens[at] != ")":
        word = tokens[at]
        at += 1
        if word.lower() == "or":
            found += every
            every = [""]
        elif word == "(":
            inner, at = _either(tokens, at, depth + 1)
            if at == len(tokens):
                raise ValueError("has a bracket without its other")
            at += 1
            every = [f"{one} {other}".strip() for one in every for other in inner]
        elif word.lower() != "and":
            every = [f"{one} {word}".strip() for one in every]
        if len(found) + len(every) > _MOST_ASKED:
            raise ValueError(f"has more than {_MOST_ASKED} alternatives")
    return [*found, *every], at


def parse(text: str, modifier: str | None, targets: tuple[str, ...], context: Context) -> Words:
    """Words that must all be there, at most 50; `*` at the end of one asks for words that begin so. `modifier` is `narrative` for `_text`.

    `targets` are the types that are searched.
    """
    del context
    found: list[str] = []
    for part in unescape(text).split():
        parts = _WORD.findall(folded(part))
        if parts and part.rstrip('"').endswith("*"):
            parts[-1] += "*"
        found += [word[:-1][:_LONGEST] + "*" if word.endswith("*") else word[:_LONGEST] for word in parts]
    words = tuple(dict.fromkeys(found))
    if not words:
        raise ValueError(f"has no word to look for: '{text[:80]}'")
    if len(words) > _MOST_ASKED:
        raise ValueError(f"has {len(words)} words; {_MOST_ASKED} are the most")
    return Words(words, modifier == "narrative", targets)


def predicate(values: Sequence[Words], at: str) -> Statement:
    """A look-up of the inverted index per word and one for the type; words of the narrative are checked in the row."""
    return any_of(Statement(f"{at}words @@ %s::tsquery", (_typed(value),)) for value in dict.fromkeys(values))


def _typed(value: Words) -> str:
    types = " | ".join(f"'={name}'" for name in value.types)
    return f"{lexemes(value)} & ({types})" if types else lexemes(value)


def lexemes(value: Words) -> str:
    """The words as a tsquery, such as `'head':A & 'ach':A*`."""
    weight = "A" if value.narrative else ""
    return " & ".join(_term(word, weight) for word in value.words)


def _term(word: str, weight: str) -> str:
    # Words are letters and digits, so that nothing in them needs an escape.
    if word.endswith("*"):
        return f"'{word[:-1]}':{weight}*"
    return f"'{word}':{weight}" if weight else f"'{word}'"


def ends(row: Row) -> tuple[str, str]:
    """No order: ORDER is None."""
    return row[0], row[0]


def matches(value: Words, row: Row) -> bool:
    """Every word is among the row's."""
    there = row[0].split(" ")
    if value.types and not any(f"'={name}'" in there for name in value.types):
        return False
    if value.narrative:
        there = [lexeme for lexeme in there if lexeme.endswith(":1A")]
    known = {lexeme[1:].partition("'")[0] for lexeme in there}
    return all(any(other.startswith(word[:-1]) for other in known) if word.endswith("*") else word in known for word in value.words)
