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
from pathlib import Path
from typing import Self

import hl7.client
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_server.hl7v2.intake.intake import Intake
from fhir_server.hl7v2.landing.processing import Process, Steps, Work
from fhir_server.hl7v2.listener.conversation import Limits
from fhir_server.hl7v2.listener.framing import block
from fhir_server.hl7v2.listener.mllp import Listener
from fhir_server.hl7v2.listener.peers import Encryption, Peers
from fhir_server.hl7v2.text.message import Message
from fhir_server.settings import Settings

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
        listener, connections = Listener(intake, peers, tls, limits), socket.create_server(("127.0.0.1", 0))
        listener.start(connections)
        return listener, connections.getsockname()[1]

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
