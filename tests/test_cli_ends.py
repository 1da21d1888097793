"""How commands end that cannot do their work, or are asked to stop in the middle of it: one line, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from fhir_server.settings import SetupError
from fhir_server.store.postgres import embedded
from fhir_server.store.postgres.cluster import last_fault

PROGRAM = Path(sys.executable).with_name("fhir-server")
EXAMPLES = Path(__file__).parents[1] / "examples"
AWAY = "postgresql://clinic:hidden-word@127.0.0.1:1/clinic"
COMMANDS = [
    ["api", "--port", "0"],
    ["scheduler"],
    ["serve", "--port", "0", "--mllp-port", "0"],
    ["migrate"],
    ["export", "out"],
    ["backup", "file"],
    ["user", "list"],
]


def environ(**settings: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "JWT_SECRET", "DATA_KEY"}} | settings


def call(*arguments: object, cwd: Path | None = None, **settings: str) -> subprocess.CompletedProcess[str]:
    command = [str(PROGRAM), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environ(**settings), cwd=cwd)


@contextmanager
def begun(data: Path, *arguments: object) -> Iterator[tuple[subprocess.Popen[str], psutil.Process]]:
    """A command whose embedded database has just started, and that database."""
    command = [str(PROGRAM), *map(str, arguments), "--data", str(data)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ()) as process:
        deadline = time.monotonic() + 60
        while True:
            assert process.poll() is None
            assert time.monotonic() < deadline
            try:
                yield process, psutil.Process(int((data / "postgres" / "postmaster.pid").read_text().split()[0]))
            except (OSError, ValueError, IndexError, psutil.NoSuchProcess):
                time.sleep(0.02)
                continue
            return


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda found: str(found[0]))
def test_a_database_that_is_away_is_told_in_one_line_without_its_password(arguments: list[str], tmp_path: Path) -> None:
    done = call(*arguments, "--data", tmp_path / "data", cwd=tmp_path, DATABASE_URL=AWAY)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("fhir-server: the database cannot be reached: "), done.stderr
    assert done.stderr.endswith("see that it runs and that DATABASE_URL is right\n")
    assert done.stderr.count("\n") == 1
    assert "hidden-word" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_an_empty_name_is_not_the_working_directory(tmp_path: Path) -> None:
    done = call("token", "--role", "admin", "--data", "", cwd=tmp_path)
    assert (done.returncode, done.stdout, list(tmp_path.iterdir())) == (2, "", [])
    assert done.stderr == "fhir-server: Invalid value for '--data': a directory has a name (see fhir-server --help)\n"


def test_check_looks_at_nothing_in_a_database_that_is_away(tmp_path: Path) -> None:
    done = call("check", "--data", tmp_path / "data", DATABASE_URL=AWAY)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.count("not looked at, since the database is at fault") == 5
    assert "hidden-word" not in done.stdout


def test_a_part_that_runs_alone_needs_a_migrated_database(tmp_path: Path) -> None:
    with embedded(tmp_path / "data") as url:
        for command in ("mllp", "worker"):
            done = call(command, "--data", tmp_path / "other", DATABASE_URL=url)
            assert (done.returncode, done.stderr) == (1, "fhir-server: the database is not at this program's schema; run `fhir-server migrate`\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_middle_of_loading_ends_the_database_too(number: int, tmp_path: Path) -> None:
    with begun(tmp_path / "data", "load", EXAMPLES) as (process, database):
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out, err) == (1, "", "fhir-server: interrupted\n")
        assert not database.is_running()
    assert call("load", EXAMPLES, "--data", tmp_path / "data").returncode == 0


def test_a_restore_that_is_asked_to_stop_leaves_nothing_and_one_that_is_killed_is_known(tmp_path: Path) -> None:
    data, file = tmp_path / "my data", tmp_path / "my file"
    assert call("migrate", "--data", data).returncode == 0
    # Where a path has blanks, the command that is shown can be copied all the same.
    assert f"`fhir-server restore '{file}' --data DIR`" in call("backup", file, "--data", data).stdout
    with begun(tmp_path / "new", "restore", file) as (process, database):
        process.terminate()
        _, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (1, "fhir-server: interrupted\n")
        assert not database.is_running()
    assert not (tmp_path / "new").exists()
    with begun(tmp_path / "new", "restore", file) as (process, database):
        process.kill()
        process.wait()
        database.wait(10)
    # Its database is whole and empty: a clinic that has lost everything.
    for command in (["serve", "--port", 0], ["restore", file], ["token"]):
        done = call(*command, "--data", tmp_path / "new")
        assert done.returncode == 1
        assert done.stderr.startswith(f"fhir-server: a backup is being restored into {tmp_path / 'new'}, or was when that was cut off")
        assert done.stderr.count("\n") == 1


def test_a_path_too_long_for_a_socket_is_told_where_no_short_one_is_to_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fhir_server.store.postgres.server._SHORT", str(tmp_path / "absent"))
    with pytest.raises(SetupError, match="too long for the database's socket"), embedded(tmp_path / ("x" * 120)):
        pass


def test_why_a_database_ended_is_the_last_fault_in_its_log(tmp_path: Path) -> None:
    assert last_fault(tmp_path) is None
    (tmp_path / "log").mkdir()
    assert last_fault(tmp_path) is None
    (tmp_path / "log" / "postgresql-Mon.log").write_text("x FATAL:  first\ny PANIC:  no space left\nz LOG:  shut down\n")
    assert last_fault(tmp_path) == "y PANIC:  no space left"
