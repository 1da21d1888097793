"""The listener as a peer meets it: over real sockets, with peers that are slow, rude, many, or strangers."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import hl7.client
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_server.hl7v2.conversation import Limits
from fhir_server.hl7v2.framing import block
from fhir_server.hl7v2.intake import Intake
from fhir_server.hl7v2.message import Message
from fhir_server.hl7v2.mllp import Listener
from fhir_server.hl7v2.peers import Encryption, Peers, tls_context
from fhir_server.hl7v2.processing import Process, Steps, Work
from fhir_server.settings import Settings, SetupError

from .conftest import DATA, Lab
from .test_intake import fresh, oru

LOOPBACK = Peers((), frozenset())
PLAIN = Encryption(Settings(data=Path(), jwt_secret=""))


@contextmanager
def listening(
    intake: Intake, limits: Limits | None = None, peers: Peers = LOOPBACK, tls: Encryption = PLAIN
) -> Iterator[tuple[int, Callable[[], bool]]]:
    """The port of a listener in a thread of its own, and what stops it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    stopped: list[bool] = []

    async def start() -> tuple[Listener, int]:
        listener = Listener(intake, peers, tls, limits)
        return listener, listener.start("127.0.0.1", 0)

    listener, port = asyncio.run_coroutine_threadsafe(start(), loop).result(10)

    def stop() -> bool:
        if not stopped:
            stopped.append(asyncio.run_coroutine_threadsafe(listener.stop(), loop).result(30))
        return stopped[0]

    try:
        yield port, stop
    finally:
        stop()
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


@pytest.fixture(scope="module")
def port(lab: Lab) -> Iterator[int]:
    with listening(lab.intake, Limits(pause=0.2)) as (found, _):
        yield found


