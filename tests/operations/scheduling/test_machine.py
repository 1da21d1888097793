"""Appointments through every door: whatever is tried in whatever order, statuses follow the table, and nobody has a time that another has."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any, ClassVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule, run_state_machine_as_test

from fhir_server.store.rules.lifecycle import MOVES
from tests.interactions.conftest import Fhir
from tests.operations.scheduling.conftest import MakePractice, Practice, as_role, at, parameters

Json = dict[str, Any]
TABLE = MOVES["Appointment"]
HOLDING = frozenset({"pending", "booked", "arrived", "checked-in"})
SLOTS = 3
OPERATIONS: dict[str, tuple[str, Json, frozenset[str]]] = {
    "confirm": ("booked", {}, frozenset({"pending"})),
    "decline": ("cancelled", {"reason": "x"}, frozenset({"pending"})),
    "cancel": ("cancelled", {"reason": "x"}, frozenset({"proposed", "waitlist", "pending", "booked", "arrived", "checked-in"})),
    "no-show": ("noshow", {}, frozenset({"booked"})),
}


class Appointments(RuleBasedStateMachine):
    """What was made of the three times of a doctor's day, as it should be, beside what the server says.

    Callers set `make`.
    """

    make: ClassVar[MakePractice]
    made = Bundle("made")

    @initialize()
    def begin(self) -> None:
        self.practice: Practice = type(self).make(SLOTS)
        self.desk = self.practice.system
        self.known: dict[str, tuple[str, int]] = {}

    def _free(self, number: int, besides: str = "") -> bool:
        """Whether the doctor has time then."""
        return all(found != number or status not in HOLDING or identity == besides for identity, (status, found) in self.known.items())

    def _body(self, number: int, status: str) -> Json:
        who = [{"actor": {"reference": self.practice.doctor}, "status": "accepted"}]
        return {"resourceType": "Appointment", "status": status, "start": at(30 * number), "end": at(30 * number + 30), "participant": who}

    def _kept(self, answer: Any, number: int) -> Any:
        found = answer.get_json(force=True)
        self.known[found["id"]] = (found["status"], number)
        return found["id"]

    @rule(target=made, number=st.integers(0, SLOTS - 1), by=st.sampled_from(["staff", "patient", "doctor"]), held=st.booleans())
    def by_operation(self, number: int, by: str, held: bool) -> Any:  # noqa: FBT001 - drawn
        patient = self.practice.patient()
        callers: dict[str, Callable[[], Fhir]] = {
            "staff": lambda: as_role(self.desk, "staff"),
            "doctor": self.practice.as_doctor,
            "patient": lambda: self.practice.as_patient(patient),
        }
        fhir = callers[by]()
        offer = self._body(number, "proposed") | {"slot": [{"reference": self.practice.slots[number]}]}
        given: Json = {"appointment": offer}
        if held:
            first = fhir("POST", "Appointment/$hold", parameters(appointment=offer))
            assert first.status_code == (201 if self._free(number) else 409), first.text
            if first.status_code != 201:
                return multiple()
            given = {"hold": f"Appointment/{first.get_json(force=True)['id']}"}
        answer = fhir("POST", "Appointment/$book", parameters(**given, patient=patient))
        assert answer.status_code == (201 if held or self._free(number) else 409), answer.text
        if answer.status_code != 201:
            return multiple()
        assert answer.get_json(force=True)["status"] == ("pending" if by == "patient" else "booked")
        return self._kept(answer, number)

    @rule(target=made, number=st.integers(0, SLOTS - 1), status=st.sampled_from(sorted(TABLE)), door=st.sampled_from(["POST", "PUT", "transaction"]))
    def by_hand(self, number: int, status: str, door: str) -> Any:
        body, identity = self._body(number, status), uuid.uuid4().hex
        free = status not in HOLDING or self._free(number)
        if door == "transaction":
            entry = {"resource": body, "request": {"method": "POST", "url": "Appointment"}}
            answer = self.desk("POST", "", {"resourceType": "Bundle", "type": "transaction", "entry": [entry]})
            assert answer.status_code == (200 if free else 409), answer.text
            if free:
                identity = answer.get_json(force=True)["entry"][0]["response"]["location"].split("Appointment/")[1].split("/")[0]
        else:
            path = "Appointment" if door == "POST" else f"Appointment/{identity}"
            answer = self.desk(door, path, body if door == "POST" else {**body, "id": identity})
            assert answer.status_code == (201 if free else 409), answer.text
            identity = answer.get_json(force=True).get("id", identity)
        if not free:
            return multiple()
        self.known[identity] = (status, number)
        return identity

    @rule(
        identity=made,
        status=st.sampled_from(sorted(TABLE)),
        number=st.integers(0, SLOTS - 1),
        door=st.sampled_from(["PUT", "PATCH", "transaction"]),
    )
    def change(self, identity: str, status: str, number: int, door: str) -> None:
        before, place = self.known[identity]
        body = self._body(number, status) | {"id": identity}
        calls: dict[str, Callable[[], Any]] = {
            "PUT": lambda: self.desk("PUT", f"Appointment/{identity}", body),
            "PATCH": lambda: self.desk(
                "PATCH",
                f"Appointment/{identity}",
                [{"op": "replace", "path": f"/{name}", "value": body[name]} for name in ("status", "start", "end")],
            ),
            "transaction": lambda: self.desk(
                "POST",
                "",
                {
                    "resourceType": "Bundle",
                    "type": "transaction",
                    "entry": [{"resource": body, "request": {"method": "PUT", "url": f"Appointment/{identity}"}}],
                },
            ),
        }
        answer = calls[door]()
        allowed = status == before or status in TABLE[before]
        free = status not in HOLDING or self._free(number, identity)
        expected = {422} if not allowed else {200} if free else {409}
        late = before == "noshow" and status != before
        assert answer.status_code in (expected | {422} if late else expected), (before, status, answer.text)
        if answer.status_code == 200:
            self.known[identity] = (status, number)
        else:
            assert self.desk.get(f"Appointment/{identity}")["status"] == before
            assert self.known[identity] == (before, place)

    @rule(identity=made, name=st.sampled_from(sorted(OPERATIONS)))
    def operate(self, identity: str, name: str) -> None:
        status, given, begins = OPERATIONS[name]
        before, number = self.known[identity]
        answer = self.desk("POST", f"Appointment/{identity}/${name}", parameters(**given))
        assert answer.status_code == (200 if before in begins else 422), (before, name, answer.text)
        if answer.status_code == 200:
            self.known[identity] = (status, number)

    @rule(identity=made, number=st.integers(0, SLOTS - 1))
    def move(self, identity: str, number: int) -> None:
        before, _ = self.known[identity]
        answer = self.desk("POST", f"Appointment/{identity}/$reschedule", parameters(slot=self.practice.slots[number]))
        expected = 422 if before not in {"pending", "booked"} else 200 if self._free(number, identity) else 409
        assert answer.status_code == expected, (before, answer.text)
        if answer.status_code == 200:
            self.known[identity] = (before, number)

    @rule(identity=consumes(made))
    def delete(self, identity: str) -> None:
        assert self.desk("DELETE", f"Appointment/{identity}").status_code in (200, 204)
        del self.known[identity]

    @invariant()
    def slots_say_what_is_held(self) -> None:
        offered = [number for number in range(SLOTS) if self._free(number)]
        for number, slot in enumerate(self.practice.slots):
            found = self.practice.status(slot)
            assert (found == "free") == (number in offered), (number, found, self.known)
        assert self.practice.starts() == [at(30 * number) for number in offered]


def test_every_door_keeps_the_table_and_the_time(make_practice: MakePractice) -> None:
    checks = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
    chosen = type("Chosen", (Appointments,), {"make": staticmethod(make_practice)})
    run_state_machine_as_test(chosen, settings=settings(max_examples=8, stateful_step_count=10, suppress_health_check=checks))
