"""Preconditions and preferences in the headers of a request.

https://hl7.org/fhir/R4/http.html#versions, https://hl7.org/fhir/R4/http.html#cread, https://hl7.org/fhir/R4/http.html#ops
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Final, NamedTuple

from fhir_server.interactions.exchange import Returning
from fhir_server.outcome import Outcome

_ETAG: Final = re.compile(r'(?:W/)?"([A-Za-z0-9\-.]{1,64})"')
_BARE: Final = re.compile(r"[0-9]{1,9}")
_MAX_TAGS: Final = 50
_RETURNS: Final[dict[str, Returning]] = {"minimal": "minimal", "representation": "representation", "operationoutcome": "OperationOutcome"}


class Preference(NamedTuple):
    """What a Prefer header asks for: the body of the answer to a write, whether unknown parameters are refused, and an answer that comes later."""

    returning: Returning | None = None
    strict: bool = True
    later: bool = False


def version_tag(text: str, header: str) -> str:
    """The version id in an ETag, as 3 in `W/"3"` and in `"3"`. Raises Outcome `parameter` for anything else."""
    match = _ETAG.fullmatch(text.strip())
    if match is None:
        raise Outcome("parameter", f"{header}: '{text[:80]}' is not the ETag of a version, as W/\"3\" is")
    return match[1]


def version_tags(text: str, header: str) -> tuple[str, ...]:
    """The version ids in a list of ETags or bare numbers; `*` alone stands for itself. Raises Outcome `parameter` otherwise, and beyond 50."""
    if text.strip() == "*":
        return ("*",)
    parts = text.split(",")
    if len(parts) > _MAX_TAGS:
        raise Outcome("parameter", f"{header} lists more than {_MAX_TAGS} ETags")
    # A bare number is no ETag, but clients send what meta.versionId says, and a read can only gain by it.
    return tuple(part.strip() if _BARE.fullmatch(part.strip()) else version_tag(part, header) for part in parts)


def http_date(text: str, header: str) -> datetime:
    """The moment that an HTTP date names, in UTC. Raises Outcome `parameter` for what is none."""
    try:
        moment = parsedate_to_datetime(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError, IndexError, TypeError):
        raise Outcome("parameter", f"{header}: '{text[:80]}' is not an HTTP date, as 'Sun, 06 Nov 1994 08:49:37 GMT' is") from None


@lru_cache(maxsize=64)
def preference(text: str) -> Preference:
    """What a Prefer header asks for; preferences that are not known are left aside, as the standard has it."""
    returning: Returning | None = None
    strict, later = True, False
    for part in text[:1_000].replace(";", ",").split(","):
        name, _, value = part.partition("=")
        word = value.strip().strip('"').lower()
        match name.strip().lower():
            case "return":
                returning = _RETURNS.get(word, returning)
            case "handling":
                strict = word != "lenient"
            case "respond-async":
                later = True
    return Preference(returning, strict, later)
