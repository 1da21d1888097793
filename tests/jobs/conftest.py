"""Parts of the server as processes of their own, over a database that a test looks into."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

PROGRAM = Path(sys.executable).with_name("fhir-server")
Start = Callable[..., "subprocess.Popen[bytes]"]


@contextmanager
def starting(url: str, folder: Path, **more: str) -> Iterator[Start]:
    """Starts a part of the server, a worker unless told otherwise, as often as it is called; all of them end with the test."""
    made: list[subprocess.Popen[bytes]] = []
    environ = {name: value for name, value in os.environ.items() if name != "BROKER_URL"}
    environ |= {"DATABASE_URL": url, "JWT_SECRET": "x" * 32, "CLINIC_TIMEZONE": "UTC"} | more

    def begin(name: str = "worker") -> subprocess.Popen[bytes]:
        with (folder / f"{name}-{len(made)}.log").open("wb") as log:
            made.append(subprocess.Popen([PROGRAM, name, "--data", folder / "data"], env=environ, stderr=log, cwd=folder))
        return made[-1]

    yield begin
    for process in made:
        process.kill()
        process.wait()


def are_up(url: str, workers: int) -> bool:
    """Whether so many workers listen for changes."""
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'fhir-server outbox'").fetchone()
    return row == (workers,)
