from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

import psutil
import psycopg
import pytest
import requests

from fhir_server.search import SYSTEM
from fhir_server.store import Store
from fhir_server.store.ops import Create

PROGRAM = Path(sys.executable).with_name("fhir-server")
COMMANDS = [
    "serve",
    "api",
    "mllp",
    "worker",
    "scheduler",
    "migrate",
    "token",
    "load",
    "export",
    "backup",
    "restore",
    "package",
    "reindex",
    "user",
    "audit",
    "check",
]


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "JWT_SECRET"}}


def call(*arguments: object, cwd: Path | None = None, environ: Mapping[str, str] = MappingProxyType({})) -> subprocess.CompletedProcess[str]:
    command = [str(PROGRAM), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=clean_environment() | dict(environ), cwd=cwd)


class Running:
    """A `serve` in another process, from its line `ready` on."""

    def __init__(self, data: Path) -> None:
        self.data = data
        command = [str(PROGRAM), "serve", "--data", str(data), "--port", "0", "--mllp-port", "0", "--processes", "2"]
        with data.with_name("serve.log").open("wb") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=clean_environment())
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("ready http://127.0.0.1:"), data.with_name("serve.log").read_text()
        self.base = line.split()[1]

    def parts(self) -> list[psutil.Process]:
        found = psutil.Process(self.process.pid).children()
        return [child for child in found if "spawn_main" in " ".join(child.cmdline())]

    def workers(self) -> list[psutil.Process]:
        """Both that answer HTTP, once they do."""
        port = int(self.base.removesuffix("/fhir").rpartition(":")[2])
        deadline = time.monotonic() + 30
        while True:
            found = [child for child in self.parts() if any(each.laddr.port == port for each in _connections(child))]
            if len(found) == 2:
                return found
            assert self.process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        assert self.process.stdout is not None
        with self.process.stdout:
            return self.process.wait(15)


def _connections(process: psutil.Process) -> list[Any]:
    try:
        return list(process.net_connections("tcp"))
    except psutil.Error:
        return []


@contextmanager
def serving(data: Path) -> Iterator[Running]:
    running = Running(data)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.end(signal.SIGTERM)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("serve") / "data") as found:
        yield found


