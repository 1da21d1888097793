from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from fhir_server.settings import SetupError
from fhir_server.store import postgres
from fhir_server.store.postgres import server

HOLD = """
import sys, time, pathlib
from fhir_server.store import postgres
with postgres.embedded(pathlib.Path(sys.argv[1])) as url:
    print(url, flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a cluster in it, which runs while a test lets it."""
    folder = tmp_path_factory.mktemp("embedded") / "data"
    with postgres.embedded(folder) as url:
        execute(url, "CREATE TABLE kept (n int)")
    return folder


@pytest.fixture
def holder(data: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that runs the cluster."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(data)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def execute(url: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def server_of(data: Path) -> int:
    return int((data / "postgres" / "postmaster.pid").read_text().splitlines()[0])


def test_it_is_durable_and_holds_utf_8_in_the_order_of_its_code_points(data: Path) -> None:
    with postgres.embedded(data) as url:
        names = ("server_encoding", "lc_collate", "fsync", "synchronous_commit", "full_page_writes", "data_checksums", "jit", "listen_addresses")
        shown = [execute(url, f"SELECT current_setting('{name}', true)")[0][0] for name in names if name != "lc_collate"]
        assert shown == ["UTF8", "on", "on", "on", "on", "off", ""]
        assert execute(url, "SELECT datcollate FROM pg_database WHERE datname = 'fhir'") == [("C",)]


def test_nobody_else_may_read_the_cluster_or_connect(data: Path) -> None:
    assert stat.S_IMODE((data / "postgres").stat().st_mode) == 0o700
    assert stat.S_IMODE((data / "lock").stat().st_mode) == 0o600
    with postgres.embedded(data) as url, pytest.raises(psycopg.OperationalError, match="Peer authentication failed"):
        psycopg.connect(url.replace("fhir@", "somebody@"))


def test_a_second_one_is_refused_with_the_number_of_the_first(data: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(SetupError, match=f"in use by process {holder.pid}"), postgres.embedded(data):
        pass


def test_other_commands_find_the_running_one_and_leave_it_running(data: Path, holder: subprocess.Popen[str]) -> None:
    before = server_of(data)
    with postgres.connect_to_running(data) as url:
        execute(url, "INSERT INTO kept VALUES (1)")
    assert server_of(data) == before
    assert holder.poll() is None


def test_without_a_running_one_a_command_has_its_own_for_a_while(data: Path) -> None:
    with postgres.connect_to_running(data) as url:
        assert execute(url, "SELECT 1") == [(1,)]
    assert not (data / "postgres" / "postmaster.pid").exists()


def test_a_holder_without_a_database_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_WAIT_SECONDS", 0.2)
    with postgres.locked(tmp_path), pytest.raises(SetupError, match="DATABASE_URL"), postgres.connect_to_running(tmp_path):
        pass


@pytest.mark.parametrize("victims", [("holder",), ("server",), ("holder", "server")])
def test_what_was_committed_survives_a_kill(data: Path, holder: subprocess.Popen[str], victims: tuple[str, ...]) -> None:
    with postgres.connect_to_running(data) as url:
        execute(url, f"INSERT INTO kept VALUES ({len(victims)}00)")
        rows = execute(url, "SELECT count(*) FROM kept")
    if "server" in victims:
        os.kill(server_of(data), signal.SIGKILL)
    holder.kill()
    holder.wait()
    with postgres.embedded(data) as url:
        assert execute(url, "SELECT count(*) FROM kept") == rows


def test_a_process_that_got_the_number_of_a_killed_server_is_left_alone(data: Path) -> None:
    with subprocess.Popen(["sleep", "600"]) as stranger:
        for name in ("postmaster.pid", ".s.PGSQL.5432.lock"):
            (data / "postgres" / name).write_text(f"{stranger.pid}\n{data}/postgres\n1\n5432\n{data}/postgres\n\n1 1\nready\n")
        with postgres.embedded(data) as url:
            assert execute(url, "SELECT 1") == [(1,)]
        assert stranger.poll() is None
        stranger.kill()


def test_a_long_path_gets_a_short_socket(tmp_path: Path) -> None:
    data = tmp_path / ("long" * 25)
    with postgres.embedded(data) as url:
        assert execute(url, "SELECT 1") == [(1,)]
        with postgres.connect_to_running(data) as found:
            assert found == url


def test_another_version_is_refused(data: Path) -> None:
    version = data / "postgres" / "PG_VERSION"
    ours = version.read_text()
    version.write_text("17\n")
    try:
        with pytest.raises(SetupError, match="written by PostgreSQL 17"), postgres.embedded(data):
            pass
    finally:
        version.write_text(ours)


def test_something_else_in_its_place_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "letter.txt").write_text("dear")
    with pytest.raises(SetupError, match="no database"), postgres.embedded(tmp_path):
        pass
    assert (tmp_path / "postgres" / "letter.txt").read_text() == "dear"


def test_a_failure_to_start_says_why(data: Path) -> None:
    with pytest.raises(SetupError, match=r"did not start: .*shared_buffers"), postgres.embedded(data, {"shared_buffers": "nonsense"}):
        pass


def test_nothing_is_left_running(data: Path) -> None:
    with postgres.embedded(data):
        server = server_of(data)
        assert psutil.pid_exists(server)
    deadline = time.monotonic() + 10
    while psutil.pid_exists(server) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not psutil.pid_exists(server)


def test_a_server_that_ends_by_itself_is_started_again(data: Path) -> None:
    with postgres.embedded(data) as url:
        before = execute(url, "SELECT count(*) FROM kept")
        first = server_of(data)
        os.kill(first, signal.SIGKILL)
        deadline = time.monotonic() + 30
        after = None
        while after is None:
            try:
                after = execute(url, "SELECT count(*) FROM kept")
            except psycopg.OperationalError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        second = server_of(data)
        assert after == before
        assert second != first
    assert not psutil.pid_exists(second)


def test_a_leftover_that_ends_by_itself_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as leftover:

        def ends_meanwhile(pid: int, _cluster: Path) -> bool:
            leftover.kill()
            leftover.wait(10)
            return pid == leftover.pid

        monkeypatch.setattr(server, "_is_ours", ends_meanwhile)
        (tmp_path / "postmaster.pid").write_text(f"{leftover.pid}\n")
        server._stop_leftover(tmp_path)
    assert server._running(tmp_path) is None
