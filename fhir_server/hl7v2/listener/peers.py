"""Who may connect by MLLP, which has no sign-in: addresses and networks, and names in certificates.

https://docs.python.org/3/library/ssl.html
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from fhir_server.settings import Settings, SetupError


@dataclass(frozen=True, slots=True)
class Peers:
    """Who is let in: whoever connects from one of the `networks` or shows a certificate with one of the `names`.

    Where neither is set these are this machine, and whoever shows a certificate that the CA has signed. With a CA everybody has to show one.
    """

    networks: tuple[IPv4Network | IPv6Network, ...]
    names: frozenset[str]

    @classmethod
    def of(cls, settings: Settings) -> Peers:
        """Those of MLLP_ALLOW. Raises SetupError for names where no certificate is asked for."""
        networks, names = [], set()
        for entry in settings.mllp_allow:
            try:
                networks.append(ip_network(entry, strict=False))
            except ValueError:
                names.add(entry.lower())
        if names and settings.mllp_tls_ca is None:
            told = ", ".join(sorted(names))
            raise SetupError(f"MLLP_ALLOW names {told}, which are neither addresses nor networks; names in certificates need MLLP_TLS_CA")
        return cls(tuple(networks), frozenset(names))

    def name_of(self, address: str, certificate: Mapping[str, Any] | None) -> str | None:
        """The name that a peer is known by: one in its certificate, else its address; None where it is not let in.

        `certificate` is what `getpeercert` gives of one that has been verified.
        """
        shown = list(_names(certificate)) if certificate else []
        if not self.networks and not self.names:
            return (shown or [address])[0] if shown or _address(address).is_loopback else None
        listed = next((name for name in shown if name.lower() in self.names), None)
        if listed is None and not any(_address(address) in network for network in self.networks):
            return None
        return listed or (shown or [address])[0]


class Encryption:
    """What connections are encrypted with, by the files as they are: whoever renews a certificate need not start anything anew. Not for threads."""

    def __init__(self, settings: Settings) -> None:
        """Reads the files that the settings name. Raises SetupError as `tls_context`."""
        self._settings = settings
        self._files = [path for path in (settings.mllp_tls_cert, settings.mllp_tls_key, settings.mllp_tls_ca) if path is not None]
        self._seen = self._state()
        self._context = tls_context(settings)

    def current(self) -> ssl.SSLContext | None:
        """The context for the next connection; None where nothing is encrypted. Costs 5 µs a file.

        Raises SetupError once where files have changed and cannot be used, as when only one of a pair is there yet; the ones before count on.
        """
        seen = self._state()
        if seen != self._seen:
            self._seen = seen
            self._context = tls_context(self._settings)
        return self._context

    def _state(self) -> list[tuple[int, int] | None]:
        found: list[tuple[int, int] | None] = []
        for path in self._files:
            try:
                state = path.stat()
            except OSError:
                found.append(None)
            else:
                found.append((state.st_mtime_ns, state.st_ino))
        return found


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """What connections are encrypted with; None where no certificate is set. Raises SetupError for files that cannot be used."""
    if settings.mllp_tls_cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.mllp_tls_cert, settings.mllp_tls_key, password=_refuse)
    except (OSError, ValueError) as error:
        raise SetupError(
            f"MLLP_TLS_CERT and MLLP_TLS_KEY cannot be used: {_reason(error)}; PEM files of one pair, without a password, are needed"
        ) from None
    if settings.mllp_tls_ca is not None:
        try:
            context.load_verify_locations(settings.mllp_tls_ca)
        except (OSError, ValueError) as error:
            raise SetupError(f"MLLP_TLS_CA cannot be used: {_reason(error)}; a PEM file of certificates is needed") from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _refuse() -> str:
    # OpenSSL would ask the terminal.
    raise ValueError("the key has a password")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _address(text: str) -> Any:
    found = ip_address(text.partition("%")[0])
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found


def _names(certificate: Mapping[str, Any]) -> Iterator[str]:
    yield from (value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS")
    yield from (value for part in certificate.get("subject", ()) for key, value in part if key == "commonName")
