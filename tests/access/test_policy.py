"""Records that are closed unless their patient permits it: what a Consent permits, and the policy at every door and in every process.

https://hl7.org/fhir/R4/consent.html
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest

from fhir_server.access import issue
from fhir_server.access.gate import is_restricted
from fhir_server.access.policy import Policy
from fhir_server.access.restrictions import Restrictions
from fhir_server.access.roles import CLINICAL
from fhir_server.app import build_app
from fhir_server.interactions import Engine
from fhir_server.operations import names
from fhir_server.outcome import Outcome
from fhir_server.search import Grant
from fhir_server.search.grant import Party
from fhir_server.search.permit import MOST, permits_of
from fhir_server.settings import Settings
from fhir_server.store import Store
from fhir_server.store.consents import generation

from .test_consent import DOCTOR, NOW, SECRET, STAFF, Caller, Json, actor, consent, type_of

ZONE: Final = ZoneInfo("Europe/Berlin")
APP: Final = Party((), ())


def opened(provision: Json, party: Party, name: str = "Observation", now: datetime = NOW, **fields: Any) -> bool:
    """Whether a Consent permits a type to a party, as its rows say."""
    return any(
        set(each.parties) <= set(party.references)
        and (not each.purposes or not set(each.purposes).isdisjoint(party.purposes))
        and (not each.types or name in each.types)
        and each.lo <= now < each.hi
        for each in permits_of(consent(provision, **fields), ZONE)
    )


PERMIT: Final = {"type": "permit"}
OPTOUT: Final = {"policyRule": {"coding": [{"code": "OPTOUT"}]}}


@pytest.mark.parametrize(
    ("provision", "fields", "doctor", "staff"),
    [
        (PERMIT, {}, True, True),
        ({}, {}, True, True),
        ({}, OPTOUT, False, False),
        ({"type": "deny"}, {}, False, False),
        (PERMIT, OPTOUT, True, True),
        (PERMIT, {"status": "inactive"}, False, False),
        (PERMIT, {"status": "draft"}, False, False),
        (PERMIT, {"scope": {"coding": [{"code": "treatment"}]}}, False, False),
        (PERMIT, {"scope": {"text": "privacy"}}, False, False),
        (PERMIT, {"modifierExtension": [{"url": "urn:x", "valueBoolean": True}]}, False, False),
        ({**PERMIT, "modifierExtension": [{"url": "urn:x", "valueBoolean": True}]}, {}, False, False),
        ({**PERMIT, "actor": [actor("Practitioner/d1")]}, {}, True, False),
        ({**PERMIT, "actor": [actor("Practitioner/d1/_history/2")]}, {}, True, False),
        ({**PERMIT, "actor": [actor("Practitioner/s1"), actor("PractitionerRole/r1")]}, {}, True, True),
        ({**PERMIT, "actor": [actor("Organization/o1")]}, {}, True, False),
        ({**PERMIT, "actor": [actor("CareTeam/unknown")]}, {}, False, False),
        ({**PERMIT, "actor": [{"role": {"text": "x"}, "reference": {"display": "Dr d1"}}]}, {}, False, False),
        ({**PERMIT, "purpose": [{"code": "TREAT"}]}, {}, True, False),
        ({**PERMIT, "purpose": [{"code": "HRESCH"}]}, {}, False, False),
        ({**PERMIT, "purpose": [{"display": "something"}]}, {}, False, False),
        ({**PERMIT, "period": {"end": "2026-11-29"}}, {}, False, False),
        ({**PERMIT, "period": {"end": "2026-11-30"}}, {}, True, True),
        ({**PERMIT, "period": {"start": "2026-12"}}, {}, False, False),
        ({**PERMIT, "action": [{"coding": [{"code": "collect"}]}]}, {}, False, False),
        ({**PERMIT, "action": [{"coding": [{"code": "access"}]}]}, {}, True, True),
        ({**PERMIT, "action": [{"text": "looking at it"}]}, {}, False, False),
        ({**PERMIT, "securityLabel": [{"code": "N"}]}, {}, False, False),
        ({**PERMIT, "code": [{"text": "only this"}]}, {}, False, False),
        ({**PERMIT, "dataPeriod": {"start": "2020"}}, {}, False, False),
        ({"type": "deny", "provision": [{**PERMIT, "actor": [actor("Practitioner/d1")]}]}, {}, True, False),
        ({"type": "deny", "code": [{"text": "x"}], "provision": [{**PERMIT, "actor": [actor("Practitioner/d1")]}]}, {}, False, False),
        ({"type": "deny", "actor": [actor("Organization/o1")], "provision": [{**PERMIT, "actor": [actor("Practitioner/d1")]}]}, {}, True, False),
        ({"type": "deny", "actor": [actor("Organization/o2")], "provision": [{**PERMIT, "actor": [actor("Practitioner/d1")]}]}, {}, False, False),
        ({"type": "deny", "period": {"start": "2027"}, "provision": [PERMIT]}, {}, False, False),
        ({"type": "deny", "purpose": [{"code": "TREAT"}], "provision": [{**PERMIT, "purpose": [{"code": "HPAYMT"}]}]}, {}, False, False),
    ],
)
def test_whom_and_when_a_consent_permits(provision: Json, fields: Json, doctor: bool, staff: bool) -> None:  # noqa: FBT001 - of a table
    assert opened(provision, DOCTOR, **fields) is doctor
    assert opened(provision, STAFF, **fields) is staff


def test_a_permission_is_for_the_types_that_it_names() -> None:
    assert opened({**PERMIT, "class": type_of("Observation", "Condition")}, DOCTOR)
    assert not opened({**PERMIT, "class": type_of("Condition")}, DOCTOR)
    assert not opened({**PERMIT, "class": [{"system": "urn:other", "code": "Observation"}]}, DOCTOR)
    assert not opened({"type": "deny", "class": type_of("Condition"), "provision": [{**PERMIT, "class": type_of("Observation")}]}, DOCTOR)
    assert opened(PERMIT, APP)
    assert not opened({**PERMIT, "purpose": [{"code": "TREAT"}]}, APP), "an app without a person acts for nothing"


@pytest.mark.parametrize("width", [1, 2, 1_500])
def test_no_consent_makes_more_than_a_thousand_rows_however_it_is_built(width: int) -> None:
    actors = [actor(f"Practitioner/{number}") for number in range(width)]
    nested: Json = {**PERMIT, "actor": actors}
    for _ in range(40):
        nested = {"type": "deny", "actor": actors, "provision": [nested]}
    began = time.process_time()
    assert len(permits_of(consent(nested), ZONE)) <= MOST
    assert len(permits_of(consent({"type": "deny", "provision": [{**PERMIT, "actor": actors}] * 5_000}), ZONE)) <= MOST
    assert time.process_time() - began < 20


class Clinic:
    """Two processes on one database."""

    def __init__(self, url: str, folder: Path) -> None:
        self.options = Settings(data=folder, jwt_secret=SECRET, clinic_timezone=ZONE)
        self.stores = [Store(url, zone=ZONE, connections=4) for _ in range(2)]
        self.apps = [build_app(Engine.build(store, self.options, names()), self.options) for store in self.stores]
        self.made: list[str] = []
        self.load = self.caller(None, scope="system/*.cruds")

    def caller(self, role: Any, user: str | None = None, process: int = 0, scope: str | None = None, patient: str | None = None) -> Caller:
        token = issue(SECRET, role=role, user=role or "loader", patient=patient, scope=scope, ttl=3600, now=time.time(), fhir_user=user)
        return Caller(self.apps[process], token)

    def decide(self, value: str) -> None:
        with self.stores[1].database.connection() as connection, connection.transaction():
            Policy(self.stores[1]).set_consent(value, "ada", connection)

    def consent(self, provision: Json, **fields: Any) -> str:
        answer = self.load("POST", "Consent", consent(provision, **fields))
        assert answer.status_code == 201, answer.data
        self.made.append(answer.json["id"])  # type: ignore[index]  # checked above
        return self.made[-1]

    def generation(self) -> int:
        with self.stores[0].database.connection() as connection:
            return generation(connection)


@pytest.fixture(scope="module")
def opened_clinic(fresh_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    clinic = Clinic(fresh_database(), Path(tmp_path_factory.mktemp("data")))
    put = clinic.load
    put("PUT", "Practitioner/d1", {"resourceType": "Practitioner", "id": "d1"})
    put("PUT", "Organization/o1", {"resourceType": "Organization", "id": "o1", "name": "Clinic"})
    for each in "pq":
        subject = {"reference": f"Patient/{each}"}
        put("PUT", f"Patient/{each}", {"resourceType": "Patient", "id": each})
        for body in (
            {"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": subject},
            {"resourceType": "Encounter", "status": "planned", "class": {"code": "AMB"}, "subject": subject},
            {"resourceType": "Coverage", "status": "active", "beneficiary": subject, "payor": [subject]},
            {"resourceType": "RelatedPerson", "patient": subject},
            {"resourceType": "Appointment", "status": "proposed", "participant": [{"actor": subject, "status": "accepted"}]},
            {"resourceType": "Account", "status": "active", "subject": [subject]},
        ):
            assert put("PUT", f"{body['resourceType']}/{each}", {**body, "id": each}).status_code == 201
    assert (
        put("PUT", "Observation/nobody", {"resourceType": "Observation", "id": "nobody", "status": "final", "code": {"text": "x"}}).status_code == 201
    )
    yield clinic
    for store in clinic.stores:
        store.close()


@pytest.fixture
def clinic(opened_clinic: Clinic) -> Iterator[Clinic]:
    """Closed, and as it was before afterwards."""
    opened_clinic.decide("deny")
    yield opened_clinic
    opened_clinic.decide("permit")
    for each in opened_clinic.made:
        opened_clinic.load("DELETE", f"Consent/{each}")
    opened_clinic.made.clear()


def test_a_record_is_closed_at_every_door_until_its_patient_permits_it(clinic: Clinic) -> None:
    doctor, other = clinic.caller("doctor", "Practitioner/d1"), clinic.caller("doctor", "Practitioner/d2", process=1)
    mine = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": {"reference": "Patient/p"}}
    doors = (
        ("GET", "Observation/p", None, 404),
        ("GET", "Observation/p/_history", None, 404),
        ("GET", "Observation/p/_history/1", None, 404),
        ("GET", "Encounter/p", None, 404),
        ("PUT", "Observation/p", {**mine, "id": "p", "code": {"text": "y"}}, 403),
        ("POST", "Observation", mine, 403),
    )

    def shown(caller: Caller) -> set[str]:
        found = caller.ids("Observation")
        assert caller("GET", "Observation?_summary=count").json["total"] == len(found)  # type: ignore[index]  # a Bundle
        assert caller.ids("Patient?_has:Observation:patient:status=final") == found - {"nobody"}
        assert caller.ids("Observation?patient._id=p,q") == found - {"nobody"}
        assert ("Observation/p" in caller("GET", "Patient?_id=p&_revinclude=Observation:patient").text) is ("p" in found)
        assert ("Observation/p" in caller("GET", "Patient/p/$everything").text) is ("p" in found)
        query = '{Patient(id: "p") {ObservationList(_reference: patient) {id}}}'
        assert ('{"id":"p"}' in caller("POST", "$graphql", {"query": query}).text) is ("p" in found)
        for path in ("_history", "Observation/_history"):
            text = caller("GET", f"{path}?_count=100").text
            assert {each for each in "pq" if f"Observation/{each}/_history" in text or f'fhir/Observation/{each}"' in text} == found - {"nobody"}
        return found

    for caller in (doctor, other):
        assert shown(caller) == {"nobody"}
        for method, path, body, status in doors:
            assert caller(method, path, body).status_code == status, path
    clinic.consent({**PERMIT, "actor": [actor("Practitioner/d1")]})
    assert shown(doctor) == {"p", "nobody"}
    assert shown(other) == {"nobody"}
    for method, path, body, _ in doors:
        if method == "GET":
            assert doctor(method, path, body).status_code == 200, path
    assert doctor("PUT", "Observation/p", {**mine, "id": "p"}).status_code == 200
    assert doctor("POST", "Observation", mine, If_None_Exist="_id=p").status_code == 200
    assert other("POST", "Observation", mine, If_None_Exist="_id=p").status_code == 403
    moved = {**mine, "id": "p", "subject": {"reference": "Patient/q"}}
    assert doctor("PUT", "Observation/p", moved).status_code == 403, "nothing goes into a record that is closed"


def test_who_a_patient_is_and_what_the_desk_does_stays_open(clinic: Clinic) -> None:
    staff = clinic.caller("staff", "Practitioner/s1")
    for name in ("Patient", "Coverage", "RelatedPerson", "Appointment", "Account"):
        assert staff.ids(name) == {"p", "q"}, name
    assert staff.ids("Encounter") == set()
    answer = staff("POST", "Consent", consent({**PERMIT, "purpose": [{"code": "HOPERAT"}]}))
    assert answer.status_code == 201
    clinic.made.append(answer.json["id"])  # type: ignore[index]  # a Consent
    assert staff.ids("Encounter") == {"p"}
    assert clinic.caller("doctor", "Practitioner/d1").ids("Encounter") == set()
    assert clinic.caller("admin", "Practitioner/a").ids("Observation") == {"p", "nobody"}


def test_patients_and_operators_are_not_touched(clinic: Clinic) -> None:
    assert clinic.caller("patient", "Patient/p", patient="p").ids("Observation") == {"p"}
    assert clinic.load.ids("Observation") == {"p", "q", "nobody"}


def test_a_doctor_breaks_the_glass_of_the_policy_too(clinic: Clinic) -> None:
    doctor, reason = clinic.caller("doctor", "Practitioner/d1"), "unconscious in the waiting room"
    assert doctor.ids("Observation", X_Break_Glass=reason) == {"p", "q", "nobody"}
    assert clinic.caller("staff", "Practitioner/s1")("GET", "Encounter/p", X_Break_Glass=reason).status_code == 403
    assert doctor.ids("Observation") == {"nobody"}


def test_a_prohibition_counts_more_than_a_permission(clinic: Clinic) -> None:
    doctor, other = clinic.caller("doctor", "Practitioner/d1"), clinic.caller("doctor", "Practitioner/d2")
    clinic.consent({**PERMIT, "provision": [{"type": "deny", "actor": [actor("Practitioner/d1")]}]})
    assert "p" not in doctor.ids("Observation")
    assert "p" in other.ids("Observation")
    clinic.consent({**PERMIT, "actor": [actor("Practitioner/d1")]})
    assert "p" not in doctor.ids("Observation")


def test_a_permission_counts_from_its_commit_to_its_end_in_every_process(clinic: Clinic) -> None:
    doctors = [clinic.caller("doctor", "Practitioner/d1", process) for process in range(2)]
    made = clinic.consent({**PERMIT, "class": type_of("Observation")})
    assert [each.ids("Observation") for each in doctors] == [{"p", "nobody"}] * 2
    assert [each.ids("Encounter") for each in doctors] == [set()] * 2
    for ended in ({"status": "inactive"}, {"provision": {"type": "deny"}}, {"provision": {**PERMIT, "period": {"end": "2020"}}}):
        assert clinic.load("PUT", f"Consent/{made}", {**consent(PERMIT), "id": made, **ended}).status_code == 200
        assert [each.ids("Observation") for each in doctors] == [{"nobody"}] * 2, ended
        assert clinic.load("PUT", f"Consent/{made}", {**consent(PERMIT), "id": made}).status_code == 200
        assert [each.ids("Observation") for each in doctors] == [{"p", "nobody"}] * 2
    clinic.load("DELETE", f"Consent/{made}")
    assert [each.ids("Observation") for each in doctors] == [{"nobody"}] * 2


def test_where_somebody_works_decides_who_is_permitted(clinic: Clinic) -> None:
    doctor = clinic.caller("doctor", "Practitioner/d1")
    clinic.consent({**PERMIT, "actor": [actor("Organization/o1")]})
    assert doctor.ids("Observation") == {"nobody"}
    role = {
        "resourceType": "PractitionerRole",
        "id": "r1",
        "practitioner": {"reference": "Practitioner/d1"},
        "organization": {"reference": "Organization/o1"},
    }
    clinic.load("PUT", "PractitionerRole/r1", role)
    assert doctor.ids("Observation") == {"p", "nobody"}
    clinic.load("DELETE", "PractitionerRole/r1")
    assert doctor.ids("Observation") == {"nobody"}


def test_a_version_that_was_filed_under_a_closed_record_stays_closed(clinic: Clinic) -> None:
    doctor = clinic.caller("doctor", "Practitioner/d1")
    clinic.consent(PERMIT)
    body = {"resourceType": "Condition", "id": "misfiled", "subject": {"reference": "Patient/q"}}
    clinic.load("PUT", "Condition/misfiled", body)
    clinic.load("PUT", "Condition/misfiled", {**body, "subject": {"reference": "Patient/p"}})
    assert doctor("GET", "Condition/misfiled").status_code == 200
    assert doctor("GET", "Condition/misfiled/_history/2").status_code == 200
    assert doctor("GET", "Condition/misfiled/_history/1").status_code == 404
    assert doctor("GET", "Condition/misfiled/_history?_summary=count").json["total"] == 1  # type: ignore[index]  # a Bundle
    assert doctor("GET", "Condition/_history").json["entry"][0]["request"]["method"] == "PUT"  # type: ignore[index]  # the one that is left
    clinic.load("DELETE", "Condition/misfiled")


def test_once_the_policy_is_decided_no_process_reads_by_the_one_before(clinic: Clinic) -> None:
    readers = [clinic.caller("doctor", "Practitioner/d1", process) for process in (0, 1, 0)]
    with ThreadPoolExecutor(3) as pool:
        for value, status in [("permit", 200), ("deny", 404)] * 10:
            # Reads are under way in both processes while it is decided; those that begin afterwards all go by it.
            before = [pool.submit(reader, "GET", "Observation/p") for reader in readers]
            clinic.decide(value)
            after = [pool.submit(reader, "GET", "Observation/p") for reader in readers]
            assert {each.result().status_code for each in before} <= {200, 404}
            assert {each.result().status_code for each in after} == {status}


def test_who_may_read_changes_no_generation_unless_it_is_kept_in_processes(clinic: Clinic) -> None:
    before = clinic.generation()
    clinic.consent({**PERMIT, "actor": [actor("Practitioner/d1")]})
    assert clinic.generation() == before, "what a patient permits is looked up"
    clinic.consent({"type": "deny"})
    assert clinic.generation() == before + 1
    clinic.decide("deny")
    assert clinic.generation() == before + 2


def test_a_grant_is_no_longer_for_a_hundred_patients_that_permit_it(clinic: Clinic) -> None:
    app = Grant("app", frozenset(), (), client="growth-chart")
    assert is_restricted(app)
    (denial,) = Restrictions(clinic.stores[0]).denials(app, clinic.generation(), time.time())
    assert denial.types == tuple(CLINICAL.split())
    assert (denial.patients, denial.unless) == ((), APP)
    for number in range(100):
        clinic.consent(PERMIT, patient={"reference": f"Patient/many-{number}"})
    assert Restrictions(clinic.stores[0]).denials(app, clinic.generation(), time.time()) == (denial,)


def test_another_policy_than_these_two_is_refused(clinic: Clinic) -> None:
    with pytest.raises(Outcome, match="permit, deny"):
        clinic.decide("perhaps")
    assert Policy(clinic.stores[0]).consent() == "deny"
