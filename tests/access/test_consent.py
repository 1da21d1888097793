"""What patients forbid, as Consents say it: the rules by themselves, and at every door.

https://hl7.org/fhir/R4/consent.html
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest
from werkzeug.test import TestResponse

from fhir_server.access import issue
from fhir_server.access.consent import Restriction, denials
from fhir_server.access.gate import broken
from fhir_server.app import build_app
from fhir_server.interactions import Engine
from fhir_server.operations import names
from fhir_server.outcome import Outcome
from fhir_server.search import Grant
from fhir_server.search.grant import Denial, Party
from fhir_server.settings import Settings
from fhir_server.store import Store
from fhir_server.store.database import Database

SECRET: Final = "a secret that only the tests know of"
ZONE: Final = ZoneInfo("Europe/Berlin")
NOW: Final = datetime(2026, 11, 30, 12, tzinfo=UTC)
DOCTOR: Final = Party(("Organization/o1", "Practitioner/d1", "PractitionerRole/r1"), ("TREAT",))
STAFF: Final = Party(("Practitioner/s1",), ("HOPERAT", "HPAYMT"))

Json = dict[str, Any]


def consent(provision: Json, **fields: Any) -> Json:
    return {
        "resourceType": "Consent",
        "status": "active",
        "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": "Patient/p"},
        "policyRule": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "OPTIN"}]},
        "provision": provision,
        **fields,
    }


def actor(reference: str) -> Json:
    return {"role": {"coding": [{"code": "PRCP"}]}, "reference": {"reference": reference}}


def type_of(*names_: str) -> list[Json]:
    return [{"system": "http://hl7.org/fhir/resource-types", "code": name} for name in names_]


def shut(provision: Json, party: Party = DOCTOR, **fields: Any) -> dict[str, tuple[str, ...]]:
    """Types that are forbidden, with their labels."""
    restriction = Restriction.of(consent(provision, **fields), "p")
    if restriction is None:
        return {}
    found: dict[str, tuple[str, ...]] = {}
    for denial in denials([restriction], party, NOW, ZONE):
        assert denial.patients == ("p",)
        found |= dict.fromkeys(denial.types, denial.labels)
    return found


def test_a_prohibition_without_a_word_about_types_is_about_the_clinical_record() -> None:
    found = shut({"type": "deny"})
    assert {"Observation", "Condition", "MedicationRequest", "DocumentReference"} <= set(found)
    assert not {"Patient", "Appointment", "Invoice", "Consent", "Practitioner"} & set(found)
    assert set(found.values()) == {()}


@pytest.mark.parametrize(
    ("provision", "fields", "doctor", "staff"),
    [
        ({"type": "permit"}, {}, False, False),
        ({"type": "deny"}, {"status": "inactive"}, False, False),
        ({"type": "deny"}, {"status": "draft"}, False, False),
        ({"type": "deny", "actor": [actor("Practitioner/d1")]}, {}, True, False),
        ({"type": "deny", "actor": [actor("PractitionerRole/r1")]}, {}, True, False),
        ({"type": "deny", "actor": [actor("Practitioner/d1/_history/2")]}, {}, True, False),
        ({"type": "deny", "provision": [{"type": "permit", "actor": [actor("Practitioner/d1/_history/2")]}]}, {}, False, True),
        ({"type": "deny", "actor": [actor("Organization/o1")]}, {}, True, False),
        ({"type": "deny", "actor": [actor("Practitioner/other")]}, {}, False, False),
        ({"type": "deny", "actor": [actor("CareTeam/unknown")]}, {}, True, True),
        ({"type": "deny", "purpose": [{"code": "HPAYMT"}]}, {}, False, True),
        ({"type": "deny", "purpose": [{"code": "TREAT"}]}, {}, True, False),
        ({"type": "deny", "purpose": [{"code": "HRESCH"}]}, {}, False, False),
        ({"type": "deny", "period": {"end": "2026-11-29"}}, {}, False, False),
        ({"type": "deny", "period": {"end": "2026-11-30"}}, {}, True, True),
        ({"type": "deny", "period": {"start": "2026-12"}}, {}, False, False),
        ({"type": "deny", "action": [{"coding": [{"code": "collect"}]}]}, {}, False, False),
        ({"type": "deny", "action": [{"coding": [{"code": "access"}]}]}, {}, True, True),
        ({"type": "deny", "provision": [{"type": "permit", "actor": [actor("Practitioner/d1")]}]}, {}, False, True),
        ({"type": "deny", "provision": [{"type": "permit", "actor": [actor("CareTeam/unknown")]}]}, {}, True, True),
        ({"type": "deny", "provision": [{"type": "permit", "code": [{"text": "only this"}]}]}, {}, True, True),
        ({"provision": [{"type": "deny", "actor": [actor("Practitioner/s1")]}]}, {}, False, True),
        ({}, {"policyRule": {"coding": [{"code": "OPTOUT"}]}}, True, True),
        ({"type": "permit"}, {"policyRule": {"coding": [{"code": "OPTOUT"}]}}, False, False),
    ],
)
def test_whom_and_when_a_consent_restricts(provision: Json, fields: Json, doctor: bool, staff: bool) -> None:  # noqa: FBT001 - of a table
    assert ("Observation" in shut(provision, DOCTOR, **fields)) is doctor
    assert ("Observation" in shut(provision, STAFF, **fields)) is staff


def test_types_and_labels_narrow_a_prohibition() -> None:
    assert shut({"type": "deny", "class": type_of("Observation", "Patient")}) == {"Observation": (), "Patient": ()}
    restricted = shut({"type": "deny", "securityLabel": [{"system": "http://x", "code": "R"}, {"code": "V"}]})
    assert restricted["Observation"] == ("V", "http://x|R")
    inner = shut({"type": "deny", "provision": [{"type": "permit", "class": type_of("Observation")}]})
    assert "Observation" not in inner
    assert "Condition" in inner


def test_what_is_not_understood_makes_a_prohibition_wider() -> None:
    assert shut({"type": "deny", "code": [{"text": "something"}]})["Observation"] == ()
    assert shut({"type": "deny", "class": [{"system": "urn:other", "code": "x"}]})["Observation"] == ()
    assert "Observation" in shut({"type": "deny", "provision": [{"type": "permit", "securityLabel": [{"code": "N"}]}]})


def test_patients_who_forbid_the_same_stand_together() -> None:
    each = [Restriction.of(consent({"type": "deny", "class": type_of("Condition")}), name) for name in ("p2", "p1")]
    assert denials([one for one in each if one], DOCTOR, NOW, ZONE) == (Denial(("p1", "p2"), ("Condition",)),)


class Caller:
    def __init__(self, app: Any, token: str) -> None:
        self.app, self.headers = app, {"Authorization": f"Bearer {token}"}

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> TestResponse:
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        client = self.app.test_client(use_cookies=False)
        answer: TestResponse = client.open(f"/fhir/{path}", method=method, json=body, headers=self.headers | more)
        return answer

    def ids(self, path: str, **headers: str) -> set[str]:
        answer = self("GET", path, **headers)
        assert answer.status_code == 200, answer.data
        return {entry["resource"]["id"] for entry in answer.json.get("entry", ())}  # type: ignore[union-attr]  # checked above


@pytest.fixture(scope="module")
def people(fresh_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Caller]]:
    store = Store(fresh_database(), zone=ZONE, connections=4)
    options = Settings(data=Path(tmp_path_factory.mktemp("data")), jwt_secret=SECRET, clinic_timezone=ZONE)
    app = build_app(Engine.build(store, options, names()), options)

    def token(role: Any, fhir_user: str | None = None, scope: str | None = None, patient: str | None = None) -> str:
        return issue(SECRET, role=role, user=role or "loader", patient=patient, scope=scope, ttl=3600, now=time.time(), fhir_user=fhir_user)

    found = {
        "loader": Caller(app, token(None, scope="system/*.cruds")),
        "doctor": Caller(app, token("doctor", "Practitioner/d1")),
        "other": Caller(app, token("doctor", "Practitioner/d2")),
        "admin": Caller(app, token("admin", "Practitioner/a")),
        "patient": Caller(app, token("patient", "Patient/p", patient="p")),
    }
    load = found["loader"]
    load("PUT", "Practitioner/d1", {"resourceType": "Practitioner", "id": "d1"})
    load("PUT", "Organization/o1", {"resourceType": "Organization", "id": "o1", "name": "Clinic"})
    for each in "pq":
        load("PUT", f"Patient/{each}", {"resourceType": "Patient", "id": each})
        subject = {"reference": f"Patient/{each}"}
        observation = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": subject}
        load("PUT", f"Observation/{each}-plain", {**observation, "id": f"{each}-plain"})
        labelled = {"security": [{"system": "http://x", "code": "R"}]}
        load("PUT", f"Observation/{each}-labelled", {**observation, "id": f"{each}-labelled", "meta": labelled})
    yield found
    store.close()


@pytest.fixture
def forbid(people: dict[str, Caller]) -> Iterator[Callable[..., None]]:
    """Stores a Consent of patient p, and takes it away afterwards."""
    made: list[str] = []

    def store(provision: Json, **fields: Any) -> None:
        answer = people["loader"]("POST", "Consent", consent(provision, **fields))
        assert answer.status_code == 201, answer.data
        made.append(answer.json["id"])  # type: ignore[index]  # checked above

    yield store
    for each in made:
        assert people["loader"]("DELETE", f"Consent/{each}").status_code == 204


ALL: Final = {"p-plain", "p-labelled", "q-plain", "q-labelled"}


def test_a_prohibition_counts_from_its_commit_to_its_end_at_every_door(people: dict[str, Caller], forbid: Callable[..., None]) -> None:
    doctor, other = people["doctor"], people["other"]
    assert doctor.ids("Observation") == ALL
    link = doctor("GET", "Observation?_count=1").json["link"][-1]["url"]  # type: ignore[index]  # there are four
    forbid({"type": "deny", "actor": [actor("Practitioner/d1")]})
    assert doctor.ids("Observation") == {"q-plain", "q-labelled"}
    assert doctor("GET", "Observation?_summary=count").json["total"] == 2  # type: ignore[index]  # a Bundle
    assert doctor("GET", link.removeprefix("http://localhost/fhir/")).status_code == 400, "a page link made before opens nothing"
    for path in ("Observation/p-plain", "Observation/p-plain/_history", "Observation/p-plain/_history/1"):
        assert doctor("GET", path).status_code == 404, path
    assert doctor.ids("Patient?_has:Observation:patient:status=final") == {"q"}
    assert doctor.ids("Patient?_id=p&_revinclude=Observation:patient") == {"p"}
    assert not doctor.ids("Patient/p/$everything") & ALL
    assert "p-plain" not in doctor("GET", "_history").text
    assert (
        doctor("PUT", "Observation/p-plain", {"resourceType": "Observation", "id": "p-plain", "status": "final", "code": {"text": "y"}}).status_code
        == 403
    )
    mine = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": {"reference": "Patient/p"}}
    assert doctor("POST", "Observation", mine).status_code == 403
    assert doctor("POST", "Observation", mine, If_None_Exist="_id=p-plain").status_code == 403
    assert other.ids("Observation") == ALL
    assert people["patient"].ids("Observation") == {"p-plain", "p-labelled"}
    assert people["loader"].ids("Observation") == ALL


def test_afterwards_nothing_is_forbidden(people: dict[str, Caller]) -> None:
    assert people["doctor"].ids("Observation") == ALL


def test_labels_hide_what_carries_them(people: dict[str, Caller], forbid: Callable[..., None]) -> None:
    forbid({"provision": [{"type": "deny", "securityLabel": [{"system": "http://x", "code": "R"}]}]})
    assert people["doctor"].ids("Observation") == ALL - {"p-labelled"}
    assert people["admin"].ids("Observation") == ALL - {"p-labelled"}
    assert people["patient"].ids("Observation") == {"p-plain", "p-labelled"}


def test_where_somebody_works_decides_as_soon_as_it_is_written(people: dict[str, Caller], forbid: Callable[..., None]) -> None:
    forbid({"type": "deny", "provision": [{"type": "permit", "actor": [actor("Organization/o1")]}]})
    doctor = people["doctor"]
    assert doctor.ids("Observation?patient=p") == set()
    role = {"practitioner": {"reference": "Practitioner/d1"}, "organization": {"reference": "Organization/o1"}, "active": True}
    people["loader"]("PUT", "PractitionerRole/r1", {"resourceType": "PractitionerRole", "id": "r1", **role})
    assert doctor.ids("Observation?patient=p") == {"p-plain", "p-labelled"}
    people["loader"]("PUT", "PractitionerRole/r1", {"resourceType": "PractitionerRole", "id": "r1", **role, "active": False})
    assert doctor.ids("Observation?patient=p") == set()


def test_a_doctor_breaks_the_glass_with_a_reason_and_nobody_else_does(people: dict[str, Caller], forbid: Callable[..., None]) -> None:
    forbid({"type": "deny"})
    doctor = people["doctor"]
    assert doctor("GET", "Observation/p-plain").status_code == 404
    assert doctor("GET", "Observation/p-plain", X_Break_Glass="unconscious in the waiting room").status_code == 200
    assert doctor.ids("Observation", X_Break_Glass="unconscious in the waiting room") == ALL
    assert doctor("GET", "Observation/p-plain", X_Break_Glass=" x ").status_code == 400
    for who in ("admin", "patient", "loader"):
        assert people[who]("GET", "Observation/p-plain", X_Break_Glass="a good reason").status_code == 403
    assert doctor("GET", "Observation/p-plain").status_code == 404


def test_breaking_the_glass_stands_in_the_trail_with_its_reason(people: dict[str, Caller], forbid: Callable[..., None]) -> None:
    forbid({"type": "deny"})
    reason = "found on the pavement"
    assert people["doctor"]("GET", "Observation/p-plain", X_Break_Glass=reason, X_Request_Id="glass-1").status_code == 200
    found = people["admin"]("GET", "AuditEvent?subtype=110127").json
    assert found is not None
    told = [each["resource"] for each in found["entry"] if reason in str(each["resource"])]
    assert len(told) == 1
    assert "glass-1" in str(told[0])
    assert "doctor" in str(told[0]["agent"])


def test_no_app_breaks_the_glass_for_its_doctor() -> None:
    doctor = Grant("dora", frozenset({"doctor"}), ())
    assert broken(doctor, "unconscious in the waiting room").break_glass == "unconscious in the waiting room"
    with pytest.raises(Outcome, match="none of their apps"):
        broken(replace(doctor, client="growth-chart"), "unconscious in the waiting room")


def test_readers_on_few_connections_see_a_consent_from_its_commit_on(people: dict[str, Caller], forbid: Callable[..., None]) -> None:
    doctor = people["doctor"]
    for _ in range(3):
        forbid({"type": "deny"})
        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(lambda path: doctor("GET", path).status_code, ["Observation/p-plain", "Observation/q-plain"] * 12))
        assert answers == [404, 200] * 12


def test_a_read_takes_one_connection_for_consents_and_itself(people: dict[str, Caller], monkeypatch: pytest.MonkeyPatch) -> None:
    assert people["doctor"]("GET", "Observation/p-plain").status_code == 200
    taken: list[Database] = []
    connection = Database.connection

    def counting(self: Database, **options: Any) -> Any:
        taken.append(self)
        return connection(self, **options)

    monkeypatch.setattr(Database, "connection", counting)
    assert people["doctor"]("GET", "Observation/p-plain").status_code == 200
    assert len(set(map(id, taken))) <= 2, "another is the audit trail's own"
    assert sum(each is taken[0] for each in taken) == 1
