"""String functions, and of the next version `encode`, `escape`, `trim`, `split` and `join`.

https://hl7.org/fhirpath/N1/#string-manipulation
"""

from __future__ import annotations

import base64
import binascii
import html
import json
import re
from collections.abc import Callable
from typing import Final

from fhir_server.fhirpath.budget import matching
from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.model import Env, Item, Node
from fhir_server.fhirpath.operators import MAX_TEXT, single, text, too_long
from fhir_server.fhirpath.regex import compile_pattern

from .signature import Function, Lambda

_HALF: Final = re.compile("[\ud800-\udfff]")
"""Half a character, which no UTF-8 can hold."""


def string(env: Env, items: list[Item], name: str) -> str | None:
    """The one string, None for none; FhirPathError for anything else."""
    value = single(items, env, name)
    if isinstance(value, str):
        env.spend(len(value) >> 6)
    if value is None or isinstance(value, str):
        return value
    if items[0].__class__ is Node and isinstance(items[0].value, str):
        return items[0].value
    raise FhirPathError(f"{name} takes a string")


def _of_strings(name: str, call: Callable[..., Item], arguments: int = 1) -> Function:
    """A function of the input and so many strings; empty as soon as one of them is."""

    def run(env: Env, items: list[Item], *others: list[Item]) -> list[Item]:
        values = [string(env, one, f"{name}()") for one in (items, *others)]
        if None in values:
            return []
        result = call(*values)
        if isinstance(result, str):
            text(result, env)
        return [] if result is None else [result]

    return Function(run, arguments, arguments)


def _integer(env: Env, items: list[Item], name: str) -> int | None:
    value = single(items, env, name)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise FhirPathError(f"{name} takes an integer")
    return value


def _substring(env: Env, items: list[Item], start: list[Item], length: list[Item] | None = None) -> list[Item]:
    value, first = string(env, items, "substring()"), _integer(env, start, "substring()")
    if value is None or first is None or not 0 <= first < len(value):
        return []
    count = None if length is None else _integer(env, length, "substring()")
    return [text(value[first:] if count is None else value[first : first + max(count, 0)], env)]


def _replace(value: str, old: str, new: str) -> str:
    if value.count(old) * max(len(new) - len(old), 0) + len(value) > MAX_TEXT:
        raise too_long()
    return value.replace(old, new)


def _replace_matches(env: Env, items: list[Item], expression: list[Item], new: list[Item]) -> list[Item]:
    value, regex, by = (string(env, one, "replaceMatches()") for one in (items, expression, new))
    if value is None or regex is None or by is None:
        return []
    compiled = compile_pattern(regex)
    found = matching(env, lambda left: compiled.replace(value, by, MAX_TEXT, left)) if regex else value
    if found is None:
        raise too_long()
    return [text(found, env)]


def _matches(env: Env, items: list[Item], expression: list[Item]) -> list[Item]:
    value, regex = string(env, items, "matches()"), string(env, expression, "matches()")
    if value is None or regex is None:
        return []
    compiled = compile_pattern(regex)
    return [matching(env, lambda left: compiled.search(value, left)) is not None]


def _matches_full(env: Env, items: list[Item], expression: list[Item]) -> list[Item]:
    value, regex = string(env, items, "matchesFull()"), string(env, expression, "matchesFull()")
    if value is None or regex is None:
        return []
    compiled = compile_pattern(regex)
    return [matching(env, lambda left: compiled.fullmatch(value, left)) is not None]


def _split(env: Env, items: list[Item], separator: list[Item]) -> list[Item]:
    value, by = string(env, items, "split()"), string(env, separator, "split()")
    if value is None or by is None:
        return []
    parts = value.split(by) if by else list(value)
    env.spend(len(parts))
    return list(parts)


def _join(env: Env, items: list[Item], separator: list[Item] | None = None) -> list[Item]:
    between = (string(env, separator, "join()") or "") if separator is not None else ""
    parts = [string(env, [item], "join()") or "" for item in items]
    env.spend(len(parts))
    if sum(map(len, parts)) + len(parts) * len(between) > MAX_TEXT:
        raise too_long()
    return [text(between.join(parts), env)]


def _to_chars(env: Env, items: list[Item]) -> list[Item]:
    value = string(env, items, "toChars()") or ""
    env.spend(len(value))
    return list(value)


def _contains(env: Env, items: list[Item], part: list[Item]) -> list[Item]:
    value, wanted = string(env, items, "contains()"), string(env, part, "contains()")
    return [] if value is None or wanted is None else [wanted in value]


def _encode(value: str, form: str) -> str:
    data = value.encode("utf-8", "surrogatepass")
    match form:
        case "hex":
            return data.hex()
        case "base64":
            return base64.b64encode(data).decode()
        case "urlbase64":
            return base64.urlsafe_b64encode(data).decode()
    raise FhirPathError(f"encode() does not know '{form}'")


def _decode(value: str, form: str) -> str | None:
    try:
        match form:
            case "hex":
                return bytes.fromhex(value).decode()
            case "base64":
                return base64.b64decode(value, validate=True).decode()
            case "urlbase64":
                return base64.urlsafe_b64decode(value).decode()
    except (ValueError, binascii.Error):
        return None
    raise FhirPathError(f"decode() does not know '{form}'")


def _escape(value: str, form: str) -> str:
    if form == "html":
        return html.escape(value)
    if form == "json":
        return json.dumps(value, ensure_ascii=False)[1:-1]
    raise FhirPathError(f"escape() does not know '{form}'")


def _unescape(value: str, form: str) -> str | None:
    if form == "html":
        return html.unescape(value)
    if form == "json":
        try:
            # Quotation marks that are not escaped are taken as they are.
            found = json.loads('"' + value.replace('\\"', '"').replace('"', '\\"') + '"')
        except ValueError:
            return None
        return found if isinstance(found, str) and not _HALF.search(found) else None
    raise FhirPathError(f"unescape() does not know '{form}'")


FUNCTIONS: Final[dict[str, Function | Lambda]] = {
    "indexOf": _of_strings("indexOf", str.find),
    "lastIndexOf": _of_strings("lastIndexOf", str.rfind),
    "substring": Function(_substring, 1, 2),
    "startsWith": _of_strings("startsWith", str.startswith),
    "endsWith": _of_strings("endsWith", str.endswith),
    "contains": Function(_contains, 1, 1),
    "upper": _of_strings("upper", str.upper, 0),
    "lower": _of_strings("lower", str.lower, 0),
    "replace": _of_strings("replace", _replace, 2),
    "matches": Function(_matches, 1, 1),
    "matchesFull": Function(_matches_full, 1, 1),
    "replaceMatches": Function(_replace_matches, 2, 2),
    "length": _of_strings("length", len, 0),
    "toChars": Function(_to_chars),
    "trim": _of_strings("trim", str.strip, 0),
    "split": Function(_split, 1, 1),
    "join": Function(_join, 0, 1),
    "encode": _of_strings("encode", _encode),
    "decode": _of_strings("decode", _decode),
    "escape": _of_strings("escape", _escape),
    "unescape": _of_strings("unescape", _unescape),
}
