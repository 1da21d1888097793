"""Keys out of the server's one secret, and what is done with them: encrypting what is kept about people, digests of what only has to be recognised.

https://www.rfc-editor.org/rfc/rfc5869 (HKDF), https://csrc.nist.gov/pubs/sp/800/38/d/final (AES-GCM)
"""

from __future__ import annotations

import hashlib
import hmac
import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_NONCE: Final = 12
_KEY: Final = 32


class Vault:
    """What one secret opens. With another secret nothing that was sealed can be read, and no digest is recognised."""

    def __init__(self, secret: str) -> None:
        """`secret` is JWT_SECRET; each use has a key of its own, so that none tells about another."""
        self._cipher = AESGCM(_derived(secret, b"encryption of account fields"))
        self._digest = _derived(secret, b"digests of codes and logins")

    def seal(self, text: str, place: str) -> bytes:
        """The text, encrypted for one `place` such as an account's id and the field's name; elsewhere it cannot be opened."""
        nonce = os.urandom(_NONCE)
        return nonce + self._cipher.encrypt(nonce, text.encode(), place.encode())

    def open(self, sealed: bytes | None, place: str) -> str | None:
        """The text that was sealed; None where there is none, and where it was sealed under another secret or for another place."""
        if sealed is None:
            return None
        try:
            return self._cipher.decrypt(bytes(sealed[:_NONCE]), bytes(sealed[_NONCE:]), place.encode()).decode()
        except (InvalidTag, ValueError):
            return None

    def digest(self, *parts: str) -> bytes:
        """32 bytes that stand for the parts, and that nobody without the secret can find by trying."""
        framed = b"".join(len(part.encode()).to_bytes(4) + part.encode() for part in parts)
        return hmac.new(self._digest, framed, hashlib.sha256).digest()


def _derived(secret: str, purpose: bytes) -> bytes:
    return HKDF(SHA256(), _KEY, None, b"fhir-server " + purpose).derive(secret.encode())
