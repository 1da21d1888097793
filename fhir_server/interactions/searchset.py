"""Bundles of type searchset, put together from stored texts. https://hl7.org/fhir/R4/bundle.html#searchset"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal
from urllib.parse import urlencode

from fhir_server import fhirjson

from .exchange import Exchange, Reply


def entry(base: str, resource_type: str, identity: str, body: bytes, mode: Literal["match", "include"], score: float | None = None) -> bytes:
    """A resource as an entry; `score` is how well it fits, from 0 to 1."""
    url = fhirjson.dumps(f"{base}/{resource_type}/{identity}")
    scored = f',"score":{score}' if score is not None else ""
    return b'{"fullUrl":' + url + b',"resource":' + body + f',"search":{{"mode":"{mode}"{scored}}}}}'.encode()


def searchset(
    exchange: Exchange,
    path: str,
    params: Sequence[tuple[str, str]],
    entries: Sequence[bytes],
    total: int | None,
    following: str | None,
    shown: str | None = None,
) -> Reply:
    """200 and the Bundle.

    `path` and `params` are those of the links; `shown` is what `_cursor` was on this page, `following` what it is on the next, None on the first
    and on the last.
    """
    url = f"{exchange.base}/{path}".removesuffix("/")
    own = [*params, ("_cursor", shown)] if shown is not None else params
    links = [{"relation": "self", "url": url + (f"?{urlencode(own)}" if own else "")}]
    if following is not None:
        links.append({"relation": "next", "url": f"{url}?{urlencode([*params, ('_cursor', following)])}"})
    head: dict[str, Any] = {"resourceType": "Bundle", "type": "searchset"}
    if total is not None:
        head["total"] = total
    head["link"] = links
    body = fhirjson.dumps(head)
    return Reply(200, body[:-1] + b',"entry":[' + b",".join(entries) + b"]}" if entries else body)