def token(data: Path, *arguments: str) -> dict[str, str]:
    done = call("token", "--data", data, *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""
    return {"Authorization": f"Bearer {done.stdout.strip()}"}


def test_help_loads_neither_the_web_nor_the_database() -> None:
    code = (
        "import sys\n"
        "from fhir_server.cli import main\n"
        "try:\n"
        "    main(['--help'])\n"
        "except SystemExit as end:\n"
        "    assert not end.code\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert all(f"  {name} " in done.stdout for name in COMMANDS)
    loaded = set(done.stderr.replace("'", "").strip("[]\n").split(", "))
    assert "click" in loaded
    assert not loaded & {"flask", "sqlalchemy", "psycopg", "granian", "msgspec", "lxml", "alembic", "structlog", "rich"}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    done = call(name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage: fhir-server" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("", 2),
        ("dance", 2),
        ("serve --port 99999", 2),
        ("serve --processes 0", 2),
        ("token --role emperor", 2),
        ("token --ttl 0", 2),
        ("token --scope everything", 1),
        ("token --role patient", 1),
        ("load no-such-file", 2),
        ("api", 1),
        ("worker", 1),
        ("scheduler", 1),
        ("mllp", 1),
    ],
)
def test_a_wrong_call_is_one_line(arguments: str, code: int, tmp_path: Path) -> None:
    done = call(*arguments.split(), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (code, "")
    assert "Traceback" not in done.stderr
    if arguments:
        assert done.stderr.startswith("fhir-server: ")
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "environ",
    [
        {"FHIR_SERVER_PORT": "1"},
        {"CLINIC_TIMEZONE": "Nowhere"},
        {"DATABASE_URL": "postgresql://u:hidden@127.0.0.1:1/none"},
        {"JWT_SECRET": "hidden"},
    ],
)
@pytest.mark.parametrize("arguments", ["serve --port 0", "migrate"])
def test_a_wrong_setting_is_one_line(environ: dict[str, str], arguments: str, tmp_path: Path) -> None:
    done = call(*arguments.split(), "--data", tmp_path / "data", environ=environ)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "hidden" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = call("serve", "--data", tmp_path / "data", "--port", port)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert str(port) in done.stderr
    assert not (tmp_path / "data" / "postgres").exists()


def test_serve_answers_and_asks_for_a_token(running: Running) -> None:
    assert requests.get(f"{running.base}/Patient", timeout=10).status_code == 401
    assert requests.get(f"{running.base}/Patient", headers={"Authorization": "Bearer x"}, timeout=10).status_code == 401
    assert requests.get(f"{running.base}/Patient", headers=token(running.data), timeout=10).status_code == 200
    assert requests.get(f"{running.base}/Patient", headers=token(running.data, "--scope", "system/Observation.rs"), timeout=10).status_code == 403


def test_a_second_serve_on_the_same_directory_is_refused(running: Running) -> None:
    done = call("serve", "--data", running.data, "--port", 0)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"in use by process {running.process.pid}" in done.stderr


def test_somebody_related_to_a_patient_is_told_as_that(running: Running) -> None:
    who = ("--role", "patient", "--patient", "p1", "--related-person", "r1")
    assert call("user", "add", "mother@clinic", *who, "--data", running.data).returncode == 0
    listed = call("user", "list", "--data", running.data).stdout
    assert "mother@clinic\tactive\tpatient\tRelatedPerson/r1\t-\n" in listed


def test_a_token_is_for_somebody_who_may_sign_in(running: Running, tmp_path: Path) -> None:
    add = ("user", "add", "--role", "doctor", "--practitioner", "d1", "--data", running.data)
    assert [call(*add, login).returncode for login in ("here@clinic", "gone@clinic")] == [0, 0]
    assert call("user", "disable", "gone@clinic", "--data", running.data).returncode == 0
    token(running.data, "--user", "here@clinic")
    # A job that has no account has a name all the same.
    token(running.data, "--user", "nightly", "--scope", "system/*.rs")
    for login, told, options in (
        ("nobody@clinic", "there is no account nobody@clinic", ()),
        ("nobody@clinic", "there is no account nobody@clinic", ("--role", "admin", "--scope", "user/*.rs")),
        ("gone@clinic", "the account gone@clinic is disabled", ()),
        ("gone@clinic", "the account gone@clinic is disabled", ("--scope", "system/*.rs")),
    ):
        done = call("token", "--user", login, "--data", running.data, *options)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"fhir-server: {told}; ")
        assert done.stderr.count("\n") == 1
    assert call("token", "--user", "nobody@clinic", "--data", tmp_path / "new").returncode == 1


def test_the_token_of_a_board_goes_with_its_location_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    assert token(tmp_path / "data", "--scope", "board", "--location", "l1")
    for options in (
        ("--scope", "board"),
        ("--location", "l1"),
        ("--scope", "board", "--location", "a/b"),
        ("--scope", "board system/*.rs", "--location", "l1"),
        ("--scope", "board", "--location", "l1", "--role", "admin"),
    ):
        done = call("token", *options, "--data", tmp_path / "data")
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), options


def test_check_finds_the_running_server_and_shows_no_secret(running: Running) -> None:
    done = call("check", "--data", running.data, environ={"METRICS_TOKEN": "hidden-1", "SMTP_URL": "smtp://u:hidden-2@127.0.0.1:1"})
    assert done.returncode == 1
    assert "ok     database" in done.stdout
    assert "ok     appointments" in done.stdout
    assert "fault  mail" in done.stdout
    assert "hidden" not in done.stdout + done.stderr
    assert "METRICS_TOKEN           set" in done.stdout
    assert call("check", "--data", running.data).returncode == 0


