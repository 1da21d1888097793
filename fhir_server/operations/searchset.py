"""Bundles of type searchset that operations answer with, put together from stored texts. https://hl7.org/fhir/R4/bundle.html#searchset"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal
from urllib.parse import urlencode

from fhir_server import fhirjson
from fhir_server.interactions import Exchange, Reply


def entry(base: str, resource_type: str, identity: str, body: bytes, mode: Literal["match", "include"]) -> bytes:
    """A resource as an entry; ids and types are plain ASCII, and so is the base."""
    return f'{{"fullUrl":"{base}/{resource_type}/{identity}","resource":'.encode() + body + f',"search":{{"mode":"{mode}"}}}}'.encode()


def searchset(
    exchange: Exchange, path: str, params: Sequence[tuple[str, str]], entries: Sequence[bytes], total: int | None, following: str | None
) -> Reply:
    """200 and the Bundle. `params` are those of the links; `following` is what `_cursor` is on the next page, None on the last."""
    url = f"{exchange.base}/{path}"
    links = [{"relation": "self", "url": url + (f"?{urlencode(params)}" if params else "")}]
    if following is not None:
        links.append({"relation": "next", "url": f"{url}?{urlencode([*params, ('_cursor', following)])}"})
    head: dict[str, Any] = {"resourceType": "Bundle", "type": "searchset"}
    if total is not None:
        head["total"] = total
    head["link"] = links
    body = fhirjson.dumps(head)
    return Reply(200, body[:-1] + b',"entry":[' + b",".join(entries) + b"]}" if entries else body)
