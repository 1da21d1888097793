"""The database going away and coming back, and processes killed under load: what was acknowledged stays, nothing is half written."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psutil
import psycopg
import pytest
import requests

from fhir_server import fhirjson
from fhir_server.access import issue
from fhir_server.app import build_app
from fhir_server.interactions import Engine
from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM, Registry
from fhir_server.settings import Settings
from fhir_server.spec import r4
from fhir_server.store import Store, migrate, postgres
from fhir_server.store.index.statements import columns
from fhir_server.store.ops import Create, Put
from fhir_server.store.tables import INDEX_TABLES
from tests.conftest import until

PROGRAM = Path(sys.executable).with_name("fhir-server")
SECRET = "a secret that only the tests know of"
HOLD = """
import pathlib, sys, time
from fhir_server.store import postgres
with postgres.embedded(pathlib.Path(sys.argv[1])) as url:
    print(url, flush=True)
    time.sleep(600)
"""


class Holder:
    """A private PostgreSQL in a directory, kept by a process that a test may kill."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> str:
        self.process = subprocess.Popen([sys.executable, "-c", HOLD, str(self.data)], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        """The server and its keeper at one blow, without a chance to write anything."""
        server = int((self.data / "postgres" / "postmaster.pid").read_text().splitlines()[0])
        family = [psutil.Process(server), *psutil.Process(server).children()]
        for process in family:
            process.kill()
        self.stop()
        psutil.wait_procs(family, 10)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


@pytest.fixture
def holder() -> Iterator[Holder]:
    folder = Path(tempfile.mkdtemp(prefix="fhir-held-", dir="/tmp"))
    folder.chmod(0o755)
    found = Holder(folder / "data")
    yield found
    found.stop()
    with postgres.embedded(folder / "data"):
        pass  # What was left running is stopped.
    shutil.rmtree(folder)


def patient(n: object, **fields: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", "identifier": [{"system": "urn:kill", "value": str(n)}], "name": [{"family": f"Family {n}"}], **fields}


def assert_whole(url: str, zone: ZoneInfo) -> int:
    """Every current version has exactly the index rows that its body gives, deleted ones have none; the number of resources."""
    with psycopg.connect(url) as connection:
        types = {name: tid for tid, name in connection.execute("SELECT tid, name FROM resource_type")}
        pids = {(name, code): pid for name, code, pid in connection.execute("SELECT type, code, pid FROM search_param")}
        systems = dict(connection.execute("SELECT url, sid FROM token_system").fetchall()) | {"": 0}
        registry = Registry(r4(), types=types, pids=pids, zone=zone)
        current = connection.execute(
            "SELECT r.rid, r.version, r.deleted, v.version, v.body, (SELECT count(*) FROM resource_version n WHERE n.rid = r.rid),"
            " EXISTS (SELECT FROM transaction t WHERE t.txn = v.txn)"
            " FROM resource r LEFT JOIN resource_version v ON v.vid = r.vid AND v.rid = r.rid"
        ).fetchall()
        expected: dict[str, dict[int, int]] = {table.name: {} for table in INDEX_TABLES}
        for rid, version, deleted, latest, body, count, known in current:
            assert (version, count, known, body is None) == (latest, version, True, deleted)
            rows = registry.rows(fhirjson.loads(body.encode())) if body else {}
            for table, made in rows.items():
                expected[table][rid] = len(made)
                names = columns(next(each for each in INDEX_TABLES if each.name == table))
                for row in made:
                    values = [systems[value] if name.endswith("system") else value for name, value in zip(names, row, strict=True)]
                    same = " AND ".join(f"{name} IS NOT DISTINCT FROM %s" for name in names)
                    found = connection.execute(f"SELECT count(*) FROM {table} WHERE rid = %s AND {same}", (rid, *values)).fetchone()
                    assert found == (1,), (table, row)
        for table, counts in expected.items():
            assert dict(connection.execute(f"SELECT rid, count(*) FROM {table} GROUP BY rid").fetchall()) == counts
        orphans = connection.execute("SELECT count(*) FROM resource_version v LEFT JOIN resource r USING (rid) WHERE r.rid IS NULL").fetchone()
        assert orphans == (0,)
    return len(current)


class Load:
    """Clients that write until they are told to stop, and remember what they were told is stored: id to version."""

    def __init__(self, write: Callable[[int, int], dict[str, int]], clients: int = 4) -> None:
        self.acknowledged: dict[str, int] = {}
        self._stop = threading.Event()
        self._write = write
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(clients)]
        for thread in self._threads:
            thread.start()

    def _run(self, client: int) -> None:
        n = 0
        while not self._stop.is_set():
            n += 1
            try:
                self.acknowledged.update(self._write(client, n))
            except (Outcome, requests.RequestException):
                time.sleep(0.01)

    def end(self) -> dict[str, int]:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
        return self.acknowledged


def test_a_killed_database_keeps_what_was_acknowledged(holder: Holder) -> None:
    url = holder.start()
    migrate(url)
    store = Store(url, zone=ZoneInfo("UTC"), connections=6)

    def write(client: int, n: int) -> dict[str, int]:
        link = "urn:uuid:00000000-0000-4000-8000-000000000001"
        basic = {"resourceType": "Basic", "code": {"text": "x"}, "subject": {"reference": link}}
        own = f"client-{client}"
        done = store.transact([Create(patient(n), link=link), Create(basic), Put(patient(f"{client}-{n}", id=own, active=bool(n % 2)), own)], SYSTEM)
        return {each.version.id: each.version.version for each in done.written if each.version}

    load = Load(write)
    try:
        for round_ in range(1, 3):
            until(lambda wanted=round_ * 60: len(load.acknowledged) > wanted)  # type: ignore[misc]
            holder.kill()
            holder.start()
        seen = len(load.acknowledged)
        until(lambda: len(load.acknowledged) > seen + 60)  # The same store writes again.
        acknowledged = load.end()
    finally:
        load.end()
        store.close()
    with psycopg.connect(url) as connection:
        stored: dict[str, int] = dict(connection.execute("SELECT id, version FROM resource").fetchall())
    assert {identity for identity, version in acknowledged.items() if stored.get(identity, 0) < version} == set()
    assert_whole(url, ZoneInfo("UTC"))


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "JWT_SECRET"}} | {"JWT_SECRET": SECRET}


