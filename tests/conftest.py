"""Fixtures that more than one package needs: above all a real PostgreSQL, with a database of its own for every worker."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import hypothesis
import psycopg
import pytest
from psycopg import sql

# A busy machine is no fault of the code under test.
hypothesis.settings.register_profile("project", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
# For `make fuzz`, which says how to run a failing example again.
hypothesis.settings.register_profile("fuzz", hypothesis.settings.get_profile("project"), max_examples=1_000, print_blob=True)
hypothesis.settings.load_profile("project")

# Nothing survives a test run, so nothing is made durable: cloning a database takes 40 ms instead of 200.
FAST = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "shared_buffers": "128MB", "max_wal_size": "1GB"}

# Runs until it is told to stop or the test run's first process is gone: longer than the worker that asked first.
HOLDER = """
import os, pathlib, signal, sys, time
from fhir_server.store import postgres
folder, first = pathlib.Path(sys.argv[1]), int(sys.argv[2])
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
def is_alive():
    try:
        os.kill(first, 0)
    except OSError:
        return False
    return True
with postgres.embedded(folder / "data", eval(sys.argv[3])) as url:
    (folder / "holder").write_text(str(os.getpid()))
    (folder / "url").write_text(url)
    print("up", flush=True)
    try:
        while is_alive():
            time.sleep(0.2)
    finally:
        (folder / "url").unlink()
"""


def pytest_configure(config: pytest.Config) -> None:
    """The first process of a run (the only one without xdist) names the folder that all workers share."""
    if not hasattr(config, "workerinput"):
        os.environ["FHIR_TEST_RUN"] = tempfile.mkdtemp(prefix="fhir-test-", dir="/tmp")
        os.environ["FHIR_TEST_PROCESS"] = str(os.getpid())


def pytest_unconfigure(config: pytest.Config) -> None:
    """The first process of a run stops the server that a worker has started."""
    folder = os.environ.get("FHIR_TEST_RUN")
    if hasattr(config, "workerinput") or not folder:
        return
    holder = Path(folder, "holder")
    if holder.exists():
        os.kill(int(holder.read_text()), 15)
        deadline = time.monotonic() + 20
        while Path(folder, "data", "postgres", "postmaster.pid").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A server for tests: that of DATABASE_URL where it is set, else an embedded one shared by all workers of the run."""
    given = os.environ.get("DATABASE_URL")
    if given:
        yield given
        return
    folder = Path(os.environ["FHIR_TEST_RUN"])
    with _only_one(folder / "server.lock"):
        address = folder / "url"
        if not address.exists():
            _hold_server(folder)
    yield address.read_text()


@pytest.fixture(scope="session")
def template(postgres_url: str) -> str:
    """The name of a migrated database without rows, made once per run."""
    folder = Path(os.environ["FHIR_TEST_RUN"])
    name = _name("template")
    with _only_one(folder / "template.lock"):
        if not (folder / "template.done").exists():
            from fhir_server.store import migrate

            _drop(postgres_url, name)
            _execute(postgres_url, sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
            migrate(_database(postgres_url, name))
            (folder / "template.done").touch()
    return name


@pytest.fixture(scope="session")
def fresh_database(postgres_url: str, template: str, worker_id: str) -> Iterator[Callable[[], str]]:
    """Makes a new migrated database without rows at each call and gives its URL; all are dropped at the end."""
    made: list[str] = []

    def make() -> str:
        name = _name(f"{worker_id}_{len(made)}")
        # Two clones of one template at the same moment are refused.
        with _only_one(Path(os.environ["FHIR_TEST_RUN"], "clone.lock")):
            _execute(postgres_url, sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template)))
        made.append(name)
        return _database(postgres_url, name)

    yield make
    for name in made:
        _drop(postgres_url, name)


@pytest.fixture(scope="session")
def database_url(fresh_database: Callable[[], str]) -> str:
    """This worker's own migrated database, shared by its tests."""
    return fresh_database()


@pytest.fixture(scope="session")
def test_data() -> Path | None:
    """The folder that FHIR_TEST_DATA names, with more data than the project ships; None without it."""
    folder = os.environ.get("FHIR_TEST_DATA")
    return Path(folder) if folder else None


def _hold_server(folder: Path) -> None:
    with (folder / "holder.log").open("wb") as log:
        command = [sys.executable, "-c", HOLDER, str(folder), os.environ["FHIR_TEST_PROCESS"], repr(FAST)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, start_new_session=True)
    # It outlives this worker on purpose, which is what Popen warns of unless it takes the process for ended.
    process.returncode = 0
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"up\n", (folder / "holder.log").read_text()


@contextmanager
def _only_one(path: Path) -> Iterator[None]:
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _name(part: str) -> str:
    """A database's name that no other test run on the same server has."""
    return f"{Path(os.environ['FHIR_TEST_RUN']).name}-{part}"


def _database(url: str, name: str) -> str:
    """The same server with another database in the URL's path."""
    return re.sub(r"^([a-z]+://[^/?]*)(/[^?]*)?", rf"\g<1>/{name}", url, count=1)


def _drop(url: str, name: str) -> None:
    _execute(url, sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _execute(url: str, statement: sql.Composed) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)
