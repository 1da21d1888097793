"""Which representation is spoken: of the answer by `_format` and Accept, of the body by Content-Type.

https://hl7.org/fhir/R4/http.html#mime-type, https://hl7.org/fhir/R4/versioning.html#mt-version, https://www.rfc-editor.org/rfc/rfc9110#section-12.5.1
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, Literal

from fhir_server.outcome import Outcome

Format = Literal["json", "xml"]
BodyKind = Literal["json", "xml", "json-patch", "graphql", "form"]

CONTENT_TYPE: Final[dict[Format, str]] = {"json": "application/fhir+json; charset=utf-8", "xml": "application/fhir+xml; charset=utf-8"}
MAX_HEADER: Final = 2_000
"""Characters of an Accept, Content-Type or `_format` that are looked at; browsers send about 150."""

_JSON: Final = ("application/fhir+json", "application/json", "text/json", "application/json+fhir")
_XML: Final = ("application/fhir+xml", "application/xml", "text/xml", "application/xml+fhir")
_BODIES: Final[dict[str, BodyKind]] = {
    **dict.fromkeys(_JSON, "json"),
    **dict.fromkeys(_XML, "xml"),
    "application/json-patch+json": "json-patch",
    "application/graphql": "graphql",
    "application/x-www-form-urlencoded": "form",
}
# `text/html` is what a browser asks for first; it shows JSON.
_RANGES: Final[dict[str, Format]] = {
    **dict.fromkeys(_JSON, "json"),
    **dict.fromkeys(_XML, "xml"),
    "text/html": "json",
    "application/*": "json",
    "text/*": "json",
    "*/*": "json",
    "*": "json",
}
_NAMES: Final[dict[str, Format]] = {**dict.fromkeys((*_JSON, "json", "html", "text/html"), "json"), **dict.fromkeys((*_XML, "xml"), "xml")}
_FHIR_VERSIONS: Final = frozenset({"4.0", "4.0.1"})


@lru_cache(maxsize=256)
def response_format(accept: str, asked: str | None) -> Format:
    """The format to answer in. `asked` is the value of `_format`, which counts more than the Accept header.

    JSON where the caller does not care. Raises Outcome `not-acceptable` where they want neither JSON nor XML, or another version of FHIR.
    """
    if asked:
        # `_format=application/fhir+xml` with a bare plus arrives with a space.
        essence, parameters = _media_type(asked[:MAX_HEADER])
        chosen = _NAMES.get(essence.replace(" ", "+"))
        if chosen is None or not _speaks(parameters):
            raise Outcome("not-acceptable", f"_format={asked[:80]} is not known here; it is json or xml, of FHIR 4.0")
        return chosen
    if not accept.strip():
        return "json"
    best: tuple[float, int, int] | None = None
    found: Format = "json"
    for place, text in enumerate(accept[:MAX_HEADER].split(",")):
        essence, parameters = _media_type(text)
        candidate = _RANGES.get(essence)
        quality = _quality(parameters)
        if candidate is None or quality <= 0 or not _speaks(parameters):
            continue
        # Of equal quality the more precise range wins, then the earlier.
        rank = (quality, -essence.count("*"), -place)
        if best is None or rank > best:
            best, found = rank, candidate
    if best is None:
        raise Outcome(
            "not-acceptable", f"None of '{accept[:200]}' is offered here; ask for application/fhir+json or application/fhir+xml, of FHIR 4.0"
        )
    return found


@lru_cache(maxsize=256)
def body_kind(content_type: str) -> BodyKind:
    """What a body is. Raises Outcome `media-type` for a missing or other type, for a charset other than UTF-8, and for another version of FHIR."""
    essence, parameters = _media_type(content_type[:MAX_HEADER])
    kind = _BODIES.get(essence)
    if kind is None:
        stated = f"Content-Type '{content_type[:80]}' is not known here" if content_type else "The body has no Content-Type"
        raise Outcome("media-type", f"{stated}; send application/fhir+json or application/fhir+xml")
    if parameters.get("charset", "utf-8").lower() not in {"utf-8", "utf8", "us-ascii"}:
        raise Outcome("media-type", f"The charset {parameters['charset'][:40]} is not known here; FHIR is always in UTF-8")
    if not _speaks(parameters):
        raise Outcome("media-type", f"This server speaks FHIR 4.0, not {parameters['fhirversion'][:20]}")
    return kind


def is_fhir(content_type: str) -> bool:
    """Whether a media type is one of those in which resources are sent, also plain JSON and XML."""
    return _BODIES.get(_media_type(content_type[:MAX_HEADER])[0]) in ("json", "xml")


def is_named_fhir(essence: str) -> bool:
    """Whether a media type names FHIR itself."""
    return is_fhir(essence) and "fhir" in essence


def ranked(accept: str) -> list[str]:
    """The media types and ranges of an Accept header, those that are wanted most first, without what is not wanted at all."""
    found = [(_quality(parameters), essence) for essence, parameters in map(_media_type, accept[:MAX_HEADER].split(","))]
    return [essence for quality, essence in sorted(found, key=lambda each: -each[0]) if quality > 0]


def media_type(content_type: str) -> tuple[str, dict[str, str]]:
    """A media type in small letters, and its parameters."""
    return _media_type(content_type[:MAX_HEADER])


@lru_cache(maxsize=256)
def accepts_gzip(accept_encoding: str) -> bool:
    """Whether gzip is welcome by an Accept-Encoding header."""
    codings = {essence: _quality(parameters) for essence, parameters in map(_media_type, accept_encoding[:MAX_HEADER].split(","))}
    return codings.get("gzip", codings.get("*", 0.0)) > 0


def _media_type(text: str) -> tuple[str, dict[str, str]]:
    essence, *rest = text.split(";")
    parameters = {}
    for part in rest:
        name, _, value = part.partition("=")
        parameters[name.strip().lower()] = value.strip().strip('"')
    return essence.strip().lower(), parameters


def _quality(parameters: dict[str, str]) -> float:
    try:
        quality = float(parameters.get("q", "1"))
    except ValueError:
        return 0.0
    return quality if 0 <= quality <= 1 else 0.0


def _speaks(parameters: dict[str, str]) -> bool:
    return parameters.get("fhirversion", "4.0") in _FHIR_VERSIONS