class Client:
    """A peer that can do what a decent client library would not."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        plain = socket.create_connection(("127.0.0.1", port), 20)
        self.socket = tls.wrap_socket(plain, server_hostname="clinic.example.org") if tls else plain
        self.buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self) -> bytes:
        """The next block; empty where the connection has ended."""
        while b"\x1c\r" not in self.buffer:
            data = self.socket.recv(65536)
            if not data:
                return b""
            self.buffer += data
        found, _, self.buffer = self.buffer.partition(b"\x1c\r")
        assert found.startswith(b"\x0b")
        return found[1:]

    def ask(self, raw: bytes) -> str:
        self.send(block(raw))
        return code(self.answer())

    def is_closed(self) -> bool:
        try:
            return self.socket.recv(1) == b""
        except ConnectionError:
            return True


def code(ack: bytes) -> str:
    return "".join(re.findall(r"MSA\|(..)\|", ack.decode("latin-1")))


def state(lab: Lab, where: str, *arguments: object) -> list[str]:
    return [row["state"] for row in lab.stored(where, *arguments)]


def eventually(check: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_many_messages_on_one_connection_each_answered_in_order(port: int) -> None:
    controls = [fresh() for _ in range(20)]
    with Client(port) as client:
        client.send(b"".join(block(oru(each, fresh())) for each in controls))
        assert [client.answer().split(b"MSA|AA|")[1].partition(b"\r")[0].decode() for _ in controls] == controls


def test_an_end_split_over_two_reads_and_one_without_cr(port: int) -> None:
    with Client(port) as client:
        client.send(b"\x0b" + oru(fresh(), fresh()) + b"\x1c")
        time.sleep(0.05)
        client.send(b"\r")
        assert code(client.answer()) == "AA"
        client.send(b"\x0b" + oru(fresh(), fresh()) + b"\x1c")
        assert code(client.answer()) == "AA"
        assert client.ask(oru(fresh(), fresh())) == "AA"


def test_what_stands_before_a_block_does_not_harm_it(port: int) -> None:
    with Client(port) as client:
        client.send(b"\r\nnoise" + block(oru(fresh(), fresh())))
        assert code(client.answer()) == "AA"
        client.send(oru(fresh(), fresh()) + b"\x1c\r")
        assert code(client.answer()) == "AA"


def test_a_message_that_breaks_off_is_stored_and_not_answered(lab: Lab, port: int) -> None:
    control = fresh()
    with Client(port) as client:
        client.send(b"\x0b" + oru(control, fresh())[:90])
    eventually(lambda: state(lab, "raw LIKE %s", f"%{control}%".encode()) == ["unreadable"])
    control = fresh()
    with Client(port) as client:
        client.send(b"\x0b" + oru(control, fresh())[:90] + block(oru(control, fresh())))
        assert code(client.answer()) == "AA"
    assert sorted(state(lab, "raw LIKE %s", f"%{control}%".encode())) == ["processed", "unreadable"]


def test_one_that_ends_with_the_connection_and_without_cr_is_taken(lab: Lab, port: int) -> None:
    control = fresh()
    with Client(port) as client:
        client.send(b"\x0b" + oru(control, fresh()) + b"\x1c")
        client.socket.shutdown(socket.SHUT_WR)
        assert code(client.answer()) == "AA"


def test_what_is_no_message_is_refused_and_the_connection_goes_on(port: int) -> None:
    with Client(port) as client:
        assert client.ask(b"hello") == "AR"
        client.send(block(b""))
        assert client.ask(oru(fresh(), fresh())) == "AA"


def test_whoever_sends_nothing_but_noise_is_let_go(port: int) -> None:
    with Client(port) as client:
        client.send(b"noise\x1c\r" * 99 + block(oru(fresh(), fresh())) + b"noise\x1c\r" * 99)
        assert code(client.answer()) == "AA"
        assert client.ask(oru(fresh(), fresh())) == "AA"
        client.send(b"noise\x1c\r" * 100)
        assert client.is_closed()


def test_both_answers_of_enhanced_mode_come_on_the_same_connection(port: int) -> None:
    with Client(port) as client:
        assert client.ask(oru(fresh(), fresh(), modes="AL|AL")) == "CA"
        assert code(client.answer()) == "AA"


def test_batches(port: int) -> None:
    with Client(port) as client:
        assert client.ask(b"BHS|^~\\&\r" + oru(fresh(), fresh()) + oru(fresh(), fresh()) + b"BTS|2\r") == "AAAA"


def test_the_same_message_on_eight_connections_at_once(lab: Lab, port: int) -> None:
    control, number = fresh(), fresh()
    raw = oru(control, number)
    barrier = threading.Barrier(8)

    def send(_: int) -> bytes:
        with Client(port) as client:
            barrier.wait()
            client.send(block(raw))
            return client.answer()

    with ThreadPoolExecutor(8) as pool:
        answers = set(pool.map(send, range(8)))
    assert len(answers) == 1
    assert code(answers.pop()) == "AA"
    (row,) = lab.stored("control_id = %s", control)
    assert (row["attempts"], row["repeats"]) == (1, 7)
    assert len(lab.ask(f"Patient?identifier=https://clinic-fhir.example.org/sid/authority/HOSP|{number}")) == 1


def test_a_client_of_others_talks_to_it(port: int) -> None:
    with hl7.client.MLLPClient("127.0.0.1", port) as client:
        for _ in range(3):
            answer = client.send_message(oru(control := fresh(), fresh()).decode())
            ack = hl7.parse(answer.strip(b"\x0b\x1c\r").decode())
            assert (str(ack["MSA"][0][1]), str(ack["MSA"][0][2])) == ("AA", control)


def test_its_command_talks_to_it(port: int, tmp_path: Path) -> None:
    path = tmp_path / "messages.hl7"
    path.write_bytes(block(oru(fresh(), fresh())) + block(oru(fresh(), fresh())))
    done = subprocess.run(
        [str(Path(sys.executable).with_name("mllp_send")), "--port", str(port), "--file", str(path), "127.0.0.1"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.count("MSA|AA|") == 2


def test_a_message_beyond_the_limit_is_refused_and_the_next_is_taken(lab: Lab) -> None:
    control = fresh()
    with listening(lab.intake, Limits(message=200_000)) as (port, _), Client(port) as client:
        assert client.ask(oru(control, fresh()) + b"NTE|1||" + b"x" * 300_000 + b"\r") == "AR"
        assert client.ask(oru(fresh(), fresh())) == "AA"
    (row,) = lab.stored("control_id = %s", control)
    assert (row["state"], len(row["raw"])) == ("rejected", 65_535)


def test_whoever_stops_in_the_middle_is_told_and_let_go(lab: Lab) -> None:
    control = fresh()
    with listening(lab.intake, Limits(grace=0.5)) as (port, _), Client(port) as client:
        client.send(b"\x0b" + oru(control, fresh())[:80])
        assert code(client.answer()) == "AR"
        assert client.is_closed()
    assert state(lab, "raw LIKE %s", f"%{control}%".encode()) == ["unreadable"]


def test_whoever_sends_a_byte_now_and_then_is_let_go_too(lab: Lab) -> None:
    with listening(lab.intake, Limits(grace=0.5)) as (port, _), Client(port) as client:
        began = time.monotonic()
        client.send(b"\x0b")
        with suppress(OSError):
            while time.monotonic() - began < 10:
                client.send(b"M")
                time.sleep(0.1)
        assert time.monotonic() - began < 5


def test_an_idle_connection_is_kept_until_its_time_is_over(lab: Lab) -> None:
    with listening(lab.intake, Limits(idle=0.5, grace=0.1)) as (port, _), Client(port) as client:
        assert client.ask(oru(fresh(), fresh())) == "AA"
        time.sleep(0.3)
        assert client.ask(oru(fresh(), fresh())) == "AA"
        assert client.is_closed()


def test_a_peer_that_does_not_read_its_answers_holds_nobody_up(lab: Lab) -> None:
    with listening(lab.intake, Limits(unread=0.5, workers=1)) as (port, _), Client(port) as rude:
        rude.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        done = threading.Event()
        repeated = block(oru(fresh(), fresh()) + b"Z" * 200)
        junk = block(b"MSH|^~\\&|" + b"A" * 30_000)

        def flood() -> None:
            try:
                while not done.is_set():
                    rude.send(junk + repeated)
            except OSError:
                done.set()

        thread = threading.Thread(target=flood)
        thread.start()
        try:
            with Client(port) as client:
                for _ in range(20):
                    began = time.monotonic()
                    assert client.ask(oru(fresh(), fresh())) == "AA"
                    assert time.monotonic() - began < 5
            # In the end it is cut off.
            assert done.wait(60)
        finally:
            done.set()
            thread.join(30)


def test_connections_are_counted_by_address_and_given_back(lab: Lab) -> None:
    with listening(lab.intake, Limits(per_address=3)) as (port, _):
        held = [Client(port) for _ in range(3)]
        assert [each.ask(oru(fresh(), fresh())) for each in held] == ["AA"] * 3
        with Client(port) as more:
            assert more.is_closed()
        held.pop().__exit__()
        time.sleep(0.2)
        with Client(port) as more:
            assert more.ask(oru(fresh(), fresh())) == "AA"
        for each in held:
            each.__exit__()


def test_a_flood_of_connections_leaves_the_listener_well(port: int) -> None:
    for _ in range(300):
        socket.create_connection(("127.0.0.1", port), 10).close()
    message, given = oru(fresh(), fresh()), ""
    until = time.monotonic() + 20
    # Until the listener has seen the ends of the others, this one may be one too many of its address, and is closed.
    while given != "AA" and time.monotonic() < until:
        with contextlib.suppress(ConnectionError), Client(port) as client:
            given = client.ask(message)
    assert given == "AA"


def test_large_messages_take_turns(lab: Lab) -> None:
    raw = [oru(fresh(), fresh()) + b"ZZZ|" + b"x" * 3_000_000 + b"\r" for _ in range(6)]
    with listening(lab.intake, Limits(large=1)) as (found, _), ThreadPoolExecutor(6) as pool:

        def send(each: bytes) -> str:
            with Client(found) as client:
                return client.ask(each)

        assert list(pool.map(send, raw)) == ["AA"] * 6


def slow(seconds: float, then: Process) -> Process:
    def process(message: Message, work: Work) -> Steps:
        time.sleep(seconds)
        return (yield from then(message, work))

    return process


def test_a_stop_answers_what_is_in_hand_and_takes_no_more(lab: Lab) -> None:
    control, later = fresh(), fresh()
    with listening(Intake(lab.store, slow(1.0, lab.process))) as (port, stop), Client(port) as client, Client(port) as idle:
        client.send(block(oru(control, fresh())) + block(oru(later, fresh())))
        time.sleep(0.4)
        assert stop()
        assert code(client.answer()) == "AA"
        assert client.answer() == b""
        assert idle.is_closed()
        with pytest.raises(ConnectionRefusedError):
            Client(port)
    assert state(lab, "control_id = %s", control) == ["processed"]
    assert state(lab, "control_id = %s", later) == []


def test_a_stop_does_not_wait_for_ever(lab: Lab) -> None:
    with listening(Intake(lab.store, slow(1.5, lab.process)), Limits(stop=0.3)) as (port, stop), Client(port) as client:
        client.send(block(oru(fresh(), fresh())))
        time.sleep(0.2)
        assert not stop()
        assert client.is_closed()
        # The thread ends later, and in a process of its own never.
        time.sleep(2)


def test_messages_that_are_held_up_hold_no_others_up(lab: Lab) -> None:
    held, free = {fresh() for _ in range(3)}, threading.Event()
    in_hand: list[str] = []

    def process(message: Message, work: Work) -> Steps:
        if message.header.control_id in held:
            in_hand.append(message.header.control_id)
            free.wait(20)
        return (yield from lab.process(message, work))

    with listening(Intake(lab.store, process)) as (port, _), ExitStack() as clients:
        waiting = [clients.enter_context(Client(port)) for _ in held]
        for number, (client, control) in enumerate(zip(waiting, held, strict=True), 1):
            client.send(block(oru(control, fresh())))
            eventually(lambda number=number: len(in_hand) == number)  # type: ignore[misc]  # This turn's.
        with Client(port) as client:
            assert client.ask(oru(fresh(), fresh())) == "AA"
        assert not free.is_set()
        free.set()
        assert [code(client.answer()) for client in waiting] == ["AA"] * 3


def test_strangers_are_let_go_before_they_are_heard(lab: Lab) -> None:
    elsewhere = Peers.of(Settings(data=Path(), jwt_secret="", mllp_allow=("192.0.2.0/24",)))
    with listening(lab.intake, peers=elsewhere) as (port, _), Client(port) as client:
        assert client.is_closed()


@pytest.mark.parametrize("path", sorted(DATA.glob("*.hl7")), ids=lambda path: path.stem)
def test_real_messages_come_through_to_the_byte(lab: Lab, port: int, path: Path) -> None:
    raw = path.read_bytes()
    with Client(port) as client:
        client.send(block(raw))
        # Some want no answer: that of the next message shows that they are done with.
        client.send(block(oru(control := fresh(), fresh())))
        while f"|{control}\r".encode() not in client.answer():
            pass
    kept = [bytes(row["raw"]) for row in lab.stored("true")]
    assert raw in kept or all(part in kept for part in re.findall(rb"MSH[^\x00]*?(?=MSH|BTS)", raw))


@settings(max_examples=60)
@given(st.data())
def test_mutated_messages_never_harm_the_listener(lab: Lab, port: int, data: st.DataObject) -> None:
    raw = bytearray(block(data.draw(st.sampled_from(sorted(DATA.glob("*.hl7")))).read_bytes()[:4_000]))
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(raw) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "double", "mark"])):
            case "flip":
                raw[place] = data.draw(st.integers(0, 255))
            case "cut":
                del raw[place : place + data.draw(st.integers(1, 40))]
            case "double":
                raw[place:place] = raw[place : place + data.draw(st.integers(1, 200))]
            case "mark":
                raw[place:place] = data.draw(st.sampled_from([b"\x0b", b"\x1c", b"\x1c\r", b"MSH|", b"\r\n", b"\0", b"\xff"]))
        raw = raw or bytearray(b"x")
    control = fresh()
    with Client(port) as client:
        client.send(bytes(raw) + block(oru(control, fresh())))
        while f"|{control}\r".encode() not in (answer := client.answer()):
            assert answer


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
