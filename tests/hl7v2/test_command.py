"""`fhir-server mllp` and the listener of `serve`, as processes that are killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import psycopg
import pytest

from fhir_server.hl7v2.listener.framing import block

from .test_intake import fresh, oru
from .test_mllp import Client, code, eventually
from .test_mllp_tls import Authority, client_context

PROGRAM = Path(sys.executable).with_name("fhir-server")
SECRET = "a secret that only the tests know of"


def environ(**settings: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "JWT_SECRET"}}
    return clean | {"JWT_SECRET": SECRET} | settings


@contextmanager
def listener(url: str, data: Path, **settings: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A `mllp` command on a database, and its port."""
    command = [str(PROGRAM), "mllp", "--data", str(data), "--port", "0"]
    log = data / "mllp.log"
    with (
        log.open("w") as stream,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stream, text=True, env=environ(DATABASE_URL=url, **settings)) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("ready mllp"), log.read_text()
            yield process, int(line.rsplit(":", 1)[1])
        finally:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            process.wait(30)


@pytest.fixture(scope="module")
def url(database_url: str) -> str:
    """A database whose commits are durable when they return, which is what is looked at here."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{connection.info.dbname}" SET synchronous_commit = on')
    return database_url


def rows(url: str, control: str) -> list[tuple[str, int, int]]:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT state, attempts, cardinality(written) FROM hl7v2_message WHERE control_id = %s", (control,)).fetchall()


def versions(url: str, number: str) -> int:
    """Versions of patients that have a number."""
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM resource_version WHERE body LIKE %s AND body LIKE '%%\"Patient\"%%'", (f'%"{number}"%',)
        ).fetchone()
    assert row is not None
    return int(row[0])


def test_what_was_acknowledged_is_there_after_a_kill(url: str, tmp_path: Path) -> None:
    sent = [(fresh(), fresh()) for _ in range(5)]
    with listener(url, tmp_path) as (process, port), Client(port) as client:
        for control, number in sent:
            assert client.ask(oru(control, number)) == "AA"
        process.kill()
    for control, number in sent:
        assert [(state, attempts) for state, attempts, _ in rows(url, control)] == [("processed", 1)]
        assert versions(url, number) == 1


def test_what_was_not_acknowledged_before_a_kill_is_done_once_when_it_is_repeated(url: str, tmp_path: Path) -> None:
    """Killed at moments that fall before, within and after the transaction; the peer sends again until it is told."""
    left: list[tuple[bytes, str, str]] = []
    for pause in (0.0, 0.005, 0.02):
        control, number = fresh(), fresh()
        with listener(url, tmp_path) as (process, port), Client(port) as client:
            # The first message of a process takes longest: what it needs is made ready.
            assert client.ask(left[-1][0] if left else oru(fresh(), fresh())) == "AA"
            left.append((oru(control, number), control, number))
            client.send(block(left[-1][0]))
            time.sleep(pause)
            process.kill()
            with suppress(OSError):
                assert code(client.answer()) in {"", "AA"}
    with listener(url, tmp_path) as (_, port), Client(port) as client:
        assert client.ask(left[-1][0]) == "AA"
    for _, control, number in left:
        assert [state for state, _, _ in rows(url, control)] == ["processed"]
        assert versions(url, number) == 1


def test_what_many_peers_were_told_before_a_kill_is_there_and_the_rest_is_done_once(url: str, tmp_path: Path) -> None:
    """Eight peers keep the listener busy, so that it is killed within transactions of several messages."""
    told: list[list[tuple[str, str]]] = [[] for _ in range(8)]
    left: list[tuple[bytes, str, str]] = []

    def send(port: int, mine: list[tuple[str, str]]) -> None:
        with Client(port) as client:
            while True:
                control, number = fresh(), fresh()
                try:
                    answer = client.ask(oru(control, number))
                except OSError:
                    answer = ""
                if answer != "AA":
                    left.append((oru(control, number), control, number))
                    return
                mine.append((control, number))

    with listener(url, tmp_path) as (process, port), ThreadPoolExecutor(8) as pool:
        peers = [pool.submit(send, port, mine) for mine in told]
        eventually(lambda: sum(map(len, told)) > 40, 30)
        process.kill()
        for peer in peers:
            peer.result(30)
    assert len(left) == 8
    with listener(url, tmp_path) as (_, port), Client(port) as client:
        assert [client.ask(raw) for raw, _, _ in left] == ["AA"] * 8
    for control, number in [*(each for mine in told for each in mine), *((control, number) for _, control, number in left)]:
        assert [state for state, _, _ in rows(url, control)] == ["processed"]
        assert versions(url, number) == 1


def test_two_listeners_on_one_database(url: str, tmp_path: Path) -> None:
    control, number = fresh(), fresh()
    (tmp_path / "other").mkdir()
    with listener(url, tmp_path) as (_, first), listener(url, tmp_path / "other") as (_, second), Client(first) as one, Client(second) as other:
        for client in (one, other):
            client.send(block(oru(control, number)))
        assert one.answer() == other.answer()
    assert [(state, attempts) for state, attempts, _ in rows(url, control)] == [("processed", 1)]
    assert versions(url, number) == 1


def test_it_ends_in_order_and_shows_no_secret(url: str, tmp_path: Path) -> None:
    with listener(url, tmp_path) as (process, port), Client(port) as client:
        assert client.ask(oru(fresh(), fresh())) == "AA"
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(15) == 0
        assert time.monotonic() - began < 10
    assert SECRET not in (tmp_path / "mllp.log").read_text()
    assert "Traceback" not in (tmp_path / "mllp.log").read_text()


def test_certificates_by_settings(url: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("clinic.example.org")
    settings = {"MLLP_TLS_CERT": str(certificate), "MLLP_TLS_KEY": str(key), "MLLP_TLS_CA": str(authority.ca), "MLLP_ALLOW": "lab.example.org"}
    with listener(url, tmp_path, **settings) as (_, port), Client(port, client_context(authority, "lab.example.org")) as client:
        assert client.ask(oru(fresh(), fresh())) == "AA"
    done = subprocess.run(
        [str(PROGRAM), "check", "--data", str(tmp_path)], capture_output=True, text=True, check=False, env=environ(DATABASE_URL=url, **settings)
    )
    assert "ok     HL7 v2" in done.stdout
    assert "expires" in done.stdout


@pytest.mark.parametrize("settings", [{"MLLP_ALLOW": "lab.example.org"}, {"MLLP_TLS_CERT": __file__, "MLLP_TLS_KEY": __file__}])
@pytest.mark.parametrize("command", ["mllp", "check", "serve"])
def test_settings_that_cannot_be_used_are_one_line(url: str, tmp_path: Path, command: str, settings: dict[str, str]) -> None:
    arguments = [command, "--data", str(tmp_path / "data"), *(["--port", "0"] if command != "check" else [])]
    done = subprocess.run(
        [str(PROGRAM), *arguments], capture_output=True, text=True, check=False, env=environ(DATABASE_URL=url, **settings), timeout=60
    )
    said = done.stdout if command == "check" else done.stderr
    assert done.returncode == 1
    assert [line for line in said.splitlines() if "MLLP_" in line and ("fhir-server: " in line or "fault" in line)]
    assert "Traceback" not in said


def test_a_port_in_use_is_one_line(url: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = [str(PROGRAM), "mllp", "--data", str(tmp_path), "--port", str(taken.getsockname()[1])]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ(DATABASE_URL=url), timeout=60)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1


@contextmanager
def serving(tmp_path: Path, processes: int) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A `serve` and its port for HL7 v2."""
    command = [str(PROGRAM), "serve", "--data", str(tmp_path / "data"), "--port", "0", "--mllp-port", "0", "--processes", str(processes)]
    log = tmp_path / "serve.log"
    with log.open("w") as stream, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stream, text=True, env=environ()) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("ready "), log.read_text()
            yield process, int(next(line for line in log.read_text().splitlines() if line.startswith("mllp ")).rsplit(":", 1)[1])
        finally:
            process.kill()
            stop_database(tmp_path / "data")


