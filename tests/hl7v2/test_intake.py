"""Stored before answered, once however often it comes, and one answer for all who send the same."""

from __future__ import annotations

import re
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import psycopg
import pytest

from fhir_server.hl7v2.intake import intake as intake_module
from fhir_server.hl7v2.intake import stored
from fhir_server.hl7v2.intake.intake import Intake
from fhir_server.hl7v2.intake.stored import Change
from fhir_server.hl7v2.landing.landing import landing
from fhir_server.hl7v2.landing.processing import Look, Peer, Process, Result, Steps, Work
from fhir_server.hl7v2.mapping import Converter
from fhir_server.hl7v2.text.faults import Fault
from fhir_server.hl7v2.text.message import Message
from fhir_server.interactions import Engine
from fhir_server.outcome import Category, Issue, Outcome
from fhir_server.settings import Settings
from fhir_server.store import Store
from fhir_server.store.database import Connection
from fhir_server.store.trail import Event

from .conftest import Lab

MLLP = Peer("mllp", "a lab", "192.0.2.7")
ADMINISTRATOR = Event("message", "an administrator")
HTTP = Peer("http", "someone", "192.0.2.8", "request-1")


def oru(control: str, number: str, *, modes: str = "", event: str = "R01", name: str = "Doe^Jane") -> bytes:
    """`modes` are MSH-15 and MSH-16, as `AL|NE`."""
    lines = [
        f"MSH|^~\\&|LAB1|HOSP|CLINIC|C1|20260102101500||ORU^{event}^ORU_R01|{control}|P|2.5.1|||{modes}",
        f"PID|1||{number}^^^HOSP^MR||{name}||19800101|F",
        f"OBR|1||F{control}|GLU^Glucose^L|||20260102090000+0100|||||||||||||||20260102101500+0100|||F",
        "OBX|1|NM|2345-7^Glucose^LN||95|mg/dL^mg/dL^UCUM|70-110|N|||F",
    ]
    return "\r".join([*lines, ""]).encode()


def fresh() -> str:
    return uuid.uuid4().hex[:12].upper()


def take(intake: Intake, raw: bytes, peer: Peer = MLLP) -> list[bytes]:
    acks: list[bytes] = []
    intake.receive(raw, peer, acks.append)
    return acks


def codes(acks: list[bytes]) -> list[str]:
    return [found for ack in acks for found in re.findall(r"MSA\|(..)\|", ack.replace(b"\0", b"").decode("latin-1"))]


def patients(lab: Lab, number: str) -> int:
    return len(lab.ask(f"Patient?identifier=https://clinic-fhir.example.org/sid/authority/HOSP|{number}"))


def test_a_message_is_stored_as_it_came_with_all_that_came_of_it(lab: Lab) -> None:
    control, number = fresh(), fresh()
    raw = oru(control, number)
    assert codes(acks := take(lab.intake, raw)) == ["AA"]
    (row,) = lab.stored("control_id = %s", control)
    assert bytes(row["raw"]) == raw
    assert (row["application"], row["facility"], row["type"], row["event"], row["version"]) == ("LAB1", "HOSP", "ORU", "R01", "2.5.1")
    assert (row["transport"], row["peer"], row["address"]) == ("mllp", "a lab", "192.0.2.7")
    assert row["state"] in {"processed", "warning"}
    assert (row["code"], bytes(row["ack"]), row["attempts"], row["reused"]) == ("AA", acks[0], 1, False)
    assert f"Patient/{row['patient']}/_history/1" in row["written"]
    (event,) = lab.ask(f"AuditEvent?subtype=message&entity:identifier={row['id']}")
    assert event["outcome"] == "0"
    assert event["agent"][0]["name"] == "a lab"


def test_the_same_bytes_get_the_same_answer_and_change_nothing(lab: Lab) -> None:
    control, number = fresh(), fresh()
    first = take(lab.intake, oru(control, number))
    assert take(lab.intake, oru(control, number)) == first
    assert take(lab.intake, oru(control, number), HTTP) == first
    (row,) = lab.stored("control_id = %s", control)
    assert (row["attempts"], row["repeats"]) == (1, 2)
    assert lab.one(f"Patient?_id={row['patient']}")["meta"]["versionId"] == "1"


