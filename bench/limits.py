"""What the machine could do at best: the same SQL in pgbench, the same bytes from a static Flask route, COPY of the same rows.

Each limit is CPU-milliseconds of everything that serves it, as in the workloads, so that the share of a limit does not depend on the machine's speed.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg

from fhir_server.store.postgres.cluster import program

from .clients import run
from .server import Server

_STATIC = """
from flask import Flask, Response
app = Flask(__name__, static_folder=None)
BODY = open({path!r}, "rb").read()
@app.get("/fhir/<name>")
def answer(name):
    return Response(BODY, content_type="application/fhir+json; charset=utf-8")
"""
_PORT = 8766


def static_route(body: bytes) -> float:
    """CPU-milliseconds of a Flask route under Granian that answers with these bytes."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "body.json").write_bytes(body)
        Path(folder, "static_app.py").write_text(_STATIC.format(path=str(Path(folder, "body.json"))))
        with _granian(folder) as process:
            server = Server(process, Path(folder), "", port=_PORT)
            figures = run(server, "static", lambda client, _: len(client.send("GET", "static", expect=(200,))) and 1, loops=16000)
    return figures.cpu_ms


@contextlib.contextmanager
def _granian(folder: str) -> Iterator[psutil.Process]:
    command = [sys.executable, "-m", "granian", "--interface", "wsgi", "--port", str(_PORT), "--no-log", "--workers", "1", "static_app:app"]
    with subprocess.Popen(command, cwd=folder) as process:
        try:
            for _ in range(100):
                with contextlib.suppress(OSError), contextlib.closing(__import__("socket").create_connection(("127.0.0.1", _PORT), 1)):
                    break
                time.sleep(0.1)
            yield psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(20)


def pgbench(server: Server, url: str, script: str, *, seconds: int = 4) -> float:
    """CPU-milliseconds of PostgreSQL for one run of a script with 8 clients, prepared."""
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(script)
        file.flush()
        before = server.cpu_seconds()
        command = [str(program("pgbench")), "-n", "-M", "prepared", "-c", "8", "-j", "1", "-T", str(seconds), "-f", file.name, url]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        spent = server.cpu_seconds() - before
    transactions = int(re.search(r"actually processed: (\d+)", done.stdout)[1])  # type: ignore[index]  # pgbench always prints it
    return spent * 1000 / transactions


def copy_rows(server: Server, url: str) -> float:
    """CPU-milliseconds per resource of PostgreSQL for COPY of all bodies and index rows into tables of the same shape and indexes."""
    tables = ["resource", "resource_version", "sp_date", "sp_number", "sp_quantity", "sp_reference", "sp_string", "sp_token", "sp_uri"]
    with psycopg.connect(url, autocommit=True) as connection, tempfile.TemporaryDirectory():
        resources = connection.execute("SELECT count(*) FROM resource").fetchone()
        assert resources is not None
        data = {}
        for table in tables:
            connection.execute(f"CREATE TABLE limit_{table} (LIKE {table} INCLUDING ALL)")
            with connection.cursor().copy(f"COPY {table} TO STDOUT (FORMAT binary)") as out:
                data[table] = [bytes(part) for part in out]
        before = server.cpu_seconds()
        for table in tables:
            with connection.cursor().copy(f"COPY limit_{table} FROM STDIN (FORMAT binary)") as into:
                for part in data[table]:
                    into.write(part)
        spent = server.cpu_seconds() - before
        for table in tables:
            connection.execute(f"DROP TABLE limit_{table}")
    return spent * 1000 / float(resources[0])
