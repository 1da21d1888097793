from __future__ import annotations

from collections.abc import Callable
from zoneinfo import ZoneInfo

import psycopg

from fhir_server.search import SYSTEM
from fhir_server.store import HistoryScope, Store, migrate
from fhir_server.store.ops import Create


def test_repeating_a_migration_changes_nothing_and_uses_no_numbers_up(fresh_database: Callable[[], str]) -> None:
    url = fresh_database()
    numbers = "SELECT nextval(pg_get_serial_sequence('search_param', 'pid')), nextval(pg_get_serial_sequence('resource_type', 'tid'))"
    rows = "SELECT count(*), max(pid) FROM search_param"
    with psycopg.connect(url, autocommit=True) as connection:
        before = connection.execute(numbers).fetchone()
        content = connection.execute(rows).fetchone()
        migrate(url)
        after = connection.execute(numbers).fetchone()
        assert before is not None
        assert after == (before[0] + 1, before[1] + 1)
        assert connection.execute(rows).fetchone() == content


def test_a_migration_puts_back_what_is_missing(fresh_database: Callable[[], str]) -> None:
    url = fresh_database()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DELETE FROM search_param WHERE type = 'Patient' AND code = 'name'")
        connection.execute("DELETE FROM resource_type WHERE name = 'Basic'")
        migrate(url)
        assert connection.execute("SELECT count(*) FROM search_param WHERE type = 'Patient' AND code = 'name'").fetchone() == (1,)
        assert connection.execute("SELECT count(*) FROM resource_type WHERE name = 'Basic'").fetchone() == (1,)


def test_versions_of_a_restored_dump_were_there_before_every_moment(fresh_database: Callable[[], str]) -> None:
    url = fresh_database()
    store = Store(url, zone=ZoneInfo("UTC"), connections=1)
    try:
        store.transact([Create({"resourceType": "Patient"}) for _ in range(3)], SYSTEM)
        with psycopg.connect(url, autocommit=True) as connection:
            # As pg_restore leaves them: numbers of a database that was older than this one is.
            connection.execute("UPDATE resource_version SET xid = xid + 1000000000")
        migrate(url)
        with store.snapshot(SYSTEM) as db:
            first, more = db.history(HistoryScope("Patient"), 2)
            moment = db.moment()
            rest, _ = db.history(HistoryScope("Patient", before=first[-1][0], moment=moment), 2)
            db.rewind(moment)
            assert db.sources.changed == ()
        assert (len(first), more, len(rest)) == (2, True, 1)
    finally:
        store.close()
