"""The chain finds what was done behind the server's back, and misses nothing that commits late."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.store.session import Session
from fhir_server.store.trail import Event, append
from fhir_server.store.trail.chain import OPEN, Sealer, canonical
from tests.audit.conftest import Trail
from tests.plans import nodes

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
MOMENT = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - the zone comes with the strategy
ROW = st.tuples(st.integers(0, 2**62), MOMENT, st.none() | MOMENT, TEXT, st.integers(0, 12), st.none() | TEXT, st.lists(TEXT, max_size=3))


def written(trail: Trail, count: int = 5) -> None:
    with trail.store.database.connection() as connection:
        append(connection, [Event("sign-in", f"user {n}", detail="näher \N{SNOWMAN}", patients=("a", "b")) for n in range(count)])


def sealed(trail: Trail, count: int = 5) -> str:
    """The head after so many events more."""
    written(trail, count)
    trail.seal()
    found = trail.verify()
    assert found.fault is None
    assert found.unsealed == 0
    return found.head


def settled(trail: Trail, sealer: Sealer, number: int) -> None:
    """Seals until nothing up to an id can be outstanding. Transactions of other databases of the server, as other tests have them, hold that up."""
    deadline = time.monotonic() + 60
    while trail.sql("SELECT coalesce(max(settled), 0) >= %s FROM audit_chain", number) != [(True,)]:
        assert time.monotonic() < deadline
        written(trail, 1)
        sealer.seal()


@given(ROW, ROW)
def test_no_two_events_have_the_same_canonical_bytes(one: Any, other: Any) -> None:
    assert (canonical(one) == canonical(other)) == (one == other)
    assert canonical(one) == canonical(tuple(one))


def test_an_untouched_chain_holds(trail: Trail) -> None:
    assert trail.verify().entries == 0
    first = sealed(trail)
    second = sealed(trail, 7)
    found = trail.verify(first)
    assert (found.entries, found.head, found.contains, found.fault) == (12, second, True, None)


def test_what_is_not_sealed_yet_is_told(trail: Trail) -> None:
    sealed(trail)
    written(trail, 3)
    found = trail.verify()
    assert (found.entries, found.unsealed, found.fault) == (5, 3, None)


@pytest.mark.parametrize(
    ("forgery", "told"),
    [
        ("UPDATE audit_event SET actor = 'somebody else' WHERE id = 3", "event 3 (entry 3) was changed"),
        ("UPDATE audit_event SET outcome = 4 WHERE id = 3", "event 3 (entry 3) was changed"),
        ("UPDATE audit_event SET recorded = recorded - interval '1 ms' WHERE id = 3", "event 3 (entry 3) was changed"),
        ("UPDATE audit_event SET patients = '{a}' WHERE id = 3", "event 3 (entry 3) was changed"),
        ("UPDATE audit_event SET session = '' WHERE id = 3", "event 3 (entry 3) was changed"),
        ("DELETE FROM audit_event WHERE id = 3", "event 3 (entry 3) is missing"),
        ("DELETE FROM audit_chain WHERE seq = 3", "entry 3 of the chain is missing"),
        ("DELETE FROM audit_chain WHERE seq = 1", "entry 1 of the chain is missing"),
        ("UPDATE audit_chain SET hash = sha256('x') WHERE seq = 3", "event 3 (entry 3) was changed, or its entry"),
        ("UPDATE audit_chain SET event = event + 100 WHERE seq = 5", "event 105 (entry 5) is missing"),
        ("UPDATE audit_chain SET settled = settled + 1 WHERE seq = 3", "event 3 (entry 3) was changed, or its entry"),
    ],
)
def test_the_first_record_that_does_not_hold_is_named(trail: Trail, forgery: str, told: str) -> None:
    sealed(trail)
    trail.forge(forgery)
    fault = trail.verify().fault
    assert fault is not None
    assert told in fault


def test_an_event_that_was_slipped_in_is_found(trail: Trail) -> None:
    for _ in range(3):
        sealed(trail, 2)
    # An id that nobody has: that of a transaction that was rolled back.
    with Session.connect(trail.url) as connection:
        append(connection, [Event("sign-in", "nobody")])
        connection.rollback()
    sealer = Sealer(trail.store.database)
    settled(trail, sealer, 7)
    trail.forge(
        "INSERT INTO audit_event (id, recorded, kind, action, outcome, actor, roles, patients) OVERRIDING SYSTEM VALUE"
        " VALUES (7, now(), 'sign-in', 'E', 0, 'forged', '{}', '{}')"
    )
    sealer.seal()
    assert trail.verify().fault == "event 7 was added out of the chain"


def test_a_tail_that_was_cut_off_is_found_by_a_head_that_was_noted(trail: Trail) -> None:
    early = sealed(trail)
    late = sealed(trail)
    trail.forge("DELETE FROM audit_chain WHERE seq > 7", "DELETE FROM audit_event WHERE id > 7")
    assert trail.verify().fault is None
    assert trail.verify(early).contains
    assert not trail.verify(late).contains


def test_an_event_that_commits_late_is_sealed_all_the_same(trail: Trail) -> None:
    sealer = Sealer(trail.store.database)
    with Session.connect(trail.url) as late:
        append(late, [Event("sign-in", "late")])
        for _ in range(4):
            written(trail, 3)
            sealer.seal()
        # Nothing up to the late one's id counts as settled while it is on its way.
        assert trail.sql("SELECT max(settled) FROM audit_chain") == [(0,)]
        late.commit()
    for _ in range(3):
        written(trail, 1)
        sealer.seal()
    found = trail.verify()
    assert (found.entries, found.unsealed, found.fault) == (16, 0, None)
    settled(trail, sealer, 13)
    assert trail.sql("SELECT seq FROM audit_chain WHERE event = (SELECT id FROM audit_event WHERE actor = 'late')") == [(13,)]


def test_who_began_after_the_last_that_is_over_is_waited_for_too(trail: Trail) -> None:
    sealer = Sealer(trail.store.database)
    with Session.connect(trail.url) as early, Session.connect(trail.url) as late:
        early.execute("SELECT pg_current_xact_id()")
        append(late, [Event("read", "late")])
        append(early, [Event("read", "early")])
        early.commit()
        sealer.seal()
        written(trail, 1)
        sealer.seal()
        late.commit()
    trail.seal()
    found = trail.verify()
    assert (found.entries, found.unsealed, found.fault) == (3, 0, None)


def test_sealers_and_writers_at_once_leave_one_chain(trail: Trail) -> None:
    stop = threading.Event()

    def write(number: int) -> None:
        for n in range(30):
            with Session.connect(trail.url) as connection:
                append(connection, [Event("read", f"writer {number}")] * (n % 7 + 1))
                if n % 5 == 0:
                    connection.rollback()

    def seal() -> None:
        sealer = Sealer(trail.store.database)
        while not stop.is_set():
            sealer.seal()

    sealers = [threading.Thread(target=seal) for _ in range(3)]
    writers = [threading.Thread(target=write, args=(n,)) for n in range(3)]
    for thread in (*sealers, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    for thread in sealers:
        thread.join()
    trail.seal()
    found = trail.verify()
    assert found.fault is None
    assert found.unsealed == 0
    assert found.entries == trail.sql("SELECT count(*) FROM audit_event")[0][0] > 0


def test_a_backlog_is_settled_as_it_is_sealed(trail: Trail) -> None:
    written(trail, 1)
    sealer = Sealer(trail.store.database)
    sealer.seal()
    written(trail, 2_500)
    while sealer.seal():
        pass
    settled(trail, sealer, 2_500)
    assert trail.sql("SELECT count(DISTINCT settled) > 1 FROM audit_chain") == [(True,)]
    assert trail.verify().fault is None


def test_a_process_that_restarts_goes_on_with_the_chain(trail: Trail) -> None:
    sealed(trail)
    again = Sealer(trail.store.database)
    written(trail, 2)
    assert not again.seal()
    assert trail.verify().entries == 7


def test_times_are_part_of_the_bytes_to_the_microsecond() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    assert canonical((moment,)) != canonical((moment + timedelta(microseconds=1),))


def test_a_pass_reads_nothing_of_what_was_settled_long_ago(trail: Trail) -> None:
    with trail.store.database.connection() as connection:
        append(connection, [Event("sign-in", "user") for _ in range(20_000)])
    trail.seal()
    written(trail, 10)
    trail.sql("ANALYZE audit_event, audit_chain")
    with trail.store.database.connection() as connection:
        # As the statement is planned once it has come often.
        connection.execute("SET plan_cache_mode = force_generic_plan", prepare=False)
        connection.execute(f"PREPARE open (bigint, int) AS {OPEN % {'settled': '$1', 'most': '$2'}}", prepare=False)
        ((plan,),) = connection.execute("EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE open (19000, 1000)", prepare=False).fetchall()
        connection.execute("DEALLOCATE open; RESET plan_cache_mode", prepare=False)
    read = [node["Actual Rows"] * node["Actual Loops"] for node in nodes(plan[0]["Plan"]) if "Relation Name" in node]
    assert len(read) == 2
    assert max(read) < 2_500
