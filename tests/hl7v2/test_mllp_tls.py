"""The listener as a peer meets it that encrypts, and that has to show who it is."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fhir_server.hl7v2.listener.framing import block
from fhir_server.hl7v2.listener.peers import Encryption, Peers, tls_context
from fhir_server.settings import Settings, SetupError

from .conftest import Lab
from .test_intake import fresh, oru
from .test_mllp import Client, listening


class Authority:
    """A CA with a certificate for the server and for whoever asks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._signed("CA", self.key, ca=True)
        self.ca = self._written("ca", self.certificate)

    def issue(self, name: str) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        private = self.folder / f"{name}.key"
        encoding = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        private.write_bytes(key.private_bytes(*encoding))
        return self._written(name, self._signed(name, key)), private

    def _signed(self, name: str, key: ec.EllipticCurvePrivateKey, *, ca: bool = False) -> x509.Certificate:
        now = datetime.now(UTC)
        named = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer = named if ca else x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "CA")])
        builder = x509.CertificateBuilder(
            issuer, named, key.public_key(), x509.random_serial_number(), now - timedelta(days=1), now + timedelta(days=9)
        )
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        if not ca:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def _written(self, name: str, certificate: x509.Certificate) -> Path:
        path = self.folder / f"{name}.pem"
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return path


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def of(authority: Authority, **fields: Any) -> Settings:
    certificate, key = authority.issue("clinic.example.org")
    return Settings(data=Path(), jwt_secret="", mllp_tls_cert=certificate, mllp_tls_key=key, **fields)


def client_context(authority: Authority, name: str | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.ca)
    if name is not None:
        context.load_cert_chain(*authority.issue(name))
    return context


def is_refused(port: int, context: ssl.SSLContext) -> bool:
    """Whether a message gets no answer; by TLS 1.3 a client learns only afterwards that it was not let in."""
    try:
        with Client(port, context) as client:
            return client.ask(oru(fresh(), fresh())) == ""
    except OSError:
        return True


@contextmanager
def encrypted(lab: Lab, settings: Settings) -> Iterator[int]:
    with listening(lab.intake, peers=Peers.of(settings), tls=Encryption(settings)) as (port, _):
        yield port


def test_an_encrypted_connection(lab: Lab, authority: Authority) -> None:
    with encrypted(lab, of(authority)) as port:
        with Client(port, client_context(authority)) as client:
            assert client.ask(oru(fresh(), fresh())) == "AA"
        with Client(port) as plain:
            plain.send(block(oru(fresh(), fresh())))
            assert b"MSA" not in plain.socket.recv(100)


def test_a_certificate_is_asked_for_and_names_the_peer(lab: Lab, authority: Authority, tmp_path: Path) -> None:
    control = fresh()
    with encrypted(lab, of(authority, mllp_tls_ca=authority.ca)) as port:
        with Client(port, client_context(authority, "lab.example.org")) as client:
            assert client.ask(oru(control, fresh())) == "AA"
        assert is_refused(port, client_context(authority))
        stranger = Authority(tmp_path)
        context = client_context(authority)
        context.load_cert_chain(*stranger.issue("lab.example.org"))
        assert is_refused(port, context)
    (row,) = lab.stored("control_id = %s", control)
    assert (row["peer"], row["address"]) == ("lab.example.org", "127.0.0.1")


def test_of_certificates_those_that_are_listed_are_let_in(lab: Lab, authority: Authority) -> None:
    with encrypted(lab, of(authority, mllp_tls_ca=authority.ca, mllp_allow=("LAB.example.org",))) as port:
        with Client(port, client_context(authority, "lab.example.org")) as client:
            assert client.ask(oru(fresh(), fresh())) == "AA"
        with Client(port, client_context(authority, "other.example.org")) as client:
            assert client.is_closed()


def test_a_certificate_that_is_renewed_is_shown_to_the_next_and_half_a_pair_is_not(
    lab: Lab, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority = Authority(tmp_path)
    settings = of(authority)
    assert settings.mllp_tls_cert is not None
    assert settings.mllp_tls_key is not None

    def shown(port: int) -> bytes | None:
        with Client(port, client_context(authority)) as client:
            assert client.ask(oru(fresh(), fresh())) == "AA"
            assert isinstance(client.socket, ssl.SSLSocket)
            return client.socket.getpeercert(binary_form=True)

    with encrypted(lab, settings) as port:
        first, key = shown(port), settings.mllp_tls_key.read_bytes()
        authority.issue("clinic.example.org")
        renewed = settings.mllp_tls_key.read_bytes()
        settings.mllp_tls_key.write_bytes(key)
        assert shown(port) == shown(port) == first, "the key of before is not that of the certificate"
        assert "is not used yet" in caplog.text
        settings.mllp_tls_key.write_bytes(renewed)
        assert first != shown(port) == ssl.PEM_cert_to_DER_cert(settings.mllp_tls_cert.read_text())


def test_it_is_said_who_was_refused_and_what_is_wrong_with_the_certificate(
    lab: Lab, authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = Authority(tmp_path)
    context = client_context(authority)
    context.load_cert_chain(*stranger.issue("lab.example.org"))
    with encrypted(lab, of(authority, mllp_tls_ca=authority.ca)) as port:
        assert is_refused(port, context)
    assert "from 127.0.0.1 is refused: unable to get local issuer certificate" in caplog.text or "certificate signature failure" in caplog.text


def test_a_handshake_that_never_ends_holds_nobody_up(lab: Lab, authority: Authority) -> None:
    with encrypted(lab, of(authority)) as port:
        held = [socket.create_connection(("127.0.0.1", port), 10) for _ in range(30)]
        with Client(port, client_context(authority)) as client:
            assert client.ask(oru(fresh(), fresh())) == "AA"
        for each in held:
            each.close()


@pytest.mark.parametrize(
    ("allow", "address", "expected"),
    [
        ((), "127.0.0.1", True),
        ((), "::1", True),
        ((), "::ffff:127.0.0.1", True),
        ((), "192.0.2.7", False),
        (("192.0.2.0/24",), "192.0.2.7", True),
        (("192.0.2.0/24",), "::ffff:192.0.2.7", True),
        (("192.0.2.0/24",), "127.0.0.1", False),
        (("192.0.2.7",), "192.0.2.8", False),
        (("2001:db8::/32",), "2001:db8::7", True),
        (("2001:db8::/32",), "fe80::1%eth0", False),
    ],
)
def test_addresses_that_are_let_in(allow: tuple[str, ...], address: str, expected: bool) -> None:  # noqa: FBT001 - a table
    peers = Peers.of(Settings(data=Path(), jwt_secret="", mllp_allow=allow))
    assert (peers.name_of(address, None) == address) is expected


def test_a_name_without_certificates_is_told() -> None:
    with pytest.raises(SetupError, match=r"lab\.example\.org.*MLLP_TLS_CA"):
        Peers.of(Settings(data=Path(), jwt_secret="", mllp_allow=("lab.example.org",)))


@pytest.mark.parametrize("field", ["mllp_tls_cert", "mllp_tls_key", "mllp_tls_ca"])
def test_files_that_are_no_certificates_are_told(authority: Authority, tmp_path: Path, field: str) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("nothing")
    whole = of(authority, mllp_tls_ca=authority.ca)
    changed = {name: getattr(whole, name) for name in ("mllp_tls_cert", "mllp_tls_key", "mllp_tls_ca")} | {field: wrong}
    with pytest.raises(SetupError, match="MLLP_TLS"):
        tls_context(Settings(data=Path(), jwt_secret="", **changed))