def test_check_warns_where_nothing_says_what_the_servers_own_addresses_are(fresh_database: Callable[[], str], tmp_path: Path) -> None:
    url = fresh_database()

    def told(**environ: str) -> str:
        done = call("check", "--data", tmp_path, environ={"DATABASE_URL": url, **environ})
        assert done.returncode == 0, done.stdout
        (line,) = [line for line in done.stdout.splitlines() if " addresses " in line]
        return line

    assert told().startswith("look")
    assert "set PUBLIC_URL" in told()
    assert told(PUBLIC_URL="https://fhir.example.org").startswith("ok")
    store = Store(url, zone=ZoneInfo("UTC"), connections=2)
    try:
        store.fit(["http://clinic.example.org:8000/fhir"])
    finally:
        store.close()
    assert "only references below http://clinic.example.org:8000/fhir, where a `serve` has answered" in told()


def test_check_names_appointments_that_were_booked_twice_before_that_was_refused(fresh_database: Callable[[], str], tmp_path: Path) -> None:
    url = fresh_database()
    store = Store(url, zone=ZoneInfo("UTC"), connections=1)
    try:
        times = {"start": "2031-03-03T08:00:00Z", "end": "2031-03-03T08:30:00Z"}
        appointment = {"resourceType": "Appointment", "status": "proposed", **times, "participant": [{"actor": {"reference": "Practitioner/busy"}}]}
        store.transact([Create(appointment), Create(appointment)], SYSTEM)
        with store.database.connection() as connection:
            connection.execute(
                "INSERT INTO occupancy (rid, actor, lane, during, clash) SELECT rid, 'Practitioner/busy', row_number() OVER (), tstzrange(%s, %s),"
                " row_number() OVER () = 2 FROM resource WHERE type = (SELECT tid FROM resource_type WHERE name = 'Appointment')",
                (times["start"], times["end"]),
            )
    finally:
        store.close()
    done = call("check", "--data", tmp_path / "data", environ={"DATABASE_URL": url, "CLINIC_TIMEZONE": "Europe/Berlin"})
    assert done.returncode == 1
    assert re.search(
        r"fault  appointments .*Appointment/\S+ and Appointment/\S+ on Practitioner/busy at 2031-03-03 09:00; move or cancel", done.stdout
    )


def test_check_tells_how_much_room_bulk_exports_take(fresh_database: Callable[[], str], tmp_path: Path) -> None:
    url = fresh_database()
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO bulk_export (id, actor, holder, request, state, created) VALUES ('e', 'a', '{}', '{}', 'done', now())")
        connection.execute("INSERT INTO bulk_file (export, number, type, count, content) VALUES ('e', 0, 'Patient', 1, %s)", (bytes(1_700_000),))
    for room, line in (
        ("2", "look   exports        bulk exports take 1 MB of the 2 MB"),
        ("10", "ok     exports        bulk exports take 1 MB of the 10 MB"),
    ):
        done = call("check", "--data", tmp_path / "data", environ={"DATABASE_URL": url, "MAX_EXPORTS_MB": room})
        assert (done.returncode, line in done.stdout) == (0, True), done.stdout