def test_the_same_control_id_with_other_bytes_is_another_message_and_is_marked(lab: Lab) -> None:
    control, number = fresh(), fresh()
    take(lab.intake, oru(control, number))
    assert codes(take(lab.intake, oru(control, number, name="Roe^Jane"))) == ["AA"]
    assert [row["reused"] for row in lab.stored("control_id = %s", control)] == [False, True]
    (row, _) = lab.stored("control_id = %s", control)
    assert lab.one(f"Patient?_id={row['patient']}")["name"][0]["family"] == "Roe"


def test_the_same_control_id_of_another_sender_is_no_matter(lab: Lab) -> None:
    control = fresh()
    take(lab.intake, oru(control, fresh()))
    take(lab.intake, oru(control, fresh()).replace(b"LAB1", b"LAB2"))
    assert [row["reused"] for row in lab.stored("control_id = %s", control)] == [False, False]


@pytest.mark.parametrize("modes", ["", "AL|AL"])
def test_one_message_on_eight_connections_at_once(lab: Lab, modes: str) -> None:
    control, number = fresh(), fresh()
    raw, barrier = oru(control, number, modes=modes), threading.Barrier(8)

    def send(_: int) -> list[bytes]:
        barrier.wait()
        return take(lab.intake, raw)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(send, range(8)))
    assert len({tuple(acks) for acks in answers}) == 1
    assert codes(answers[0]) == (["CA", "AA"] if modes else ["AA"])
    (row,) = lab.stored("control_id = %s", control)
    assert (row["attempts"], row["repeats"]) == (1, 7)
    assert patients(lab, number) == 1


def test_one_message_at_processes_that_do_not_know_of_each_other(lab: Lab, converter: Converter, tmp_path: Path) -> None:
    """Each has a store and an intake of its own; only the database is shared."""
    stores = [Store(str(lab.store._numbers._pool.conninfo), zone=ZoneInfo("Europe/Berlin"), connections=2) for _ in range(4)]
    settings = Settings(data=tmp_path, jwt_secret="x" * 32)
    intakes = [Intake(store, landing(Engine.build(store, settings), converter)) for store in stores]
    try:
        for _ in range(5):
            control, number = fresh(), fresh()
            raw, barrier = oru(control, number), threading.Barrier(4)

            def send(intake: Intake, raw: bytes = raw, barrier: threading.Barrier = barrier) -> list[bytes]:
                barrier.wait()
                return take(intake, raw)

            with ThreadPoolExecutor(4) as pool:
                answers = list(pool.map(send, intakes))
            assert len({tuple(acks) for acks in answers}) == 1
            (row,) = lab.stored("control_id = %s", control)
            assert bytes(row["ack"]) == answers[0][0]
            assert patients(lab, number) == 1
            assert lab.one(f"Patient?_id={row['patient']}")["meta"]["versionId"] == "1"
    finally:
        for store in stores:
            store.close()


@pytest.mark.parametrize(
    ("modes", "expected"),
    [
        ("AL|AL", ["CA", "AA"]),
        ("AL|NE", ["CA"]),
        ("AL|", ["CA"]),
        ("NE|AL", ["AA"]),
        ("|AL", ["AA"]),
        ("NE|NE", []),
        ("ER|ER", []),
        ("SU|SU", ["CA", "AA"]),
        ("ER|AL", ["AA"]),
    ],
)
def test_enhanced_mode_answers_what_is_wanted_and_when_it_is_repeated_the_same(lab: Lab, modes: str, expected: list[str]) -> None:
    control = fresh()
    raw = oru(control, fresh(), modes=modes)
    acks = take(lab.intake, raw)
    assert codes(acks) == expected
    assert len({ack.split(b"|")[9] for ack in acks}) == len(expected)
    assert take(lab.intake, raw) == acks
    (row,) = lab.stored("control_id = %s", control)
    assert row["state"] in {"processed", "warning"}
    # A request has an answer, whatever the message says.
    assert codes(take(lab.intake, raw, HTTP)) == ["AA"]


