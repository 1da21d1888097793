"""Fixtures that more than one package needs: above all a real PostgreSQL, with a database of its own for every worker."""

from __future__ import annotations

import fcntl
import gc
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hypothesis
import psycopg
import pytest
from argon2 import PasswordHasher
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

# A busy machine is no fault of the code under test.
hypothesis.settings.register_profile("project", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
# For `make fuzz`, which says how to run a failing example again.
hypothesis.settings.register_profile("fuzz", hypothesis.settings.get_profile("project"), max_examples=1_000, print_blob=True)
hypothesis.settings.load_profile("project")

# Nothing survives a test run, so nothing is made durable: cloning a database takes 40 ms instead of 200. Nor is anything tidied up: with
# some hundred databases PostgreSQL would start a process for that ten times a second.
FAST = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "shared_buffers": "128MB",
    "max_wal_size": "1GB",
    "autovacuum": "off",
    # Each of some hundred servers that tests have open at a time has a few.
    "max_connections": "500",
}

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


# What starts servers or takes a minute for another reason, longest first: begun last, one of these would keep a single worker busy at the end.
LONGEST = (
    "tests/test_cli.py",
    "tests/admin/test_document.py",
    "tests/test_docs.py",
    "tests/test_guides.py",
    "tests/hl7v2/test_command.py",
    "tests/browser",
    "tests/clients",
)


def until(reached: Callable[[], bool], seconds: float = 60) -> None:
    """Waits for something to be so; fails where it is not after so many seconds."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Brings the longest files to the front; workers are given files in this order."""
    items.sort(key=lambda item: next((place for place, name in enumerate(LONGEST) if item.nodeid.startswith(name)), len(LONGEST)))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Reads the tests without looking for garbage, which is a third of the time; what is there then stays to the end and is never looked through."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_configure(config: pytest.Config) -> None:
    """The first process of a run (the only one without xdist) names the folder that all workers share."""
    if not hasattr(config, "workerinput"):
        # Tests start some two hundred processes: each that compiles everything anew takes half a second longer.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
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
def fresh_database(postgres_url: str, template: str, worker_id: str) -> Iterator[Callable[..., str]]:
    """Makes a new migrated database at each call and gives its URL: one without rows, or like another that nobody is connected to.

    All are dropped at the end, if the server is to be used again.
    """
    made: list[str] = []
    # Of files, not by the log: half the time.
    clone = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")

    def make(like: str | None = None) -> str:
        name = _name(f"{worker_id}_{len(made)}")
        source = str(conninfo_to_dict(like)["dbname"]) if like else template
        # Two clones of one template at the same moment are refused.
        with _only_one(Path(os.environ["FHIR_TEST_RUN"], "clone.lock")):
            _execute(postgres_url, clone.format(sql.Identifier(name), sql.Identifier(source)))
        made.append(name)
        return _database(postgres_url, name)

    yield make
    if os.environ.get("DATABASE_URL"):
        for name in made:
            _drop(postgres_url, name)


@pytest.fixture(scope="session")
def database_url(fresh_database: Callable[[], str]) -> str:
    """This worker's own migrated database, shared by its tests."""
    return fresh_database()


@pytest.fixture(scope="session", autouse=True)
def hasher() -> Iterator[PasswordHasher]:
    """That of the product. Tests sign in a thousand times, at 25 ms a password; with another it is 0.1 ms."""
    from fhir_server.access.accounts import passwords

    with pytest.MonkeyPatch.context() as patch:
        found: PasswordHasher = passwords._HASHER
        cheap = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
        patch.setattr(passwords, "_HASHER", cheap)
        patch.setattr(passwords, "_NOBODYS", cheap.hash("nobody"))
        yield found


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], int]:
    """Counts the SQL statements that a call runs in its own thread, transaction commands included; the numbers taken in blocks are left out."""
    from fhir_server.store.session import Session

    seen: list[str] = []
    here = threading.get_ident()
    execute = Session.execute
    transaction = Session.transaction

    def counting(self: Any, query: Any, *arguments: Any, **options: Any) -> Any:
        if "nextval" not in str(query) and threading.get_ident() == here:
            seen.append(str(query))
        return execute(self, query, *arguments, **options)

    def counting_transaction(self: Any, *arguments: Any, **options: Any) -> Any:
        if threading.get_ident() == here:
            seen.extend(["BEGIN", "COMMIT"])
        return transaction(self, *arguments, **options)

    monkeypatch.setattr(Session, "execute", counting)
    monkeypatch.setattr(Session, "transaction", counting_transaction)

    def count(work: Callable[[], object]) -> int:
        seen.clear()
        work()
        return len(seen)

    return count


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
