"""How messages leave: tried again, by another way, once, and never about a time that is not so any more."""

from __future__ import annotations

import smtplib
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_server.clinic.messages import Messages, rows
from fhir_server.clinic.messages.sending import ATTEMPTS, is_for_good
from fhir_server.outcome import Outcome
from fhir_server.sms import Refused
from tests.listening import Handler, http_server
from tests.plans import nodes
from tests.web.conftest import Outside

from .conftest import House, address_of

START = datetime(2031, 3, 6, 8, 20, tzinfo=UTC)
NUMBER = "+491709998877"


class Gateway:
    """An SMS gateway that answers as it is told."""

    def __init__(self) -> None:
        self.status, self.got = 500, 0
        self.keys: list[str | None] = []
        gateway = self

        class Takes(Handler):
            def take(self) -> None:
                self.sent()
                gateway.got += 1
                gateway.keys.append(self.headers["Idempotency-Key"])
                self.answer(gateway.status)

        self.handler, self.url = Takes, ""


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    made = Gateway()
    with http_server(made.handler) as address:
        made.url = f"{address}/send"
        yield made


@pytest.fixture
def other(house: House, tmp_path: Path, outside: Outside) -> Iterator[Callable[..., House]]:
    """The same clinic under other settings."""
    made: list[House] = []

    def make(**options: Any) -> House:
        made.append(House(house.url, tmp_path, outside, house.clock, **options))
        return made[-1]

    yield make
    for each in made:
        each.store.close()


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_a_mail_server_that_is_away_is_tried_again_later_and_at_last_given_up(house: House, other: Callable[..., House]) -> None:
    away = other(smtp_url=f"smtp://127.0.0.1:{closed_port()}")
    patient = away.patient()
    away.put(away.appointment(patient, START))
    away.hear()
    tries = 0
    while away.rows(patient)[0][2] == "planned":
        tries += 1
        away.messages.send()
        away.messages.send()
        assert next(row[0] for row in away.rows(patient, "attempts")) == tries
        away.clock.go(hours=1)
    assert tries == ATTEMPTS
    assert away.rows(patient)[0] == ("booked", "email", "dead", "failed")
    (told,) = away.found("Communication", patient)
    assert told["status"] == "not-done"
    with house.store.database.connection() as connection:
        (identity,) = [each.id for each in rows.page(connection, {"patient": patient, "state": "dead"}, None, 10)]
        dead = rows.get(connection, identity)
        assert dead is not None
        rows.replay(connection, dead, house.clock())
        with pytest.raises(Outcome, match="Only dead"):
            rows.replay(connection, rows.get(connection, identity) or dead, house.clock())
    house.messages.send()
    assert house.rows(patient)[0] == ("booked", "email", "sent", None)
    (told,) = house.found("Communication", patient)
    assert told["status"] == "completed"


def test_what_a_gateway_refuses_goes_by_the_other_way(house: House, other: Callable[..., House], gateway: Gateway) -> None:
    gateway.status = 422
    strict = other(sms_url=gateway.url)
    patient = strict.patient()
    strict.account(patient, sms=True, phone=NUMBER)
    strict.put(strict.appointment(patient, START))
    strict.work()
    found = strict.rows(patient)
    assert ("booked", "sms", "dead", "refused") in found
    # The mail was planned at first: it is not sent twice.
    assert [row for row in found if row[:2] == ("booked", "email")] == [("booked", "email", "sent", None)]
    assert gateway.got == 1


def test_who_is_called_and_cannot_be_reached_by_sms_gets_a_mail(house: House, other: Callable[..., House], gateway: Gateway) -> None:
    from fhir_server.clinic.messages import announce, called

    gateway.status = 400
    strict = other(sms_url=gateway.url)
    patient = strict.patient()
    login = strict.account(patient, sms=True, phone=NUMBER)
    encounter = {"resourceType": "Encounter", "id": f"e-{patient}", "status": "arrived", "class": {"code": "AMB"}}
    strict.put({**encounter, "subject": {"reference": f"Patient/{patient}"}})
    with strict.store.database.connection() as connection, connection.transaction():
        announce(connection, [called(f"e-{patient}", patient, "1", strict.clock(), room="Room 4")], strict.clock())
    strict.messages.send()
    assert [row[1:3] for row in strict.rows(patient)] == [("sms", "dead"), ("email", "sent")]
    assert len(strict.mails(login)) == 1


def test_a_server_without_mail_and_sms_plans_and_says_why_nothing_leaves(house: House, other: Callable[..., House]) -> None:
    mute = other(smtp_url=None, sms_url=None)
    patient = mute.patient()
    mute.put(mute.appointment(patient, START))
    mute.work()
    assert mute.rows(patient)[0] == ("booked", "email", "suppressed", "not-set-up")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (smtplib.SMTPRecipientsRefused({"a@b": (550, b"no")}), True),
        (smtplib.SMTPRecipientsRefused({"a@b": (451, b"later")}), False),
        (smtplib.SMTPDataError(554, b"no"), True),
        (smtplib.SMTPAuthenticationError(535, b"no"), False),
        (smtplib.SMTPSenderRefused(550, b"no", "a@b"), False),
        (TimeoutError(), False),
        (ValueError("the gateway answered 500"), False),
        (Refused("the gateway answered 422"), True),
    ],
)
def test_what_is_refused_for_good_is_told_from_what_passes(error: Exception, expected: bool) -> None:  # noqa: FBT001 - a case
    assert is_for_good(error) is expected


