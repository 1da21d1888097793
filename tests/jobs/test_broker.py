"""The broker in the database, for processes that begin at the same moment."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from fhir_server.jobs.broker import reach
from fhir_server.settings import Settings

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Of kombu.
BEGINNERS = 8


def test_many_that_begin_at_once_all_reach_it(fresh_database: Callable[[], str], tmp_path: Path) -> None:
    settings = Settings(tmp_path, "x" * 32, database_url=fresh_database())
    faults: list[Exception] = []
    at_once = threading.Barrier(BEGINNERS)

    def begin() -> None:
        at_once.wait()
        try:
            reach(settings)
        except Exception as error:  # noqa: BLE001 - what it is is looked at
            faults.append(error)

    for _ in range(5):
        with psycopg.connect(str(settings.database_url), autocommit=True) as connection:
            if connection.execute("SELECT to_regclass('broker.kombu_queue')").fetchone() != (None,):
                connection.execute("DELETE FROM broker.kombu_queue")
        threads = [threading.Thread(target=begin) for _ in range(BEGINNERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert faults == []
