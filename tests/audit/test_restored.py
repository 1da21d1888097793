"""The trail in a database that was dumped and restored as docs/operating.md says."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from psycopg import errors

from fhir_server.store import migrate
from fhir_server.store.postgres.cluster import program
from fhir_server.store.trail import Event, append
from tests.audit.conftest import Trail
from tests.interactions.conftest import MakeFhir


def restored(url: str, into: str, dump: Path) -> None:
    subprocess.run([program("pg_dump"), "-Fc", "-f", dump, "-d", url], check=True, timeout=120)
    options = ["--clean", "--if-exists", "--no-owner", "--single-transaction"]
    subprocess.run([program("pg_restore"), *options, "-d", into, dump], check=True, timeout=120)
    migrate(into)


def test_the_chain_of_a_restored_database_holds_and_goes_on(
    trail: Trail, make_fhir: MakeFhir, fresh_database: Callable[[], str], tmp_path: Path
) -> None:
    trail.fhir.post("Patient", {"resourceType": "Patient"}, 201)
    with trail.store.database.connection() as connection:
        append(connection, [Event("sign-in", "näher \N{SNOWMAN}", detail=str(n), patients=("a", "b")) for n in range(5)])
    trail.seal()
    # One that is not sealed when the dump is made.
    with trail.store.database.connection() as connection:
        append(connection, [Event("sign-in", "late")])
    before = trail.verify()
    assert (before.fault, before.unsealed) == (None, 1)
    url = fresh_database()
    restored(trail.url, url, tmp_path / "dump")
    again = Trail(url, make_fhir(url))
    try:
        assert again.verify(before.head) == before
        again.fhir.post("Patient", {"resourceType": "Patient"}, 201)
        again.seal()
        after = again.verify(before.head)
        assert (after.fault, after.unsealed, after.contains) == (None, 0, True)
        assert after.entries > before.entries + 1
        for statement in ("UPDATE audit_event SET actor = 'x'", "DELETE FROM audit_chain", "TRUNCATE audit_event"):
            with pytest.raises(errors.InsufficientPrivilege):
                again.sql(statement)
        again.forge("UPDATE audit_event SET actor = 'somebody else' WHERE id = 3")
        assert "event 3 (entry 3) was changed" in str(again.verify().fault)
    finally:
        again.store.close()


def test_a_dump_that_somebody_has_changed_does_not_hold(trail: Trail, make_fhir: MakeFhir, fresh_database: Callable[[], str], tmp_path: Path) -> None:
    with trail.store.database.connection() as connection:
        append(connection, [Event("sign-in", f"user {n}") for n in range(5)])
    trail.seal()
    dump, url = tmp_path / "dump.sql", fresh_database()
    tables = ("--data-only", "-t", "audit_event", "-t", "audit_chain")
    subprocess.run([program("pg_dump"), *tables, "-f", dump, "-d", trail.url], check=True, timeout=120)
    dump.write_text(dump.read_text(encoding="utf-8").replace("user 2", "user 9"), encoding="utf-8")
    subprocess.run([program("psql"), "-q", "-o", os.devnull, "-v", "ON_ERROR_STOP=1", "-f", dump, "-d", url], check=True, timeout=120)
    again = Trail(url, make_fhir(url))
    try:
        assert "event 3 (entry 3) was changed" in str(again.verify().fault)
    finally:
        again.store.close()
