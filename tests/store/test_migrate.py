from __future__ import annotations

from collections.abc import Callable

import psycopg

from fhir_server.store import migrate


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