@pytest.mark.parametrize(("modes", "expected"), [("", "AR"), ("AL|AL", "CR"), ("ER|AL", "CR"), ("NE|AL", "AR"), ("SU|ER", "AR")])
def test_what_is_not_wanted_is_stored_and_refused(lab: Lab, modes: str, expected: str) -> None:
    control = fresh()
    raw = oru(control, fresh(), modes=modes, event="R99")
    acks = take(lab.intake, raw)
    assert codes(acks) == [expected]
    assert b"|201^" in acks[0]
    (row,) = lab.stored("control_id = %s", control)
    assert (row["state"], row["written"], row["patient"]) == ("rejected", [], None)
    assert take(lab.intake, raw) == acks


@pytest.mark.parametrize(
    ("change", "code"),
    [((b"ORU^R01", b"RDE^O11"), b"|200^"), ((b"|2.5.1|", b"|3.0|"), b"|203^"), ((b"|P|", b"|X|"), b"|202^"), ((b"ORU^R01^ORU_R01", b""), b"|200^")],
)
def test_type_version_and_processing_id_are_looked_at_first(lab: Lab, change: tuple[bytes, bytes], code: bytes) -> None:
    (ack,) = take(lab.intake, oru(fresh(), fresh()).replace(*change))
    assert codes([ack]) == ["AR"]
    assert code in ack


@pytest.mark.parametrize("raw", [b"", b"\r\n", b"hello", b"\xff\xfe\x00", b"MSH", b"MSH|", b"PID|1||7\r", b"\x00" * 500, bytes(range(256)) * 9])
def test_what_is_no_message_is_stored_and_refused(lab: Lab, raw: bytes) -> None:
    assert codes(take(lab.intake, raw)) == ["AR"]
    (row,) = lab.stored("raw = %s", raw)
    assert (row["state"], row["code"]) == ("unreadable", "AR")


def test_an_acknowledgement_is_stored_and_not_acknowledged(lab: Lab) -> None:
    raw = f"MSH|^~\\&|A|B|C|D|20260101||ACK|{fresh()}|P|2.5\rMSA|AA|1\r".encode()
    assert take(lab.intake, raw) == []
    assert [row["state"] for row in lab.stored("raw = %s", raw)] == ["rejected"]


def test_a_batch_is_answered_by_a_batch_and_each_message_stands_for_itself(lab: Lab) -> None:
    first, second, third = (oru(fresh(), fresh()) for _ in range(3))
    raw = b"FHS|^~\\&\rBHS|^~\\&|X|Y\r" + first + second.replace(b"PID|1||", b"PID|1||||||\r#") + third + b"BTS|3\rFTS|1\r"
    (answer,) = take(lab.intake, raw)
    assert codes([answer]) == ["AA", "AE", "AA"]
    assert answer.startswith(b"FHS|")
    again = take(lab.intake, raw)
    assert codes(again) == ["AA", "AE", "AA"]


def test_what_is_wrong_with_a_batch_is_kept_beside_its_messages(lab: Lab) -> None:
    mark = fresh()
    raw = f"BHS|^~\\&|{mark}\r".encode() + oru(fresh(), fresh()) + b"BTS|7\r"
    (answer,) = take(lab.intake, raw)
    assert codes([answer]) == ["AA"]
    (row,) = lab.stored("raw LIKE %s", f"%{mark}%".encode())
    assert (row["state"], bytes(row["raw"])) == ("warning", f"BHS|^~\\&|{mark}\rBTS|7\r".encode())
    assert row["faults"][0]["segment"] == "BTS"


def test_two_messages_in_one_block_are_two(lab: Lab) -> None:
    first, second = fresh(), fresh()
    acks = take(lab.intake, oru(first, fresh()) + oru(second, fresh()))
    assert codes(acks) == ["AA", "AA"]
    assert [f"|{control}\r".encode() in ack for control, ack in zip((first, second), acks, strict=True)] == [True, True]


