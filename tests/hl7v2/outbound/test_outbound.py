from __future__ import annotations

import datetime as dt
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fhir_server.hl7v2.origin import origin
from fhir_server.hl7v2.outbound import CONSUMER, Outbound, deliveries, peers
from fhir_server.hl7v2.outbound.outbound import DOUBTFUL, REFUSED, UNANSWERED
from fhir_server.hl7v2.text.message import Message
from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM
from fhir_server.store.database import scalar
from tests.hl7v2.outbound.conftest import House, Listener, accept, ack
from tests.hl7v2.outbound.world import APPOINTMENT, ORDER, PATIENT, REPORT, Json

Listen = Callable[..., Listener]


def test_each_change_of_an_appointment_is_told_as_what_it_is(house: House, listen: Listen) -> None:
    listener = listen()
    house.peer(listener.port)
    moved = {"start": "2026-03-02T09:00:00Z", "end": "2026-03-02T09:20:00Z"}
    for step in (
        {"status": "proposed"},
        {"status": "booked"},
        {"status": "booked", **moved},
        {"status": "booked", **moved, "comment": "Other room"},
        {"status": "booked", **moved, "comment": "Other room"},
        {"status": "noshow", **moved, "comment": "Other room"},
    ):
        house.put({**APPOINTMENT, "id": "steps", **step})
    house.put({**APPOINTMENT, "id": "other"})
    house.put({**APPOINTMENT, "id": "other", "status": "cancelled"})
    house.work()
    assert [message.header.event for message in listener.got] == ["S12", "S13", "S14", "S26", "S12", "S15"]
    house.put({**APPOINTMENT, "id": "gone"})
    house.delete("Appointment", "gone")
    hold = {"url": "https://clinic-fhir.example.org/StructureDefinition/hold-expires", "valueDateTime": "2026-03-01T10:00:00Z"}
    house.put({**APPOINTMENT, "id": "held", "status": "pending", "extension": [hold]})
    house.work()
    assert [message.header.event for message in listener.got[6:]] == ["S12", "S17"]
    assert {state for _, state, _ in house.rows()} == {"delivered"}


def test_patients_orders_and_results_are_told_when_others_have_to_know(house: House, listen: Listen) -> None:
    listener = listen()
    house.peer(listener.port)
    house.put({**PATIENT, "id": "new"})
    house.put({**PATIENT, "id": "new", "gender": "other"})
    house.put({**PATIENT, "id": "new", "gender": "other", "active": False, "link": [{"type": "replaced-by", "other": {"reference": "Patient/p1"}}]})
    house.put({**ORDER, "id": "o", "status": "draft"})
    house.put({**ORDER, "id": "o"})
    house.put({**ORDER, "id": "o", "status": "revoked"})
    house.put({**ORDER, "id": "x-ray", "category": [{"coding": [{"code": "363679005"}]}]})
    house.put({**REPORT, "id": "r", "status": "preliminary"})
    house.put({**REPORT, "id": "r"})
    house.put({**REPORT, "id": "r", "status": "corrected"})
    house.put({**REPORT, "id": "r", "status": "entered-in-error"})
    house.work()
    assert listener.events() == ["ADT^A28", "ADT^A31", "ADT^A40", "OML^O21", "OML^O21", "ORU^R01", "ORU^R01", "ORU^R01"]


def test_a_peer_is_told_what_it_wants_and_nothing_that_came_from_it(house: House, listen: Listen) -> None:
    booking, laboratory = listen(), listen()
    house.peer(booking.port, "S12")
    house.peer(laboratory.port, "A28", "A31", application="ANALYSER", facility="LAB")
    house.put({**APPOINTMENT, "id": "one"})
    house.put({**APPOINTMENT, "id": "one", "status": "cancelled"})
    house.put({**PATIENT, "id": "from-there"}, replace(SYSTEM, client=origin("ANALYSER", "LAB")))
    house.put({**PATIENT, "id": "from-here"})
    house.work()
    assert booking.events() == ["SIU^S12"]
    assert [message.segments[2].get(3) for message in laboratory.got] == ["12345"]
    assert len(laboratory.got) == 1


