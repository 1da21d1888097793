"""Keys out of the server's secrets, and what is done with them: encrypting what is kept about people, digests of what only has to be recognised.

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

from fhir_server.settings import Settings

_NONCE: Final = 12
_KEY: Final = 32


class Vault:
    """What the server's secrets open. With another DATA_KEY nothing that was sealed can be read, with another JWT_SECRET no digest is recognised."""

    def __init__(self, secret: str, data_key: str | None = None) -> None:
        """`secret` is JWT_SECRET, `data_key` DATA_KEY; each use has a key of its own, so that none tells about another.

        Without a DATA_KEY JWT_SECRET is what seals; what was sealed by that opens with one too.
        """
        before = AESGCM(_derived(secret, b"encryption of account fields"))
        self._cipher = before if data_key is None else AESGCM(_derived(data_key, b"encryption of data"))
        self._before = None if data_key is None else before
        self._digest = _derived(secret, b"digests of codes and logins")

    @classmethod
    def of(cls, settings: Settings) -> Vault:
        """The vault of the settings."""
        return cls(settings.jwt_secret, settings.data_key)

    def seal(self, text: str, place: str) -> bytes:
        """The text, encrypted for one `place` such as an account's id and the field's name; elsewhere it cannot be opened."""
        nonce = os.urandom(_NONCE)
        return nonce + self._cipher.encrypt(nonce, text.encode(), place.encode())

    def open(self, sealed: bytes | None, place: str) -> str | None:
        """The text that was sealed; None where there is none, and where it was sealed under another secret or for another place."""
        if sealed is None:
            return None
        found = _opened(self._cipher, sealed, place)
        return _opened(self._before, sealed, place) if found is None and self._before is not None else found

    def resealed(self, sealed: bytes, place: str) -> bytes | None:
        """The same sealed by DATA_KEY; None where it is already, and where it cannot be opened."""
        if self._before is None or _opened(self._cipher, sealed, place) is not None:
            return None
        text = _opened(self._before, sealed, place)
        return None if text is None else self.seal(text, place)

    def digest(self, *parts: str) -> bytes:
        """32 bytes that stand for the parts, and that nobody without the secret can find by trying."""
        framed = b"".join(len(part.encode()).to_bytes(4) + part.encode() for part in parts)
        return hmac.new(self._digest, framed, hashlib.sha256).digest()


def _opened(cipher: AESGCM, sealed: bytes, place: str) -> str | None:
    try:
        return cipher.decrypt(bytes(sealed[:_NONCE]), bytes(sealed[_NONCE:]), place.encode()).decode()
    except (InvalidTag, ValueError):
        return None


def _derived(secret: str, purpose: bytes) -> bytes:
    return HKDF(SHA256(), _KEY, None, b"fhir-server " + purpose).derive(secret.encode())
