"""Characters to tokens.

https://hl7.org/fhirpath/N1/#lexical-elements
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from .errors import FhirPathError

MAX_LENGTH: Final = 20_000
"""Characters of an expression; the longest of R4 has 4,300."""

_TOKEN: Final = re.compile(
    r"""
    (?P<space>\s+|//[^\n]*|/\*.*?\*/)
  | (?P<temporal>@(?:T\d\d(?::\d\d(?::\d\d(?:\.\d+)?)?)?
      |\d{4}(?:-\d\d(?:-\d\d)?)?(?:T(?:\d\d(?::\d\d(?::\d\d(?:\.\d+)?)?)?(?:Z|[+-]\d\d:\d\d)?)?)?))
  | (?P<number>\d+(?:\.\d+)?)
  | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<string>'(?:[^'\\]|\\.)*')
  | (?P<quoted>`(?:[^`\\]|\\.)*`)
  | (?P<variable>\$this|\$index|\$total|%(?:[A-Za-z_][A-Za-z0-9_-]*|'(?:[^'\\]|\\.)*'|`(?:[^`\\]|\\.)*`))
  | (?P<symbol>!=|!~|<=|>=|/(?!\*)|[=~<>|+\-*&.,()\[\]{}])
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_ESCAPE: Final = re.compile(r"\\(u[0-9A-Fa-f]{4}|.)", re.DOTALL)
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t", "f": "\f"}


class Token(NamedTuple):
    """`text` is unescaped and without quotes for strings, quoted identifiers and variables, as written for the others."""

    kind: str
    text: str
    position: int


def tokens(text: str) -> list[Token]:
    """The tokens of an expression, the last of kind `end`. Raises FhirPathError at the first character that starts none."""
    if len(text) > MAX_LENGTH:
        raise FhirPathError(f"the expression has {len(text)} characters; {MAX_LENGTH} is the most")
    found: list[Token] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise FhirPathError(_fault(text, position), position)
        kind = match.lastgroup or ""
        if kind != "space":
            found.append(Token(kind, _content(kind, match.group(), position), position))
        position = match.end()
    found.append(Token("end", "", len(text)))
    return found


def _content(kind: str, text: str, position: int) -> str:
    if kind in {"string", "quoted"}:
        return _unescape(text[1:-1], position)
    if kind == "variable" and text[1] in "'`":
        return "%" + _unescape(text[2:-1], position)
    return text


def _unescape(text: str, position: int) -> str:
    if "\\" not in text:
        return text

    def replace(match: re.Match[str]) -> str:
        code = match.group(1)
        if len(code) > 1:
            return chr(int(code[1:], 16))
        if code == "u":
            raise FhirPathError(r"\u needs four hexadecimal digits", position)
        return _ESCAPES.get(code, code)

    try:
        # Beyond the basic plane a character is written as two escapes, as in JSON.
        return _ESCAPE.sub(replace, text).encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise FhirPathError("half a character is escaped", position) from None


def _fault(text: str, position: int) -> str:
    if text.startswith("/*", position):
        return "the comment does not end"
    if text[position] in "'`":
        return "the quotation does not end"
    return f"unexpected character {text[position]!r}"