def test_without_a_peer_that_wants_it_a_change_leaves_nothing(house: House) -> None:
    peer = house.peer(1, "S12")
    house.put({**PATIENT, "id": "new"})
    with house.store.database.connection() as connection, connection.transaction():
        peers.disable(connection, peer.id, "tests", house.store.clock())
    house.put({**APPOINTMENT, "id": "new"})
    with house.store.database.connection() as connection:
        assert scalar(connection, "SELECT count(*) FROM outbox WHERE consumer = %s", CONSUMER) == 0
        assert scalar(connection, "SELECT count(*) FROM outbox_listener WHERE consumer = %s", CONSUMER) == 0
        assert scalar(connection, "SELECT count(*) FROM audit_event WHERE type = 'hl7v2-peer'") == 2


def test_messages_arrive_in_the_order_of_the_changes_one_at_a_time(house: House, listen: Listen) -> None:
    listener = listen()
    peer = house.peer(listener.port, "A28", "A31")
    for number in range(30):
        house.put({**PATIENT, "id": "many", "telecom": [{"system": "phone", "value": str(number)}]})
    house.hear()
    threads = [threading.Thread(target=house.outbound.deliver, args=(peer.id,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    phones = [segment.get(13) for message in listener.got for segment in message.segments if segment.name == "PID"]
    assert phones == [str(number) for number in range(30)]
    assert listener.most_open == 1


@pytest.mark.parametrize("code", ["AE", "AR", "CE", "CR", "XX"])
def test_what_a_peer_refuses_is_dead_and_holds_nothing_up(house: House, listen: Listen, code: str) -> None:
    def answering(message: Message, _: int) -> bytes:
        refused = message.header.event == "S12"
        return ack(message, code, more="ERR||PID^1^3|204^Unknown key^HL70357|E||||no such patient\r") if refused else ack(message)

    listener = listen(answering)
    house.peer(listener.port)
    house.put({**APPOINTMENT, "id": "one"})
    house.put({**APPOINTMENT, "id": "one", "status": "cancelled"})
    house.work()
    (first, second) = house.rows("event, state, fault, answer, attempts")
    assert first[:2] == ("SIU^S12", "dead")
    assert first[2].startswith(f"{code}: ")
    assert "no such patient" in first[2]
    assert b"ERR||PID^1^3|" in first[3]
    assert second[:3] == ("SIU^S15", "delivered", None)
    assert first[4] == second[4] == 1


@pytest.mark.parametrize("fault", ["ERR||MSH|207^Application error^HL70357|E\r", "ERR|PID^1^3^206&Locked&HL70357\r"])
@pytest.mark.parametrize(("most", "states"), [(2, ["delivered", "delivered"]), (REFUSED, ["dead", "delivered"])])
def test_what_a_peer_refuses_for_a_fault_of_its_own_is_sent_again_and_in_its_order(
    house: House,
    listen: Listen,
    fault: str,
    most: int,
    states: list[str],
) -> None:
    def answering(message: Message, times: int) -> bytes:
        return ack(message, "AE", more=fault) if message.header.event == "S12" and times <= most else ack(message)

    listener = listen(answering)
    house.peer(listener.port)
    house.put({**APPOINTMENT, "id": "one"})
    house.put({**APPOINTMENT, "id": "one", "status": "cancelled"})
    for _ in range(REFUSED + 1):
        house.work()
        house.run("UPDATE hl7v2_peer SET due = NULL")
    assert [state for _, state, _ in house.rows()] == states
    assert listener.events() == ["SIU^S12"] * min(most + 1, REFUSED) + ["SIU^S15"]
    assert len(set(listener.ids())) == 2, "each goes out under its own control id, however often"


def test_a_message_that_was_refused_is_replayed_anew_under_another_control_id(house: House, listen: Listen) -> None:
    listener = listen(lambda message, _: ack(message, "AE"))
    house.peer(listener.port)
    house.put({**APPOINTMENT, "id": "one"})
    house.work()
    listener.answering = accept
    with house.store.database.connection() as connection, connection.transaction():
        (row,) = deliveries.page(connection, {"state": "dead"}, None, 10)
        found = house.outbound.replay(connection, row)
        assert found.state == "waiting"
    house.work()
    assert [state for _, state, _ in house.rows()] == ["delivered"]
    assert len(set(listener.ids())) == 2
    with house.store.database.connection() as connection, connection.transaction():
        (row,) = deliveries.page(connection, {}, None, 10)
        with pytest.raises(Outcome, match="Only dead messages"):
            house.outbound.replay(connection, row)


def test_a_message_without_an_answer_is_sent_again_with_the_same_control_id_and_before_all_others(house: House, listen: Listen) -> None:
    listener = listen(lambda message, times: None if times < 3 else ack(message))
    house.peer(listener.port)
    house.put({**APPOINTMENT, "id": "one"})
    house.put({**APPOINTMENT, "id": "one", "status": "cancelled"})
    house.work()
    assert [state for _, state, _ in house.rows()] == ["waiting", "waiting"]
    assert house.outbound.due() == []
    for _ in range(4):
        house.run("UPDATE hl7v2_peer SET due = NULL")
        house.work()
    first, second = listener.ids()[0], listener.ids()[-1]
    assert listener.ids() == [first] * 3 + [second] * 3
    assert first != second
    assert {raw for raw, control in zip(listener.raw, listener.ids(), strict=True) if control == first} == {listener.raw[0]}
    assert house.rows("state, attempts, unanswered") == [("delivered", 3, 2), ("delivered", 3, 2)]


def test_a_message_that_is_never_answered_dies_at_last_and_a_peer_that_is_away_costs_none(house: House, listen: Listen) -> None:
    listener = listen(lambda message, _: None if message.header.event == "S12" else ack(message))
    house.peer(listener.port)
    away = house.peer(1, name="Away")
    house.put({**APPOINTMENT, "id": "one"})
    house.put({**APPOINTMENT, "id": "one", "status": "cancelled"})
    waits = []
    for _ in range(UNANSWERED + 5):
        house.run("UPDATE hl7v2_peer SET due = NULL")
        house.hear()
        waits.append(house.outbound.deliver(away.id))
        house.work()
    mine = [row[1:] for row in house.rows("peer, event, state, attempts") if row[0] != away.id]
    theirs = [row[1:] for row in house.rows("peer, event, state, attempts") if row[0] == away.id]
    assert mine == [("SIU^S12", "dead", UNANSWERED), ("SIU^S15", "delivered", 1)]
    assert theirs == [("SIU^S12", "waiting", 0), ("SIU^S15", "waiting", 0)]
    assert waits[0] is not None
    assert 1 <= waits[0] <= 2
    assert max(wait for wait in waits if wait is not None) <= 300


def test_a_slow_peer_holds_no_other_up(house: House, listen: Listen) -> None:
    slow, quick = listen(lambda *_: 2.0), listen()
    peer = house.peer(slow.port, "A28", "A31", name="Slow")
    other = house.peer(quick.port, "A28", "A31", name="Quick")
    house.put({**PATIENT, "id": "new"})
    house.hear()
    waiting = threading.Thread(target=house.outbound.deliver, args=(peer.id,))
    waiting.start()
    time.sleep(0.2)
    started = time.monotonic()
    house.outbound.deliver(other.id)
    assert time.monotonic() - started < 1
    assert len(quick.got) == 1
    waiting.join()
    assert sorted(state for _, state, _ in house.rows()) == ["delivered", "delivered"]


def test_of_an_answer_to_another_message_it_is_said_that_it_came(house: House, listen: Listen) -> None:
    listener = listen(lambda message, _: ack(message, control_id="ANOTHER"))
    house.peer(listener.port, seconds=1)
    house.put({**APPOINTMENT, "id": "one"})
    house.work()
    assert house.rows("state, fault") == [("waiting", "no answer within 1 s; what came, 1 in number, has another MSA-2 or none")]


def test_an_answer_to_another_message_is_none(house: House, listen: Listen) -> None:
    def answering(message: Message, _: int) -> bytes:
        return b"noise" + ack(message, control_id="ANOTHER") + b"\x0bno message\x1c\r" + ack(message)

    listener = listen(answering)
    house.peer(listener.port)
    house.put({**APPOINTMENT, "id": "one"})
    house.work()
    assert [state for _, state, _ in house.rows()] == ["delivered"]


@pytest.mark.parametrize("answer", [b"\x0b" + b"x" * 300_000, b"", b"MSH|^~\\&\rMSA|AA|1\r", b"\x0b\x1c\r"])
def test_an_answer_that_is_none_is_waited_for_no_longer_than_its_time(house: House, listen: Listen, answer: bytes) -> None:
    listener = listen(lambda *_: answer)
    house.peer(listener.port, seconds=1)
    house.put({**APPOINTMENT, "id": "one"})
    started = time.monotonic()
    house.work()
    assert time.monotonic() - started < 3
    assert [state for _, state, _ in house.rows()] == ["waiting"]


def test_who_is_to_end_waits_for_an_answer_for_seconds_only(house: House, listen: Listen) -> None:
    listener = listen(lambda *_: 20.0)
    peer = house.peer(listener.port, seconds=20)
    house.put({**APPOINTMENT, "id": "one"})
    house.hear()
    thread = threading.Thread(target=house.outbound.deliver, args=(peer.id,))
    thread.start()
    while not listener.got:
        time.sleep(0.02)
    started = time.monotonic()
    house.leaving.set()
    thread.join()
    assert time.monotonic() - started < 4
    assert house.rows("state, unanswered") == [("waiting", 0)]


def test_peers_that_hang_leave_threads_to_those_that_answer(house: House, listen: Listen) -> None:
    hanging, well = listen(lambda *_: 20.0), listen()
    stuck = [house.peer(hanging.port, name=f"Stuck {number}", seconds=20) for number in range(DOUBTFUL + 1)]
    answers = house.peer(well.port, name="Well")
    house.put({**APPOINTMENT, "id": "one"})
    house.hear()
    with house.store.database.connection() as connection:
        connection.execute("UPDATE hl7v2_peer SET failures = 1 WHERE name LIKE 'Stuck%'")
    threads = [threading.Thread(target=house.outbound.deliver, args=(peer.id,)) for peer in stuck[:DOUBTFUL]]
    for thread in threads:
        thread.start()
    while len(hanging.got) < DOUBTFUL:
        time.sleep(0.02)
    assert house.outbound.deliver(stuck[DOUBTFUL].id) == 5, "one more of them is not tried before another has been given up"
    assert house.outbound.deliver(answers.id) is None
    assert (len(hanging.got), well.events()) == (DOUBTFUL, ["SIU^S12"])
    house.leaving.set()
    for thread in threads:
        thread.join()


def test_a_change_that_no_message_can_be_made_of_is_dead_until_it_can(house: House, listen: Listen) -> None:
    listener = listen()
    house.peer(listener.port)
    house.put({**REPORT, "id": "lost", "subject": {"reference": "Patient/later"}})
    house.put({**APPOINTMENT, "id": "one"})
    house.work()
    assert house.rows()[0][:2] == ("R01", "dead")
    assert listener.events() == ["SIU^S12"]
    with house.store.database.connection() as connection, connection.transaction():
        (row,) = deliveries.page(connection, {"state": "dead"}, None, 10)
        with pytest.raises(Outcome, match="still cannot be made"):
            house.outbound.replay(connection, row)
    house.put({**PATIENT, "id": "later"})
    with house.store.database.connection() as connection, connection.transaction():
        house.outbound.replay(connection, row)
    house.work()
    assert "ORU^R01" in listener.events()


def test_the_audit_trail_tells_what_left_about_whom_and_where_to(house: House, listen: Listen) -> None:
    peer = house.peer(listen().port)
    house.put({**APPOINTMENT, "id": "one"})
    house.work()
    with house.store.database.connection() as connection:
        found = connection.execute("SELECT type, resource, version, patients, detail FROM audit_event WHERE kind = 'export'").fetchall()
    assert [row[:4] for row in found] == [("Appointment", "one", 1, ["p1"])]
    assert peer.id in found[0][4]


def test_what_was_delivered_long_ago_is_taken_out_and_what_is_dead_stays(house: House, listen: Listen) -> None:
    listener = listen(lambda message, _: ack(message, "AE" if message.header.event == "S15" else "AA"))
    house.peer(listener.port)
    house.put({**APPOINTMENT, "id": "one"})
    house.put({**APPOINTMENT, "id": "one", "status": "cancelled"})
    house.work()
    house.outbound.forget()
    assert len(house.rows()) == 2
    house.run("UPDATE hl7v2_delivery SET ended = ended - interval '31 days'")
    house.outbound.forget()
    assert [state for _, state, _ in house.rows()] == ["dead"]


def certificate(name: str, folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    today = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - dt.timedelta(days=1))
        .not_valid_after(today + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / f"{name}.key").write_bytes(private)
    (folder / f"{name}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return folder / f"{name}.pem"


def test_a_peer_behind_tls_has_to_have_the_certificate_that_is_trusted_and_sees_ours(house: House, listen: Listen, tmp_path: Path) -> None:
    theirs, ours = certificate("localhost", tmp_path), certificate("clinic", tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(theirs, theirs.with_suffix(".key"))
    context.load_verify_locations(ours)
    context.verify_mode = ssl.CERT_REQUIRED
    listener = listen(context=context)
    trusted: dict[str, Any] = {"host": "localhost", "tls": True, "ca": theirs.read_text()}
    peer = house.peer(listener.port, **trusted)
    house.put({**APPOINTMENT, "id": "one"})
    settings = replace(house.settings, mllp_tls_cert=ours, mllp_tls_key=ours.with_suffix(".key"))
    house.hear()
    Outbound(house.store, settings, house.leaving).deliver(peer.id)
    assert listener.events() == ["SIU^S12"]
    stranger = house.peer(listener.port, host="localhost", tls=True, ca=ours.read_text(), name="Stranger")
    house.put({**APPOINTMENT, "id": "one", "comment": "Changed"})
    house.hear()
    Outbound(house.store, settings, house.leaving).deliver(stranger.id)
    with house.store.database.connection() as connection:
        fault = scalar(connection, "SELECT fault FROM hl7v2_peer WHERE id = %s", stranger.id)
    assert fault.startswith("no TLS (")
    assert len(listener.got) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"host": "http://x"},
        {"host": ""},
        {"host": "a b"},
        {"version": "3.0"},
        {"charset": "EBCDIC"},
        {"application": "A|B"},
        {"facility": "A\rB"},
        {"ca": "no certificate"},
        {"events": ("S99",)},
    ],
)
def test_a_peer_that_cannot_be_is_refused(house: House, fields: Json) -> None:
    given: Json = {"name": "x", "host": "h", "port": 1, "application": "A", "facility": "B", "events": ("S12",)}
    with house.store.database.connection() as connection, pytest.raises(Outcome) as caught:
        peers.add(connection, peers.NewPeer(**given | fields), "tests", house.store.clock())
    assert caught.value.category == "invalid"