def test_load_reads_files_while_serve_runs_and_changes_nothing_the_second_time(running: Running, tmp_path: Path) -> None:
    entry = {"resource": {"resourceType": "Patient", "name": [{"family": "Loaded"}]}, "request": {"method": "POST", "url": "Patient"}}
    (tmp_path / "good.json").write_text(json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": [entry, entry]}))
    first = call("load", tmp_path, "--data", running.data)
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("2 resources of 1 files")
    second = call("load", tmp_path, "--data", running.data)
    assert second.stdout.startswith("0 resources of 1 files")
    found = requests.get(f"{running.base}/Patient?family=Loaded", headers=token(running.data), timeout=10).json()
    assert len(found["entry"]) == 2


def test_load_names_what_it_refuses(running: Running, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text('{"resourceType": "Bundle"')
    done = call("load", tmp_path, "--data", running.data)
    assert done.returncode == 1
    assert "bad.json" in done.stderr
    assert "1 refused" in done.stdout


def test_slow_bodies_hold_nobody_up(running: Running) -> None:
    host, port = running.base.removeprefix("http://").removesuffix("/fhir").split(":")
    good = token(running.data)
    body = b'{"resourceType":"Patient","language":"en"}'
    head = f"POST /fhir/Patient HTTP/1.1\r\nHost: {host}\r\nAuthorization: {good['Authorization']}\r\nContent-Type: application/json\r\n"
    with ExitStack() as stack:
        senders = [stack.enter_context(socket.create_connection((host, int(port)), 10)) for _ in range(60)]
        for number, sender in enumerate(senders):
            framing = f"Content-Length: {len(body)}" if number % 2 else "Transfer-Encoding: chunked"
            sender.sendall(f"{head}{framing}\r\n\r\n".encode() + (body[:1] if number % 2 else b"1\r\n" + body[:1] + b"\r\n"))
        for _ in range(10):
            assert (
                requests.post(f"{running.base}/Patient", data=body, headers={**good, "Content-Type": "application/json"}, timeout=10).status_code
                == 201
            )
            assert requests.get(f"{running.base}/Patient?_count=1", headers=good, timeout=10).status_code == 200
        for number, sender in enumerate(senders):
            sender.sendall(body[1:] if number % 2 else f"{len(body) - 1:x}\r\n".encode() + body[1:] + b"\r\n0\r\n\r\n")
            assert sender.recv(100).startswith(b"HTTP/1.1 201 ")


def test_who_has_no_token_is_answered_before_the_body(running: Running) -> None:
    host, port = running.base.removeprefix("http://").removesuffix("/fhir").split(":")
    with socket.create_connection((host, int(port)), 10) as sender:
        sender.sendall(f"POST /fhir/Patient HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n".encode())
        assert sender.recv(100).startswith(b"HTTP/1.1 401 ")


def test_a_worker_that_dies_is_replaced(running: Running) -> None:
    before = running.workers()
    before[0].kill()
    psutil.wait_procs(before[:1], 10)
    good = token(running.data)
    answers = {requests.get(f"{running.base}/Patient", headers=good, timeout=10).status_code for _ in range(5)}
    assert answers == {200}
    assert before[0] not in running.workers()


def test_listeners_worker_and_scheduler_are_started_again_when_they_die(running: Running) -> None:
    def complete() -> list[psutil.Process]:
        deadline = time.monotonic() + 30
        while len(found := running.parts()) < 6:
            assert running.process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return found

    # Some of them come only after the line `ready`.
    complete()
    http = running.workers()
    others = [part for part in complete() if part not in http]
    for part in others:
        part.kill()
    psutil.wait_procs(others, 10)
    assert len(set(complete()) - set(others)) == 6


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_everything_cleanly(number: int, tmp_path: Path) -> None:
    with serving(tmp_path / "data") as found:
        family = psutil.Process(found.process.pid).children(recursive=True)
        assert any("postgres" in process.name() for process in family)
        assert found.end(number) == 0
        _, alive = psutil.wait_procs(family, 5)
        assert alive == []
    assert not (tmp_path / "data" / "postgres" / "postmaster.pid").exists()


def test_a_kill_loses_nothing_that_was_acknowledged_and_leaves_nobody_behind(tmp_path: Path) -> None:
    patient = {"resourceType": "Patient", "name": [{"family": "Kept"}]}
    with serving(tmp_path / "data") as found:
        good = token(found.data)
        made = [requests.post(f"{found.base}/Patient", json=patient, headers=good, timeout=10) for _ in range(20)]
        assert {answer.status_code for answer in made} == {201}
        family = psutil.Process(found.process.pid).children(recursive=True)
        found.end(signal.SIGKILL)
    with serving(tmp_path / "data") as found:
        for answer in made:
            assert requests.get(f"{found.base}/Patient/{answer.json()['id']}", headers=good, timeout=10).status_code == 200
        assert [process for process in family if process.is_running() and process.status() != psutil.STATUS_ZOMBIE] == []
