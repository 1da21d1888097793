"""Texts with gaps, written by administrators: Jinja2 in a sandbox, without loops, calls or anything else that grows.

https://jinja.palletsprojects.com/en/stable/sandbox/, https://www.etsi.org/deliver/etsi_ts/123000_123099/123038/
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from jinja2 import StrictUndefined, Template, TemplateError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from fhir_server.outcome import Outcome

VARIABLES: Final[Mapping[str, str]] = {
    "clinic": "What the clinic is called, by the settings",
    "name": "The patient's given name",
    "practitioner": "Whom the appointment is with",
    "day": "The day of the appointment, in words of the language",
    "time": "The time of the appointment, in the clinic's zone",
    "old_day": "The day that it was on before it moved",
    "old_time": "The time that it was at before it moved",
    "pending": "Whether the clinic has still to validate the appointment",
    "until": "The time until which an offer stands",
    "token": "The token in the queue",
    "room": "The room that somebody is called to",
    "link": "Where the patient signs in",
    "stop": "Where these messages are stopped by one click",
}
"""All that a text may name: nothing of why somebody comes. Each is a text, empty where there is nothing to say; `pending` is true or false."""

MAX_SOURCE: Final = 4_000
"""Characters of a text before its gaps are filled."""
MAX_VALUE: Final = 300
"""Characters of a value; the rest is cut off. A text has each at most some hundred times."""
MAX_RENDERED: Final = 20_000
MAX_SEGMENTS: Final = 6
"""Parts of an SMS: what is longer is refused, by gateways too."""

_DEPTH: Final = 20
_FILTERS: Final = frozenset({"upper", "lower", "capitalize", "trim"})
_ALLOWED: Final = (
    *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.If, nodes.Filter),
    *(nodes.Compare, nodes.Operand, nodes.Not, nodes.And, nodes.Or),
)
_ENVIRONMENT: Final = ImmutableSandboxedEnvironment(
    autoescape=False, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=False, cache_size=0
)
_ENVIRONMENT.globals.clear()

# GSM 03.38: what takes one septet, and what takes two.
_BASIC: Final = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENDED: Final = frozenset("^{}\\[~]|€\f")


@dataclass(frozen=True, slots=True)
class Size:
    """How long an SMS is: its alphabet, its length in units of that (septets or UTF-16 code units), and how many parts it is sent in."""

    alphabet: str
    length: int
    segments: int


def check(source: str, place: str) -> None:
    """Raises Outcome `invalid` for a text that cannot be rendered, or that does more than fill gaps; `place` is the element that it stands in."""
    if len(source) > MAX_SOURCE:
        raise Outcome("invalid", f"A text has at most {MAX_SOURCE} characters", expression=place)
    try:
        tree = _ENVIRONMENT.parse(source)
        _walk(tree, place, 0)
        _ENVIRONMENT.from_string(source)
    except TemplateError as error:
        raise Outcome("invalid", f"The text cannot be read: {str(error)[:200]}", expression=place) from None
    except (RecursionError, MemoryError, SyntaxError, ValueError):
        raise Outcome("invalid", "The text is nested too deeply", expression=place) from None


def render(source: str, values: Mapping[str, str | bool]) -> str:
    """A checked text with its gaps filled; takes microseconds, whatever the text. Raises Outcome `invalid` as `check`, and for too long a result."""
    known = {name: _tidy(values.get(name, "")) for name in VARIABLES}
    text = str(_compiled(source).render(known)).strip()
    if len(text) > MAX_RENDERED:
        raise Outcome("invalid", f"The text becomes longer than {MAX_RENDERED} characters")
    return text


def size_of(text: str) -> Size:
    """How long a text is as an SMS."""
    if all(each in _BASIC or each in _EXTENDED for each in text):
        length = sum(2 if each in _EXTENDED else 1 for each in text)
        return Size("GSM-7", length, 1 if length <= 160 else math.ceil(length / 153))  # noqa: PLR2004 - septets of one part, and of one of several
    length = len(text.encode("utf-16-le")) // 2
    return Size("UCS-2", length, 1 if length <= 70 else math.ceil(length / 67))  # noqa: PLR2004 - the same in code units


@lru_cache(maxsize=256)
def _compiled(source: str) -> Template:
    check(source, "text")
    return _ENVIRONMENT.from_string(source)


def _walk(node: nodes.Node, place: str, depth: int) -> None:
    if depth > _DEPTH:
        raise Outcome("invalid", "The text is nested too deeply", expression=place)
    if not isinstance(node, _ALLOWED):
        said = f"A text fills gaps and asks `if`; {type(node).__name__} is not for it"
        raise Outcome("invalid", said, expression=place)
    if isinstance(node, nodes.Name) and (node.name not in VARIABLES or node.ctx != "load"):
        raise Outcome("invalid", f"'{node.name[:80]}' is none of {', '.join(VARIABLES)}", expression=place)
    if isinstance(node, nodes.Filter) and (node.name not in _FILTERS or node.args or node.kwargs):
        raise Outcome("invalid", f"'{node.name[:80]}' is none of the filters {', '.join(sorted(_FILTERS))}", expression=place)
    for child in node.iter_child_nodes():
        _walk(child, place, depth + 1)


def _tidy(value: str | bool) -> str | bool:  # noqa: FBT001 - a value of a text
    """A value on one line, that can stand in a header too."""
    if isinstance(value, bool):
        return value
    return "".join(each for each in " ".join(value.split()) if each.isprintable())[:MAX_VALUE]
