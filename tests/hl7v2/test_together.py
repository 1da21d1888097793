"""Messages that are processed at the same moment: as if one after the other, and none of them spoils another."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_server.hl7v2.intake import stored
from fhir_server.hl7v2.intake.intake import TOGETHER, Delivery, Intake
from fhir_server.hl7v2.landing.processing import Peer, Steps, Work, Write
from fhir_server.hl7v2.listener.conversation import Limits
from fhir_server.hl7v2.text.message import Message
from fhir_server.settings import CANON
from fhir_server.store.database import Connection
from fhir_server.store.ops import Put
from fhir_server.store.session import Session

from .conftest import Lab
from .test_intake import MLLP, codes, fresh, oru
from .test_mllp import Client, listening

Json = dict[str, Any]


def together(intake: Intake, messages: Sequence[bytes], peers: Sequence[Peer] = ()) -> list[bytes]:
    """The answers to messages that are taken at once, one to each."""
    acks: list[list[bytes]] = [[] for _ in messages]
    whom = peers or [MLLP] * len(messages)
    errors = intake.receive_all([Delivery(raw, peer, into.append) for raw, peer, into in zip(messages, whom, acks, strict=True)])
    assert errors == [None] * len(messages)
    return [ack for (ack,) in acks]


def result(number: str, order: str, value: int, *, status: str = "F", at: int = 10) -> bytes:
    """A message of its own with one result of an order."""
    lines = [
        f"MSH|^~\\&|LAB1|HOSP|CLINIC|C1|202601021015{at:02}||ORU^R01^ORU_R01|{fresh()}|P|2.5.1",
        f"PID|1||{number}^^^HOSP^MR||Doe^Jane||19800101|F",
        f"OBR|1|P{order}|F{order}|GLU^Glucose^L|||20260102090000+0100|||||||||||||||202601021015{at:02}+0100|||{status}",
        f"OBX|1|NM|2345-7^Glucose^LN||{value}|mg/dL^mg/dL^UCUM|70-110|N|||{status}",
    ]
    return "\r".join([*lines, ""]).encode()


def commits(lab: Lab, control: str) -> set[int]:
    """The database transactions that wrote what came of messages."""
    with lab.store.database.connection() as connection:
        rows = connection.execute(
            "SELECT v.xid FROM hl7v2_message m, unnest(m.written) AS w(name) JOIN resource_version v ON v.version = split_part(w.name, '/', 4)::int"
            " JOIN resource r ON r.rid = v.rid AND r.id = split_part(w.name, '/', 2) WHERE m.control_id = %s",
            (control,),
        ).fetchall()
    return {xid for (xid,) in rows}


def patients(lab: Lab, number: str) -> list[Json]:
    return lab.ask(f"Patient?identifier={CANON}/sid/authority/HOSP|{number}")


def test_messages_of_different_patients_share_a_commit(lab: Lab) -> None:
    controls = [fresh() for _ in range(TOGETHER)]
    acks = together(lab.intake, [oru(control, fresh()) for control in controls])
    assert codes(acks) == ["AA"] * TOGETHER
    assert [f"|{control}\r".encode() in ack for control, ack in zip(controls, acks, strict=True)] == [True] * TOGETHER
    (first,) = commits(lab, controls[0])
    assert all(commits(lab, control) == {first} for control in controls)
    for control in controls:
        (row,) = lab.stored("control_id = %s", control)
        assert (row["state"], row["attempts"], len(row["written"])) == ("processed", 1, 3)
        assert len(lab.ask(f"Provenance?target={row['written'][0].partition('/_history')[0]}")) == 1


def test_a_message_that_is_at_fault_spoils_no_other(lab: Lab) -> None:
    good = [fresh() for _ in range(3)]
    refused, unmatched, broken = fresh(), fresh(), fresh()

    def process(message: Message, work: Work) -> Steps:
        steps = lab.process(message, work)
        if message.header.control_id == broken:
            next(steps)
            raise ValueError
        if message.header.control_id == refused:
            # What the store refuses whenever it is asked.
            yield Write([Put({"resourceType": "Patient", "id": fresh()}, "none", if_match="7")], {"resourceType": "Provenance"})
        return (yield from steps)

    messages = [
        oru(good[0], fresh()),
        oru(refused, fresh()),
        oru(unmatched, ""),
        b"MSH|nothing",
        oru(good[1], fresh()),
        oru(broken, fresh()),
        oru(fresh(), fresh()).replace(b"|P|2.5.1", b"|P|3.0"),
        oru(good[2], fresh()),
    ]
    acks = together(Intake(lab.store, process), messages)
    assert codes(acks) == ["AA", "AE", "AE", "AR", "AA", "AE", "AR", "AA"]
    assert [lab.stored("control_id = %s", control)[0]["state"] for control in (*good, unmatched, broken)] == ["processed"] * 3 + [
        "unmatched",
        "failed",
    ]
    assert lab.stored("control_id = %s", refused)[0]["written"] == []


def test_two_messages_of_one_new_patient_make_one(lab: Lab) -> None:
    number, other = fresh(), fresh()
    both = oru(fresh(), number).replace(b"^^^HOSP^MR", f"^^^HOSP^MR~{other}^^^CITY^PI".encode())
    acks = together(lab.intake, [oru(fresh(), number), both, oru(fresh(), other).replace(b"^^^HOSP^MR", b"^^^CITY^PI"), oru(fresh(), number)])
    assert codes(acks) == ["AA"] * 4
    (patient,) = patients(lab, number)
    assert lab.one(f"Patient?identifier={CANON}/sid/authority/CITY|{other}")["id"] == patient["id"]
    assert len(lab.ask(f"Observation?patient=Patient/{patient['id']}")) == 4


def test_messages_of_one_order_keep_their_order(lab: Lab) -> None:
    number, order = fresh(), fresh()
    values = list(range(90, 90 + TOGETHER))
    messages = [result(number, order, value, status="F" if place == 0 else "C", at=10 + place) for place, value in enumerate(values)]
    assert codes(together(lab.intake, messages)) == ["AA"] * TOGETHER
    (patient,) = patients(lab, number)
    found = lab.one(f"Observation?patient=Patient/{patient['id']}")
    assert (found["valueQuantity"]["value"], found["status"], found["meta"]["versionId"]) == (values[-1], "corrected", str(TOGETHER))
    with lab.store.database.connection() as connection:
        rows = connection.execute(
            "SELECT v.body::json -> 'valueQuantity' ->> 'value' FROM resource_version v JOIN resource r USING (rid) WHERE r.id = %s"
            " ORDER BY v.version",
            (found["id"],),
        ).fetchall()
    assert [int(value) for (value,) in rows] == values


def test_a_batch_is_processed_in_its_order(lab: Lab) -> None:
    number, order = fresh(), fresh()
    messages = [result(number, order, 50 + place, status="F" if place == 0 else "C", at=10 + place) for place in range(20)]
    others = [oru(fresh(), fresh()) for _ in range(20)]
    mixed = [each for pair in zip(messages, others, strict=True) for each in pair]
    acks: list[bytes] = []
    lab.intake.receive(b"".join(mixed), MLLP, acks.append)
    assert codes(acks) == ["AA"] * 40
    assert [ack.split(b"\rMSA|AA|")[1].partition(b"\r")[0] for ack in acks] == [each.split(b"|")[9] for each in mixed]
    (patient,) = patients(lab, number)
    found = lab.one(f"Observation?patient=Patient/{patient['id']}")
    assert (found["valueQuantity"]["value"], found["meta"]["versionId"]) == (69, "20")


def test_the_same_bytes_twice_in_a_group_are_done_once(lab: Lab) -> None:
    control, number = fresh(), fresh()
    raw = oru(control, number)
    acks = together(lab.intake, [raw, oru(fresh(), fresh()), raw])
    assert acks[0] == acks[2]
    (row,) = lab.stored("control_id = %s", control)
    assert (row["attempts"], row["repeats"]) == (1, 1)


def test_the_same_control_id_twice_in_a_group_is_marked(lab: Lab) -> None:
    control = fresh()
    assert codes(together(lab.intake, [oru(control, fresh()), oru(control, fresh())])) == ["AA", "AA"]
    assert sorted(row["reused"] for row in lab.stored("control_id = %s", control)) == [False, True]


def test_a_merge_takes_along_what_came_in_the_same_group(lab: Lab) -> None:
    old, new = fresh(), fresh()
    together(lab.intake, [oru(fresh(), old), oru(fresh(), new)])
    merge = (
        f"MSH|^~\\&|ADT1|HOSP|CLINIC|C1|20260102101500||ADT^A40^ADT_A39|{fresh()}|P|2.5.1\rEVN|A40|20260102101500\r"
        f"PID|1||{new}^^^HOSP^MR||Doe^Jane||19800101|F\rMRG|{old}^^^HOSP^MR\r"
    )
    assert codes(together(lab.intake, [oru(fresh(), old), merge.encode(), oru(fresh(), old)])) == ["AA"] * 3
    (survivor,) = [each for each in patients(lab, new) if each.get("active", True)]
    assert len(lab.ask(f"Observation?patient=Patient/{survivor['id']}")) == 4


def test_each_event_tells_of_its_own_sender(lab: Lab) -> None:
    peers = [Peer("http", f"sender {n}", f"192.0.2.{n}", f"request-{n}-{fresh()}") for n in range(1, 5)]
    controls = [fresh() for _ in peers]
    together(lab.intake, [oru(control, fresh()) for control in controls], peers)
    for peer, control in zip(peers, controls, strict=True):
        (row,) = lab.stored("control_id = %s", control)
        with lab.store.database.connection() as connection:
            rows = connection.execute(
                'SELECT type, actor, host(address::inet), patients FROM audit_event WHERE request_id = %s ORDER BY type COLLATE "C"',
                (peer.request_id,),
            ).fetchall()
            (actor,) = connection.execute("SELECT actor FROM transaction WHERE request_id = %s", (peer.request_id,)).fetchall()
        assert [name for name, *_ in rows] == ["DiagnosticReport", "Observation", "Patient", "Provenance", "hl7v2-message"]
        assert {(name, address) for _, name, address, _ in rows} == {(peer.name, peer.address)}
        assert {tuple(patients) for name, *_, patients in rows if name != "Provenance"} == {(row["patient"],)}
        assert actor == (peer.name,)


def test_what_dies_before_the_commit_has_done_nothing_of_any_message(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    controls, numbers = [fresh() for _ in range(4)], [fresh() for _ in range(4)]
    messages = [oru(control, number) for control, number in zip(controls, numbers, strict=True)]
    keep = stored.keep

    def die(connection: Connection, settled: Sequence[stored.Settlement]) -> set[str]:
        keep(connection, settled)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(stored, "keep", die)
        acks: list[bytes] = []
        with pytest.raises(Killed):
            lab.intake.receive_all([Delivery(raw, MLLP, acks.append) for raw in messages])
    assert acks == []
    assert [lab.stored("control_id = %s", control) for control in controls] == [[]] * 4
    assert [patients(lab, number) for number in numbers] == [[]] * 4
    assert codes(together(lab.intake, messages)) == ["AA"] * 4
    assert [len(patients(lab, number)) for number in numbers] == [1] * 4


def test_sixteen_messages_cost_the_statements_of_one(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = [fresh() for _ in range(TOGETHER)]
    together(lab.intake, [oru(fresh(), number) for number in numbers])
    seen: list[str] = []
    execute = Session.execute

    def counting(self: Any, query: Any, *arguments: Any, **options: Any) -> Any:
        if "nextval" not in str(query):
            seen.append(str(query))
        return execute(self, query, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Session, "execute", counting)
        together(lab.intake, [oru(fresh(), numbers[0])])
        one = len(seen)
        together(lab.intake, [oru(fresh(), number) for number in numbers])
    # Their answers, by identifier, by id; what was seen and what is there is locked; all is written; and all is kept.
    assert one == 7
    assert len(seen) == 2 * one


def record(lab: Lab, numbers: Sequence[str]) -> list[tuple[Any, ...]]:
    """What there is of some patients, without what differs from one time to another."""
    found: list[tuple[Any, ...]] = []
    for place, number in enumerate(numbers):
        for patient in patients(lab, number):
            about = f"patient=Patient/{patient['id']}"
            found.append((place, "Patient", patient["meta"]["versionId"], json.dumps(patient["name"])))
            for each in (*lab.ask(f"Observation?{about}"), *lab.ask(f"DiagnosticReport?{about}")):
                told = each["valueQuantity"]["value"] if "valueQuantity" in each else len(each["result"])
                found.append((place, each["resourceType"], each["meta"]["versionId"], each["status"], told))
    return sorted(found)


def test_many_connections_leave_the_record_that_one_leaves(lab: Lab) -> None:
    """Twelve senders tell of the same three patients, each of orders of its own with a final result and two corrections."""
    senders, orders = 12, 4

    def messages(numbers: Sequence[str], sender: int) -> list[bytes]:
        return [
            result(numbers[(sender + order) % len(numbers)], f"{numbers[0]}{sender}X{order}", 10 * sender + turn, status="FCC"[turn], at=10 + turn)
            for order in range(orders)
            for turn in range(3)
        ]

    one, many = [fresh() for _ in range(3)], [fresh() for _ in range(3)]
    for sender in range(senders):
        for each in messages(one, sender):
            assert codes(together(lab.intake, [each])) == ["AA"]
    barrier = threading.Barrier(senders)

    def send(port: int, sender: int) -> list[str]:
        with Client(port) as client:
            barrier.wait()
            return [client.ask(each) for each in messages(many, sender)]

    with listening(lab.intake, Limits()) as (port, _), ThreadPoolExecutor(senders) as pool:
        answers = list(pool.map(lambda sender: send(port, sender), range(senders)))
    assert answers == [["AA"] * orders * 3] * senders
    assert record(lab, many) == record(lab, one)
    assert len(record(lab, many)) == 3 + 2 * senders * orders


@given(st.data())
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_messages_taken_together_leave_the_record_that_they_leave_one_by_one(lab: Lab, data: st.DataObject) -> None:
    steps = data.draw(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.sampled_from("FCP"), st.integers(1, 9)), min_size=2, max_size=12))
    records = []
    for size in (1, TOGETHER):
        numbers = [fresh() for _ in range(3)]
        messages = [
            result(numbers[patient], f"{numbers[0]}{order}", value, status=status, at=10 + place)
            for place, (patient, order, status, value) in enumerate(steps)
        ]
        acks = [ack for start in range(0, len(messages), size) for ack in together(lab.intake, messages[start : start + size])]
        records.append((codes(acks), record(lab, numbers)))
    assert records[0] == records[1]
