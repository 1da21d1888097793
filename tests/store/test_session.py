"""What a session does with statements that come again, held against what psycopg does with each of them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import errors
from psycopg.conninfo import make_conninfo
from psycopg_pool import ConnectionPool

from fhir_server.store.database import Database
from fhir_server.store.session import Session

OFTEN = 6
PLAIN = {
    "text": st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=12),
    "bigint": st.integers(-(2**63), 2**63 - 1),
    "boolean": st.booleans(),
    "timestamptz": st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=st.just(UTC)),  # noqa: DTZ001 - Hypothesis adds the zone
    "numeric": st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9),
    "bytea": st.binary(max_size=12),
}


@pytest.fixture(scope="module")
def session(database_url: str) -> Iterator[Session]:
    with Session.connect(database_url, autocommit=True, options="-c TimeZone=UTC") as connection:
        yield connection


@pytest.fixture(scope="module")
def plain(database_url: str) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    with psycopg.connect(database_url, autocommit=True, options="-c TimeZone=UTC") as connection:
        yield connection


def prepared(session: Session) -> int:
    found = session.cursor().execute("SELECT count(*) FROM pg_prepared_statements").fetchone()
    assert found is not None
    return int(found[0])


@given(data=st.data())
@pytest.mark.parametrize("kind", sorted(PLAIN))
def test_values_and_arrays_arrive_as_they_do_by_psycopg(
    session: Session, plain: psycopg.Connection[tuple[Any, ...]], kind: str, data: st.DataObject
) -> None:
    one = data.draw(st.none() | PLAIN[kind])
    many = data.draw(st.lists(st.none() | PLAIN[kind], max_size=5))
    statement = f"SELECT %s::{kind}, %s::{kind}[], %s::{kind}[] IS NULL, '%%', 1.10"
    expected = plain.execute(statement, (one, many, None)).fetchall()
    for _ in range(OFTEN):
        assert session.execute(statement, (one, many, None)).fetchall() == expected


def test_values_by_name_arrive_also_where_one_is_used_twice(session: Session) -> None:
    for number in range(OFTEN):
        found = session.execute("SELECT %(b)s::int - %(a)s::int, %(b)s::int, %(raw)b::bytea", {"a": 1, "b": number, "raw": b"\0\xff"}).fetchall()
        assert found == [(number - 1, number, b"\0\xff")]


def test_a_statement_without_values_may_have_signs_of_percent(session: Session) -> None:
    for _ in range(OFTEN):
        assert session.execute("SELECT 'a%s' LIKE 'a%'").fetchall() == [(True,)]


def test_rows_come_one_by_one_or_all_that_are_left(session: Session) -> None:
    for _ in range(OFTEN):
        found = session.execute("SELECT n FROM generate_series(1, %s) AS n", (4,))
        assert found.fetchone() == (1,)
        assert next(iter(found)) == (2,)
        assert found.fetchall() == [(3,), (4,)]
        assert (found.fetchone(), found.fetchall(), found.rowcount) == (None, [], 4)


def test_the_same_statement_with_values_of_another_type_is_read_anew(session: Session) -> None:
    for value in (1, 2**40, "text", None, Decimal("1.10"), [1], timedelta(hours=1), True) * 2:
        assert session.execute("SELECT %s", (value,)).fetchall() == [("{1}" if value == [1] else value,)] or isinstance(value, list)


def test_what_is_prepared_stays_when_a_transaction_is_taken_back(session: Session) -> None:
    for _ in range(OFTEN):
        session.execute("SELECT %s::int + 41", (1,))
    before = prepared(session)
    with suppress(errors.DivisionByZero), session.transaction():
        session.execute("SELECT 1 / %s::int", (0,))
    assert prepared(session) == before
    assert session.execute("SELECT %s::int + 41", (1,)).fetchone() == (42,)
    assert prepared(session) == before


def test_a_session_that_has_lost_what_it_prepared_prepares_it_again(session: Session) -> None:
    for _ in range(OFTEN):
        session.execute("SELECT %s::int + 42", (1,))
    session.cursor().execute("DEALLOCATE ALL")
    with pytest.raises(errors.InvalidSqlStatementName):
        session.execute("SELECT %s::int + 42", (1,))
    assert session.execute("SELECT %s::int + 42", (1,)).fetchone() == (43,)


def test_a_session_keeps_a_hundred_statements_and_those_that_it_uses(session: Session) -> None:
    for number in range(130):
        for _ in range(OFTEN):
            session.execute(f"SELECT %s::int + {number}", (1,))
        assert session.execute("SELECT %s::int AS always", (1,)).fetchone() == (1,)
    assert prepared(session) == 100
    names = session.cursor().execute("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%always'").fetchone()
    assert names == (1,)


def test_faults_are_those_of_psycopg_each_time(session: Session) -> None:
    for _ in range(OFTEN):
        with pytest.raises(errors.DivisionByZero):
            session.execute("SELECT 2 / %s::int", (0,))
        with pytest.raises(errors.UndefinedColumn):
            session.execute("SELECT nothing + %s::int", (0,))
        with pytest.raises(psycopg.DataError):
            session.execute("SELECT %s::text[]", (["a\0b"],))


def test_a_transaction_is_kept_or_taken_back_with_what_is_in_it(session: Session) -> None:
    session.execute("CREATE TEMPORARY TABLE kept (n int)")
    with session.transaction("BEGIN; SELECT 7") as begun:
        assert begun is not None
        assert begun.get_value(0, 0) == b"7"
        session.execute("INSERT INTO kept VALUES (1)")
        with suppress(errors.DivisionByZero), session.transaction() as within:
            assert within is None
            session.execute("INSERT INTO kept VALUES (2)")
            session.execute("SELECT 1 / 0")
    with suppress(LookupError), session.transaction():
        session.execute("INSERT INTO kept VALUES (3)")
        raise LookupError
    assert session.execute("SELECT n FROM kept").fetchall() == [(1,)]


def test_a_transaction_that_hid_a_fault_does_not_pass_for_kept(session: Session) -> None:
    with pytest.raises(errors.InFailedSqlTransaction), session.transaction(), suppress(errors.DivisionByZero):
        session.execute("SELECT 1 / 0")
    assert session.execute("SELECT 1").fetchone() == (1,)


def test_a_server_that_has_gone_is_an_operational_error(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as other:
        lost = Session.connect(database_url, autocommit=True)
        for _ in range(OFTEN):
            lost.execute("SELECT %s::int", (1,))
        other.execute("SELECT pg_terminate_backend(%s, 5000)", (lost.info.backend_pid,))
        with pytest.raises(psycopg.OperationalError), lost.transaction():
            lost.execute("SELECT %s::int", (1,))
        assert lost.closed
        lost.close()


def test_a_session_that_works_passes_for_one_however_often_the_pool_looks(session: Session) -> None:
    for _ in range(OFTEN):
        ConnectionPool.check_connection(session)
    assert session.execute("SELECT 1").fetchone() == (1,)


def test_a_statement_over_a_table_that_has_changed_fails_once(session: Session) -> None:
    session.execute("CREATE TEMPORARY TABLE changing (n int)")
    for _ in range(OFTEN):
        session.execute("SELECT * FROM changing WHERE n < %s", (5,))
    session.execute("ALTER TABLE changing ADD name text")
    with pytest.raises(errors.FeatureNotSupported):
        session.execute("SELECT * FROM changing WHERE n < %s", (5,))
    session.execute("INSERT INTO changing VALUES (1, 'a')")
    assert session.execute("SELECT * FROM changing WHERE n < %s", (5,)).fetchall() == [(1, "a")]


def test_a_transaction_that_fails_as_it_begins_leaves_none(session: Session) -> None:
    with pytest.raises(errors.DivisionByZero), session.transaction("BEGIN; SELECT 1 / 0"):
        raise AssertionError
    assert session.execute("SELECT 1").fetchone() == (1,)


def test_threads_that_share_a_session_have_their_own_rows(session: Session) -> None:
    def ask(number: int) -> bool:
        return session.execute("SELECT %s::int, %s::text", (number, f"number {number}")).fetchall() == [(number, f"number {number}")]

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(ask, range(1_000)))


def test_text_in_statements_is_read_right_whatever_the_database_is_encoded_in(database_url: str) -> None:
    name = f"latin_{uuid.uuid4().hex}"
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
        try:
            database = Database(make_conninfo(database_url, dbname=name), connections=1)
            with database.connection() as own:
                for _ in range(OFTEN):
                    assert own.execute("SELECT %s || 'é'", ("ü",)).fetchone() == ("üé",)
            database.close()
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
