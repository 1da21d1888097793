"""The keys that ID tokens are signed with: in the database, sealed, for all processes alike, and another one every 90 days.

https://openid.net/specs/openid-connect-core-1_0.html#IDToken, https://www.rfc-editor.org/rfc/rfc7517
"""

from __future__ import annotations

import json
import secrets
from datetime import datetime, timedelta
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from jwt.algorithms import RSAAlgorithm

from fhir_server.access.vault import Vault
from fhir_server.store import Store
from fhir_server.store.database import Connection

ALGORITHM: Final = "RS256"
SIGNS: Final = timedelta(days=90)
"""How long a key signs."""
KEPT: Final = SIGNS + timedelta(days=1)
"""How long a key can be had to check with: an ID token that it has signed last is good for an hour."""

_BITS: Final = 2048
_LOCK: Final = 0x4B455953


class SigningKeys:
    """The keys of one database."""

    def __init__(self, store: Store, vault: Vault) -> None:
        """Works on the store's database; `vault` seals the private keys."""
        self._store = store
        self._vault = vault

    def signed(self, claims: dict[str, Any], now: datetime) -> str:
        """The claims as a signed token. Costs about 0.6 CPU-ms, and 30 to 300 more when it makes a key."""
        identity, private = self._current(now)
        # Its numbers were right when it was sealed, and looking at them anew takes 30 CPU-ms.
        key: Any = load_pem_private_key(private.encode(), None, unsafe_skip_rsa_key_validation=True)
        return jwt.encode(claims, key, algorithm=ALGORITHM, headers={"kid": identity})

    def public(self, now: datetime) -> list[dict[str, Any]]:
        """The public keys that something good may be signed with, the one that signs now first."""
        self._current(now)
        with self._store.database.connection() as connection:
            rows = connection.execute("SELECT public FROM signing_key WHERE created > %s ORDER BY created DESC, id", (now - KEPT,)).fetchall()
        return [json.loads(public) for (public,) in rows]

    def _current(self, now: datetime) -> tuple[str, str]:
        with self._store.database.connection() as connection:
            found = self._newest(connection, now)
            if found is not None:
                return found
            with connection.transaction():
                # Of several processes that find no key one makes it; the others wait, and find that.
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
                return self._newest(connection, now) or self._new(connection, now)

    def _newest(self, connection: Connection, now: datetime) -> tuple[str, str] | None:
        statement = "SELECT id, private FROM signing_key WHERE created > %s ORDER BY created DESC, id LIMIT 1"
        row = connection.execute(statement, (now - SIGNS,)).fetchone()
        # None also where the server's secret has changed, so that the key cannot be opened.
        private = self._vault.open(row[1], f"signing key {row[0]}") if row is not None else None
        return (row[0], private) if row is not None and private is not None else None

    def _new(self, connection: Connection, now: datetime) -> tuple[str, str]:
        key = generate_private_key(65537, _BITS)
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        identity = secrets.token_urlsafe(12)
        public = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": identity, "use": "sig", "alg": ALGORITHM}
        public.pop("key_ops", None)
        connection.execute("DELETE FROM signing_key WHERE created < %s", (now - KEPT,))
        connection.execute(
            "INSERT INTO signing_key (id, private, public, created) VALUES (%s, %s, %s, %s)",
            (identity, self._vault.seal(private, f"signing key {identity}"), json.dumps(public), now),
        )
        return identity, private
