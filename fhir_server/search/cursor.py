"""Page links: where the next page starts, readable and changeable by nobody but this server.

A position is the sort keys of the last row shown, as the texts that its statement gave, and its `rid`. It is signed together with the query and the
caller, so that a link neither opens another query nor serves another caller. Nor does it serve the same one with other rights: the total in it was
counted within those of the first page.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Final, NamedTuple

import msgspec

from fhir_server.outcome import Outcome

_MAC: Final = 16
_MAX: Final = 16_384


class Position(NamedTuple):
    """The last row of a page, the moment that all pages answer from, how many matches were shown, and the total where it is known."""

    keys: tuple[str | None, ...]
    rid: int
    moment: str = ""
    shown: int = 0
    total: int | None = None


_decoder: Final = msgspec.json.Decoder(Position)


def encode(position: Position, *, key: bytes, query: str, actor: str) -> str:
    """An opaque text, safe in URLs. `query` is the query's own text, `actor` the text of the caller's grant."""
    payload = msgspec.json.encode(position)
    return base64.urlsafe_b64encode(_mac(key, query, actor, payload) + payload).rstrip(b"=").decode()


def decode(text: str, *, key: bytes, query: str, actor: str) -> Position:
    """The position. Raises Outcome `parameter` where the text was not made for this query and caller."""
    try:
        data = base64.b64decode(text[:_MAX].encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        if hmac.compare_digest(data[:_MAC], _mac(key, query, actor, data[_MAC:])):
            return _decoder.decode(data[_MAC:])
    except (binascii.Error, UnicodeEncodeError, msgspec.DecodeError):
        pass
    raise Outcome("parameter", "The page link was changed, or belongs to another search or caller; start the search again")


def _mac(key: bytes, query: str, actor: str, payload: bytes) -> bytes:
    parts = b"".join(len(part).to_bytes(8, "big") + part for part in (query.encode(), actor.encode(), payload))
    return hmac.new(key, parts, hashlib.sha256).digest()[:_MAC]