def test_several_at_once_send_each_message_once(house: House) -> None:
    patients = [house.patient() for _ in range(20)]
    for each in patients:
        house.put(house.appointment(each, START))
    house.hear()
    workers = [Messages(house.store, house.settings) for _ in range(3)]
    threads = [threading.Thread(target=each.send) for each in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(house.mails(address_of(each))) for each in patients] == [1] * 20
    assert [len(house.found("Communication", each)) for each in patients] == [1] * 20


def test_what_a_dead_worker_had_at_hand_is_sent_with_the_same_message_id(house: House) -> None:
    patient = house.patient()
    house.put(house.appointment(patient, START))
    house.work()
    with house.store.database.connection() as connection:
        # As a worker leaves it that was killed between the mail and the note of it.
        connection.execute("UPDATE message SET state = 'sending', ended = NULL WHERE patient = %s AND event = 'booked'", (patient,))
    house.messages.send()
    assert len(house.mails(address_of(patient))) == 1
    assert house.messages.is_due()
    house.messages.send()
    first, second = house.mails(address_of(patient))
    assert first["Message-ID"] == second["Message-ID"]


def test_whether_something_is_due_is_asked_without_reading_what_is_over(house: House) -> None:
    with house.store.database.connection() as connection, connection.transaction():
        connection.execute(
            "INSERT INTO message (event, focus, about, occurrence, channel, patient, state, due, created, ended, recorded)"
            " SELECT 'booked', 'Appointment/' || n, 'Appointment/' || n, '1', 'email', 'p' || n, 'sent', now(), now(), now(), 'sent'"
            " FROM generate_series(1, 5000) n"
        )
        connection.execute("ANALYZE message")
        ((plan,),) = connection.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {rows.IS_DUE}", (house.clock(),)).fetchall()
        connection.execute("DELETE FROM message WHERE patient ~ '^p[0-9]+$'")
    removed = [node.get("Rows Removed by Filter", 0) for node in nodes(plan[0]["Plan"])]
    assert len(removed) > 2
    assert max(removed) == 0


def test_what_others_have_at_hand_is_left_to_them(house: House) -> None:
    from fhir_server.store.database import exclusive

    patient = house.patient()
    house.put(house.appointment(patient, START))
    house.hear()
    (number,) = [identity for identity, event in house.rows(patient, "id, event") if event == "booked"]
    with house.store.database.connection() as connection, exclusive(connection, rows.LOCK, str(number)) as mine:
        assert mine
        house.messages.send()
        assert house.mails(address_of(patient)) == []
    house.messages.send()
    assert len(house.mails(address_of(patient))) == 1


MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("move"), st.integers(1, 72)),
        st.tuples(st.just("cancel"), st.just(0)),
        st.tuples(st.just("wait"), st.integers(1, 50)),
        st.tuples(st.just("hear"), st.just(0)),
        st.tuples(st.just("send"), st.just(0)),
    ),
    min_size=3,
    max_size=14,
)


@settings(max_examples=25)
@given(moves=MOVES)
def test_no_message_tells_of_a_time_that_is_not_so_when_it_leaves(shared: House, moves: list[tuple[str, int]]) -> None:
    house = shared
    house.clock.at = datetime(2031, 3, 3, 9, tzinfo=UTC)
    house.rule(reminders=[2880, 180], quiet_from=None, quiet_to=None)
    patient = house.patient()
    now = house.put(house.appointment(patient, START))
    seen = 0
    for move, by in [*moves, ("hear", 0), ("send", 0)]:
        start = datetime.fromisoformat(now["start"])
        if move == "move" and now["status"] == "booked":
            moved = house.clock() + timedelta(hours=by)
            now = house.put({**now, "start": moved.isoformat(), "end": (moved + timedelta(minutes=20)).isoformat()})
        elif move == "cancel" and now["status"] == "booked":
            now = house.put({**now, "status": "cancelled"})
        elif move == "wait":
            house.clock.go(hours=by)
        elif move == "hear":
            house.hear()
        elif move == "send":
            house.messages.send()
            said = f"{start.astimezone(house.settings.clinic_timezone):%H:%M}"
            fresh = house.subjects(patient)[seen:]
            seen += len(fresh)
            for subject in fresh:
                assert ("cancelled" in subject) == (now["status"] == "cancelled"), (subject, now)
                assert subject.endswith((said, f"{said} is cancelled")), (subject, now)
                assert start > house.clock() or "cancelled" in subject
    # One reminder of each offset and time, and none twice.
    kept = [tuple(row) for row in house.rows(patient, "event, occurrence, channel") if row[0] == "reminder"]
    assert len(kept) == len(set(kept))


def test_an_sms_whose_answer_was_lost_goes_again_under_the_same_key(other: Callable[..., House], gateway: Gateway) -> None:
    strict = other(sms_url=gateway.url)
    patient = strict.patient()
    strict.account(patient, sms=True, phone=NUMBER)
    strict.put(strict.appointment(patient, START))
    strict.work()
    strict.clock.go(minutes=5)
    gateway.status = 200
    strict.messages.send()
    assert ("booked", "sms", "sent", None) in strict.rows(patient)
    assert len(gateway.keys) == gateway.got == 2
    assert len(set(gateway.keys)) == 1
    assert gateway.keys[0]