def failing(error: BaseException, times: int, then: Process) -> Process:
    left = [times]

    def process(message: Message, work: Work) -> Steps:
        if left[0] > 0:
            left[0] -= 1
            raise error
        return (yield from then(message, work))

    return process


@pytest.mark.parametrize("error", [RuntimeError("Jane Doe"), Outcome("unavailable", "away"), Outcome("conflict", "busy", code="transient")])
@pytest.mark.parametrize("modes", ["", "AL|AL"])
def test_a_fault_of_ours_is_told_as_passing_and_the_same_message_goes_well_later(lab: Lab, error: Exception, modes: str) -> None:
    control, number = fresh(), fresh()
    intake = Intake(lab.store, failing(error, 1, lab.process))
    raw = oru(control, number, modes=modes)
    acks = take(intake, raw)
    assert codes(acks) == (["CA", "AE"] if modes else ["AE"])
    assert re.search(rb"\|20[67]\^", acks[-1])
    assert b"Jane" not in acks[-1]
    assert [row["state"] for row in lab.stored("control_id = %s", control)] == ["failed"]
    later = take(intake, raw)
    assert codes(later)[-1] == "AA"
    assert later[:-1] == acks[:-1]
    (row,) = lab.stored("control_id = %s", control)
    assert (row["attempts"], row["code"]) == (2, "AA")
    assert patients(lab, number) == 1


@pytest.mark.parametrize(
    ("category", "state"), [("invalid", "invalid"), ("not-found", "unmatched"), ("conflict", "invalid"), ("business-rule", "invalid")]
)
def test_what_the_store_refuses_is_told_without_what_it_says(lab: Lab, category: Category, state: str) -> None:
    control = fresh()
    intake = Intake(lab.store, failing(Outcome(category, "Jane Doe's value", expression="Patient.birthDate"), 1, lab.process))
    raw = oru(control, fresh())
    (ack,) = take(intake, raw)
    assert codes([ack]) == ["AE"]
    assert b"Jane" not in ack
    assert b"Patient.birthDate" in ack
    assert [row["state"] for row in lab.stored("control_id = %s", control)] == [state]
    # It is refused for what it is, and so again.
    assert take(intake, raw) == [ack]


@pytest.mark.parametrize("outcome", [Outcome("precondition", "Changed since"), Outcome("conflict", issues=[Issue("error", "transient", "Locked")])])
def test_whoever_others_were_faster_than_each_time_is_told_to_send_again(lab: Lab, outcome: Outcome) -> None:
    control = fresh()
    intake = Intake(lab.store, failing(outcome, 1, lab.process))
    raw = oru(control, fresh())
    (ack,) = take(intake, raw)
    assert (codes([ack]), b"206^Application record locked" in ack) == (["AE"], True)
    assert [row["state"] for row in lab.stored("control_id = %s", control)] == ["failed"]
    assert codes(take(intake, raw)) == ["AA"]