def test_serve_starts_its_listener_again_and_takes_it_along_when_it_is_killed(tmp_path: Path) -> None:
    with serving(tmp_path, 1) as (process, port):
        with Client(port) as client:
            assert client.ask(oru(fresh(), fresh())) == "AA"
            before = owner(client)
            before.kill()
        # The socket outlives the process: who connects now waits for the next one.
        with Client(port) as client:
            client.socket.settimeout(60)
            assert client.ask(oru(fresh(), fresh())) == "AA"
            after = owner(client)
        assert after.pid != before.pid
        process.kill()
        after.wait(15)


def test_two_processes_share_the_connections_and_one_stands_in_for_the_other(tmp_path: Path) -> None:
    with serving(tmp_path, 2) as (_, port), ExitStack() as stack:

        def connected(stack: ExitStack) -> Client:
            client = stack.enter_context(Client(port))
            assert client.ask(oru(fresh(), fresh())) == "AA"
            return client

        def both_are_there() -> bool:
            with ExitStack() as stack:
                return owner(connected(stack)) != owner(connected(stack))

        # The second comes once the server is ready.
        eventually(both_are_there, 30)
        clients = [connected(stack) for _ in range(12)]
        assert min(Counter(map(owner, clients)).values()) > 2
        # The acknowledgement has a number that nothing else has: one of them has processed it, whoever that was.
        same = block(oru(fresh(), fresh()))
        with ThreadPoolExecutor(len(clients)) as pool:
            list(pool.map(lambda client: client.send(same), clients))
        answers = [client.answer() for client in clients]
        assert len(set(answers)) == 1
        assert code(answers[0]) == "AA"
        lost = owner(clients[0])
        left = [client for client in clients if owner(client) != lost]
        lost.kill()
        assert [client.ask(oru(fresh(), fresh())) for client in left] == ["AA"] * len(left)
        again = [connected(stack) for _ in range(3)]
        assert lost not in map(owner, again)