@contextmanager
def serving(data: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    with data.with_name("serve.log").open("ab") as log:
        command = [str(PROGRAM), "serve", "--data", str(data), "--port", "0", "--mllp-port", "0", "--processes", "2"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=clean_environment())
    assert process.stdout is not None
    with process.stdout:
        line = process.stdout.readline()
        assert line.startswith("ready "), data.with_name("serve.log").read_text()
        try:
            yield process, line.split()[1]
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(20)


def test_a_killed_server_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    data = tmp_path / "data"
    bearer = {"Authorization": f"Bearer {issue(SECRET, role='admin', user='t', patient=None, scope=None, ttl=3600, now=time.time())}"}
    acknowledged: dict[str, int] = {}
    for _ in range(2):
        with serving(data) as (process, base):

            def write(client: int, n: int, base: str = base) -> dict[str, int]:
                entries = [
                    {"resource": patient(n), "request": {"method": "POST", "url": "Patient"}},
                    {"resource": patient(client, id=f"client-{client}"), "request": {"method": "PUT", "url": f"Patient/client-{client}"}},
                ]
                bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
                answer = requests.post(base, json=bundle, headers=bearer, timeout=10)
                if answer.status_code != 200:
                    return {}
                parts = [entry["response"]["location"].split("/") for entry in answer.json()["entry"]]
                return {part[1]: int(part[3]) for part in parts}

            load = Load(write)
            try:
                until(lambda load=load: len(load.acknowledged) > 60)  # type: ignore[misc]
                process.send_signal(signal.SIGKILL)
                process.wait(10)
            finally:
                acknowledged |= load.end()
    with postgres.embedded(data) as url:
        with psycopg.connect(url) as connection:
            stored: dict[str, int] = dict(connection.execute("SELECT id, version FROM resource").fetchall())
        assert {identity for identity, version in acknowledged.items() if stored.get(identity, 0) < version} == set()
        assert assert_whole(url, ZoneInfo("UTC")) >= len(acknowledged)


def test_without_a_database_the_answer_is_503_and_with_it_again_200(holder: Holder, tmp_path: Path) -> None:
    url = holder.start()
    migrate(url)
    store = Store(url, zone=ZoneInfo("UTC"), connections=2)
    store._database._pool.timeout = 0.5
    store._numbers._pool.timeout = 0.5
    store._database._pool.reconnect_timeout = 1
    client = build_app(Engine.build(store, Settings(data=tmp_path, jwt_secret=SECRET)), Settings(data=tmp_path, jwt_secret=SECRET)).test_client()
    bearer = {"Authorization": f"Bearer {issue(SECRET, role='admin', user='t', patient=None, scope=None, ttl=3600, now=time.time())}"}

    def ask(method: str, path: str) -> Any:
        return client.open(path, method=method, headers=bearer, json=patient(1, id="here") if method in ("PUT", "POST") else None)

    try:
        assert ask("PUT", "/fhir/Patient/here").status_code == 201
        assert ask("GET", "/health/ready").status_code == 200
        holder.kill()
        requests_ = [
            ("GET", "/fhir/Patient/here"),
            ("GET", "/fhir/Patient"),
            ("PUT", "/fhir/Patient/here"),
            ("POST", "/fhir/Patient"),
            ("GET", "/fhir/_history"),
        ]
        for method, path in requests_ * 2:
            answer = ask(method, path)
            assert answer.status_code == 503, (method, path)
            assert int(answer.headers["Retry-After"]) > 0
            assert answer.get_json()["resourceType"] == "OperationOutcome"
        assert ask("GET", "/health/ready").status_code == 503
        assert ask("GET", "/health/live").status_code == 200
        time.sleep(3)  # Longer than a session tries to come back by itself.
        holder.start()
        until(lambda: ask("GET", "/health/ready").status_code == 200)
        until(lambda: ask("GET", "/fhir/Patient/here").status_code == 200)
        assert ask("PUT", "/fhir/Patient/here").status_code == 200
        assert ask("POST", "/fhir/Patient").status_code == 201
    finally:
        store.close()


def test_an_empty_database_is_unavailable_and_leaves_no_session(holder: Holder) -> None:
    url = holder.start()
    with pytest.raises(Outcome) as refused:
        Store(url, zone=ZoneInfo("UTC"))
    assert refused.value.category == "unavailable"
    with psycopg.connect(url) as connection:
        until(lambda: connection.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'fhir-server'").fetchone() == (0,))


def run_both(connection: psycopg.Connection[tuple[Any, ...]], statement: str) -> None:
    connection.execute(statement)
    time.sleep(0.2)
    connection.execute("SELECT 1")


@pytest.mark.parametrize(
    ("statement", "category"),
    [
        ("SELECT pg_terminate_backend(pg_backend_pid())", "unavailable"),
        ("BEGIN READ ONLY; INSERT INTO once VALUES ('x')", "unavailable"),
        ("SET idle_in_transaction_session_timeout = 20; BEGIN; SELECT pg_sleep(0)", "unavailable"),
        ("SET statement_timeout = 20; SELECT pg_sleep(5)", "unavailable"),
        ("SELECT repeat('x', 20)::int", "parameter"),
        ("INSERT INTO token_system (url) SELECT string_agg(md5(n::text), '') FROM generate_series(1, 500) n", "too-large"),
    ],
)
def test_what_the_database_refuses_has_its_outcome_and_spoils_no_session(database_url: str, statement: str, category: str) -> None:
    store = Store(database_url, zone=ZoneInfo("UTC"), connections=1)
    try:
        with pytest.raises(Outcome) as refused, store._database.connection() as connection:
            run_both(connection, statement)
        assert refused.value.category == category
        with store._database.connection() as connection:
            connection.execute("RESET ALL")
        (written,) = store.transact([Create(patient("after"))], SYSTEM).written
        assert written.outcome == "created"
    finally:
        store.close()