def test_what_fails_at_the_commit_leaves_neither_resources_nor_an_answer_of_success(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    control, number = fresh(), fresh()
    keep, broken = stored.keep, [ConnectionError()]

    def fail(connection: Connection, settled: Sequence[stored.Settlement]) -> set[str]:
        kept = keep(connection, settled)
        if broken:
            raise broken.pop()
        return kept

    monkeypatch.setattr(stored, "keep", fail)
    assert codes(take(lab.intake, oru(control, number))) == ["AE"]
    (row,) = lab.stored("control_id = %s", control)
    assert (row["state"], row["written"]) == ("failed", [])
    assert lab.ask(f"Patient?identifier={number}") == []


def test_what_an_administrator_corrects_is_processed_anew_and_is_the_answer_from_then_on(lab: Lab) -> None:
    control, number = fresh(), fresh()
    wrong = oru(control, number).replace(f"{number}^^^HOSP^MR".encode(), b"")
    (refused,) = take(lab.intake, wrong)
    assert codes([refused]) == ["AE"]
    (row,) = lab.stored("control_id = %s", control)
    assert row["state"] == "unmatched"
    result = lab.intake.replay(row["id"], ADMINISTRATOR, Change(oru(control, number)))
    assert result.code == "AA"
    (row,) = lab.stored("control_id = %s", control)
    assert (bytes(row["raw"]), bytes(row["corrected"]), row["attempts"]) == (wrong, oru(control, number), 2)
    assert row["replayed"] is not None
    assert patients(lab, number) == 1
    assert codes(take(lab.intake, wrong)) == ["AA"]
    assert lab.intake.replay(row["id"], ADMINISTRATOR).code == "AA"
    assert patients(lab, number) == 1
    with pytest.raises(Outcome) as raised:
        lab.intake.replay("none", ADMINISTRATOR)
    assert raised.value.category == "not-found"


def test_a_correction_that_cannot_be_read_is_refused_and_kept(lab: Lab) -> None:
    control = fresh()
    take(lab.intake, oru(control, ""))
    (row,) = lab.stored("control_id = %s", control)
    assert lab.intake.replay(row["id"], ADMINISTRATOR, Change(b"nonsense")).state == "unreadable"


def test_of_two_administrators_one_replays(lab: Lab) -> None:
    control, number = fresh(), fresh()
    take(lab.intake, oru(control, ""))
    (row,) = lab.stored("control_id = %s", control)
    others = Intake(lab.store, lab.process)

    def process(message: Message, work: Work) -> Steps:
        others.replay(row["id"], ADMINISTRATOR, Change(oru(control, number)))
        return (yield from lab.process(message, work))

    with pytest.raises(Outcome) as raised:
        Intake(lab.store, process).replay(row["id"], ADMINISTRATOR, Change(oru(control, number, name="Roe^Jane")))
    assert raised.value.category == "conflict"
    assert lab.one(f"Patient?identifier=https://clinic-fhir.example.org/sid/authority/HOSP|{number}")["name"][0]["family"] == "Doe"


def test_what_was_accepted_before_a_crash_is_processed_after_it(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    control, number = fresh(), fresh()

    class Killed(BaseException):
        pass

    process = failing(Killed(), 1, lab.process)
    acks: list[bytes] = []
    with pytest.raises(Killed):
        Intake(lab.store, process).receive(oru(control, number, modes="AL|NE"), MLLP, acks.append)
    assert codes(acks) == ["CA"]
    assert [row["state"] for row in lab.stored("control_id = %s", control)] == ["received"]
    lab.intake.finish()
    # It may still be in somebody's hands.
    assert [row["state"] for row in lab.stored("control_id = %s", control)] == ["received"]
    monkeypatch.setattr(intake_module, "_PATIENCE", timedelta(0))
    assert lab.intake.finish() >= 1
    (row,) = lab.stored("control_id = %s", control)
    assert (row["code"], bytes(row["accept"])) == ("AA", acks[0])
    assert patients(lab, number) == 1
    assert lab.intake.finish() == 0


def test_where_nothing_can_be_stored_nothing_is_said_to_be(fresh_database: Callable[[], str], converter: Converter, tmp_path: Path) -> None:
    url = fresh_database()
    store = Store(url, zone=ZoneInfo("UTC"), connections=2)
    try:
        intake = Intake(store, landing(Engine.build(store, Settings(data=tmp_path, jwt_secret="x" * 32)), converter))
        raw = oru(fresh(), fresh())
        assert codes(take(intake, oru(fresh(), fresh()))) == ["AA"]
        name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
        with psycopg.connect(url, dbname="postgres", autocommit=True) as connection:
            connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
            acks: list[bytes] = []
            with pytest.raises(Outcome) as raised:
                intake.receive(raw, MLLP, acks.append)
            assert (raised.value.category, acks) == ("unavailable", [])
            connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        assert codes([intake.away(raw)]) == ["AR"]
    finally:
        store.close()


def test_a_large_message_goes_in_within_a_second_or_two(lab: Lab) -> None:
    note = b"ZPD|1||" + b"A" * 5_000_000 + b"\r"
    start = time.monotonic()
    assert codes(take(lab.intake, oru(fresh(), fresh()) + note)) == ["AA"]
    assert time.monotonic() - start < 5


def test_texts_that_postgresql_does_not_take_are_stored(lab: Lab) -> None:
    control = fresh()
    raw = oru(control, fresh()).replace(b"LAB1", b"A\x00D").replace(b"OBX|1", b"Z\x00\xff|")
    assert codes(take(lab.intake, raw)) != []
    (row,) = lab.stored("control_id = %s", control)
    assert bytes(row["raw"]) == raw


def test_faults_with_a_nul_are_stored(lab: Lab) -> None:
    control = fresh()
    result = Result("AE", "invalid", (Fault("102", "a\0b"),), ("Z\0",))

    def process(_message: Message, _work: Work) -> Steps:
        yield Look()
        return result

    take(Intake(lab.store, process), oru(control, fresh()))
    (row,) = lab.stored("control_id = %s", control)
    assert row["faults"][0]["text"] == "a\N{REPLACEMENT CHARACTER}b"


def test_of_a_batch_that_is_too_large_the_rest_is_refused_and_stored(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake_module, "_MOST", 3)
    controls = [fresh() for _ in range(5)]
    messages = [oru(each, fresh()) for each in controls]
    raw = b"BHS|^~\\&|LAB1|HOSP\r" + b"".join(messages) + b"BTS|5\r"
    (answer,) = take(lab.intake, raw)
    assert codes([answer]) == ["AA", "AA", "AA", "AR"]
    assert f"MSA|AR|{controls[3]}\r".encode() in answer
    assert b"the 1 after it" in answer
    (row,) = lab.stored("control_id = %s", controls[3])
    assert (row["state"], bytes(row["raw"])) == ("rejected", b"".join(messages[3:]))
    assert take(lab.intake, raw)[0].count(b"MSA|AR|") == 1
    assert codes(take(lab.intake, b"".join(messages))) == ["AA", "AA", "AA", "AR"], "without an envelope too"
    assert codes(take(lab.intake, b"".join(messages[3:]))) == ["AA", "AA"], "sent again by themselves they are taken"


def test_notices_are_kept_and_not_told(lab: Lab) -> None:
    control = fresh()
    (ack,) = take(lab.intake, oru(control, fresh()).replace(b"OBX|1|", b"OBX|x|"))
    assert b"ERR" not in ack
    (row,) = lab.stored("control_id = %s", control)
    assert (row["state"], [fault["severity"] for fault in row["faults"]]) == ("processed", ["I"])


@pytest.mark.parametrize(("codec", "state", "severity"), [("utf-8", "processed", "I"), ("iso8859_1", "warning", "W")])
def test_what_is_said_to_be_ascii_and_is_not_is_taken_and_noted(lab: Lab, codec: str, state: str, severity: str) -> None:
    control, number = fresh(), fresh()
    raw = oru(control, number, modes="|||ASCII", name="Müller^Jörg").decode().encode(codec)
    (ack,) = take(lab.intake, raw)
    assert codes([ack]) == ["AA"]
    assert (b"ERR||MSH^1^18|102" in ack) == (severity == "W"), "what is hardly a guess is not told"
    (row,) = lab.stored("control_id = %s", control)
    assert (row["state"], [(fault["field"], fault["severity"]) for fault in row["faults"]]) == (state, [(18, severity)])
    assert lab.one(f"Patient?identifier={number}")["name"][0]["family"] == "Müller"


def test_a_message_without_control_id_is_taken_and_told_by_its_bytes_alone(lab: Lab) -> None:
    """Nothing is lost by it, and its sender is told what it lacks."""
    number = fresh()
    first, second = oru("", number), oru("", number, name="Roe^Jane")
    (ack,) = take(lab.intake, first)
    assert ack.count(b"MSA|AA|\r") == 1
    assert b"ERR||MSH^1^10|101" in ack
    assert take(lab.intake, first) == [ack], "the same bytes are the same message"
    assert codes(take(lab.intake, second)) == ["AA"], "others are another one"
    assert lab.one(f"Patient?identifier={number}")["name"][0]["family"] == "Roe"
    (_, row) = lab.stored("control_id = '' AND raw IN (%s, %s)", first, second)
    assert (row["state"], row["reused"]) == ("warning", False)