def owner(client: Client) -> psutil.Process:
    """The process that serves a connection."""
    here, there = client.socket.getsockname()[:2], client.socket.getpeername()[:2]
    found = next(each for each in psutil.net_connections("tcp") if tuple(each.laddr) == there and each.raddr and tuple(each.raddr) == here)
    return psutil.Process(found.pid)


def stop_database(data: Path) -> None:
    """A killed `serve` leaves its PostgreSQL to the next one."""
    file = data / "postgres" / "postmaster.pid"
    if file.exists():
        with suppress(psutil.NoSuchProcess):
            server = psutil.Process(int(file.read_text().split()[0]))
            server.terminate()
            server.wait(20)


def test_the_text_of_old_messages_is_removed_by_a_command(url: str, tmp_path: Path) -> None:
    control = fresh()
    with listener(url, tmp_path) as (_, port), Client(port) as client:
        assert client.ask(oru(control, fresh())) == "AA"

    def prune(before: str) -> subprocess.CompletedProcess[str]:
        command = [str(PROGRAM), "hl7v2", "prune", "--before", before, "--data", str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environ(DATABASE_URL=url), timeout=60)

    assert prune("2999-01-01").stderr == "fhir-server: --before takes a day that has begun\n"
    assert prune("2000-01-01").stdout == "the text of 0 messages is removed\n"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE hl7v2_message SET received = '1999-06-01Z' WHERE control_id = %s", (control,))
        assert prune("2000-01-01").stdout == "the text of 1 messages is removed\n"
        assert connection.execute("SELECT raw, code FROM hl7v2_message WHERE control_id = %s", (control,)).fetchone() == (b"", "AA")
        told = connection.execute("SELECT detail FROM audit_event WHERE type = 'hl7v2-message' AND kind = 'delete' ORDER BY id DESC").fetchone()
    assert told == ("text of 1 messages before 2000-01-01",)
