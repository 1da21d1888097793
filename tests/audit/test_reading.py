"""AuditEvents as resources: every kind valid, found by every parameter, open to auditors alone, changed by nobody."""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fhir_server.access.audit import Event, record
from fhir_server.interactions.audit_trail import find, rendered
from fhir_server.search import matches
from fhir_server.spec import r4
from fhir_server.store import Store
from fhir_server.store.trail import KINDS
from fhir_server.store.trail.search import Entry
from fhir_server.validation import Validator
from tests.audit.conftest import Trail
from tests.interactions.conftest import Fhir, entry, issues, made, patient, unique

Json = dict[str, Any]

SENT = {
    "resourceType": "AuditEvent",
    "type": {"system": "http://terminology.hl7.org/CodeSystem/audit-event-type", "code": "rest"},
    "recorded": "2020-01-02T03:04:05.678901Z",
    "agent": [{"who": {"reference": "Patient/sent"}, "requestor": True, "name": "An app"}],
    "source": {"observer": {"display": "app"}},
}


def event(kind: Any, **fields: Any) -> Event:
    full: Json = {
        "actor": "anna@example.org",
        "account": "a1",
        "fhir_user": "Practitioner/7",
        "roles": ("doctor",),
        "client": "app",
        "session": "s1",
        "address": "192.0.2.1",
        "request_id": "r1",
        "type": "Observation",
        "resource": "o1",
        "version": 3,
        "patients": ("p1", "p2"),
        "query": "Observation?code=x",
        "detail": "as it was",
    }
    return Event(kind, **full | fields)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "received"])
def test_every_kind_is_a_valid_resource(shared: Trail, kind: Any) -> None:
    for each in (event(kind), Event(kind)):
        found = shared.store.append_event(each)
        resource = rendered(found)
        Validator(r4()).require(resource)
        assert shared.fhir.get(f"AuditEvent/{found.id}") == resource


def test_a_read_is_as_the_profile_has_it(shared: Trail) -> None:
    found = rendered(shared.store.append_event(event("read", patients=("p1",), query=None)))
    assert found["type"]["code"] == "rest"
    assert found["subtype"][0] == {"system": "http://hl7.org/fhir/restful-interaction", "code": "read", "display": "read"}
    assert (found["action"], found["outcome"]) == ("R", "0")
    types = [agent["type"]["coding"][0]["code"] for agent in found["agent"]]
    assert types == ["IRCP", "110152", "110153"]
    assert [agent["requestor"] for agent in found["agent"]] == [True, False, False]
    assert all("network" in agent and "who" in agent for agent in found["agent"][1:])
    person, data, request = found["entity"]
    assert (person["what"]["reference"], person["type"]["code"], person["role"]["code"]) == ("Patient/p1", "1", "1")
    assert (data["what"]["reference"], data["type"]["code"], data["role"]["code"]) == ("Observation/o1/_history/3", "2", "4")
    assert (request["what"]["identifier"]["value"], request["type"]["code"]) == ("r1", "XrequestId")


def test_a_search_is_as_the_profile_has_it(shared: Trail) -> None:
    person = made(shared.fhir, patient())
    [found] = shared.during(lambda: shared.fhir.get(f"Observation?patient={person}&code=x"))
    resource = shared.fhir.get(f"AuditEvent/{found['id']}")
    assert (resource["action"], resource["subtype"][0]["code"]) == ("E", "search")
    queries = [base64.b64decode(each["query"]).decode() for each in resource["entity"] if "query" in each]
    assert queries == [f"Observation?patient={person}&code=x"]
    assert [each["role"]["code"] for each in resource["entity"][:2]] == ["1", "24"]


def test_break_glass_tells_its_purpose(shared: Trail) -> None:
    resource = rendered(shared.store.append_event(event("break-glass", detail="unconscious")))
    assert resource["agent"][0]["purposeOfUse"][0]["coding"][0]["code"] == "BTG"
    assert resource["outcomeDesc"] == "unconscious"
    assert resource["subtype"][0]["code"] == "110127"


def test_an_event_that_a_client_sends_is_kept_as_it_came(shared: Trail) -> None:
    answer = shared.fhir.post("AuditEvent", {**SENT, "id": "mine", "meta": {"tag": [{"code": "x"}], "versionId": "9"}})
    assert answer["meta"]["versionId"] == "1"
    assert answer["meta"]["tag"] == [{"code": "x"}]
    assert {name: value for name, value in answer.items() if name not in ("id", "meta")} == SENT
    assert shared.fhir.get(f"AuditEvent/{answer['id']}") == answer
    assert answer["id"] in shared.fhir.ids("AuditEvent?patient=sent&date=2020-01-02")
    [(actor, kind)] = shared.sql("SELECT actor, kind FROM audit_event WHERE id = %s", int(answer["id"]))
    assert (actor, kind) == ("tester", "received")
    shared.fhir.post("AuditEvent", {"resourceType": "AuditEvent"}, 422)
    shared.fhir.post("AuditEvent", SENT | {"outcomeDesc": "x" * 70_000}, 413)
    shared.fhir.post("AuditEvent", SENT, 400, {"If-None-Exist": "date=2020"})
    shared.fhir.other(scope="system/AuditEvent.rs").post("AuditEvent", SENT, 403)


def test_nobody_changes_an_event_through_any_door(shared: Trail) -> None:
    identity = shared.fhir.post("AuditEvent", SENT)["id"]
    body = {**SENT, "id": identity}
    patching = [{"op": "replace", "path": "/action", "value": "D"}]
    for method, path, sent in (
        ("PUT", f"AuditEvent/{identity}", body),
        ("PUT", "AuditEvent/new", {**SENT, "id": "new"}),
        ("PUT", "AuditEvent?date=2020", body),
        ("PATCH", f"AuditEvent/{identity}", patching),
        ("PATCH", "AuditEvent?date=2020", patching),
        ("DELETE", f"AuditEvent/{identity}", None),
        ("DELETE", "AuditEvent?date=2020", None),
    ):
        answer = shared.fhir(method, path, sent)
        assert answer.status_code == 405, (method, path)
        assert "GET" in answer.headers["Allow"]
    writes = [
        entry("PUT", f"AuditEvent/{identity}", body),
        entry("PATCH", f"AuditEvent/{identity}", {"resourceType": "Binary", "contentType": "application/json-patch+json", "data": "W10="}),
        entry("DELETE", f"AuditEvent/{identity}"),
        entry("DELETE", "AuditEvent?date=2020"),
    ]
    for each in writes:
        batch = shared.fhir.bundle("batch", each)
        assert batch["entry"][0]["response"]["status"].startswith("405")
        shared.fhir.bundle("transaction", entry("POST", "Patient", patient()), each, status=405)
    said = shared.fhir.bundle("transaction", entry("POST", "AuditEvent", SENT), status=405)
    assert "batch" in issues(said)
    assert shared.fhir.bundle("batch", entry("POST", "AuditEvent", SENT))["entry"][0]["response"]["status"].startswith("201")
    assert shared.fhir.get(f"AuditEvent/{identity}/_history")["total"] == 1


def _readers(fhir: Fhir) -> list[tuple[str, Fhir]]:
    from fhir_server.access import issue
    from tests.interactions.conftest import SECRET

    def of(**claims: Any) -> Fhir:
        given = {"role": None, "user": "x", "patient": None, "scope": None, "ttl": 3600, "now": datetime.now(UTC).timestamp(), **claims}
        return replace(fhir, token=issue(SECRET, **given))

    return [
        ("doctor", of(role="doctor")),
        ("staff", of(role="staff")),
        ("patient", of(role="patient", patient="p1")),
        ("doctor with a wide scope", of(role="doctor", scope="user/*.cruds")),
        ("app of a patient", of(patient="p1", scope="patient/*.rs")),
        ("app", of(scope="system/Patient.cruds system/Observation.rs")),
    ]


def test_nothing_of_the_trail_shows_to_others_through_any_door(shared: Trail) -> None:
    person = made(shared.fhir, patient())
    record(shared.store, event("read", patients=(person, "p1"), actor="leaked"))
    identity = shared.fhir.ids("AuditEvent?agent-name=leaked")[0]
    shared.fhir.put("Patient/p1", patient(id="p1"), 201)
    for name, reader in _readers(shared.fhir):
        for path in (
            f"AuditEvent/{identity}",
            f"AuditEvent/{identity}/_history/1",
            f"AuditEvent/{identity}/_history",
            "AuditEvent",
            "AuditEvent?_summary=count",
        ):
            assert reader("GET", path).status_code == 403, (name, path)
        for path in (
            "Patient/p1/AuditEvent",
            "Patient/p1/*",
            "Patient/p1/$everything",
            "Patient/p1/$everything?_type=AuditEvent",
            "Patient?_has:AuditEvent:patient:action=R",
            "Patient?_revinclude=AuditEvent:patient",
            "?_type=AuditEvent",
            "_history",
            "AuditEvent/_history",
            "$graphql?query={AuditEventList{id}}",
            f'$graphql?query={{AuditEvent(id:"{identity}"){{id}}}}',
            'Patient/p1/$graphql?query={AuditEventList(_reference:"patient"){id}}',
        ):
            answer = reader("GET", path)
            assert b"leaked" not in answer.data, (name, path)
            assert b"AuditEvent/" not in answer.data.replace(b"AuditEvent/_history", b"").replace(f"AuditEvent/{identity}".encode(), b""), (
                name,
                path,
            )


def test_not_even_an_auditor_reaches_the_trail_by_other_ways(shared: Trail) -> None:
    person = made(shared.fhir, patient())
    shared.fhir.get(f"Patient/{person}")
    assert "entry" not in shared.fhir.get(f"Patient?_id={person}&_has:AuditEvent:patient:action=R")
    assert len(shared.fhir.get(f"Patient/{person}/$everything")["entry"]) == 1
    assert "entry" not in shared.fhir.get("?_type=AuditEvent")
    for query in ("entity:Patient.name=x", "_has:Provenance:target:recorded=2020", "_include=AuditEvent:patient", "type:in=http://x"):
        assert shared.fhir("GET", f"AuditEvent?{query}").status_code == 400, query


def test_reading_the_trail_is_in_the_trail(shared: Trail) -> None:
    auditor = shared.fhir.other(user="auditor", scope="system/AuditEvent.rs")
    record(shared.store, event("read", patients=("watched",)))
    [found] = shared.during(lambda: auditor.get("AuditEvent?patient=watched"))
    assert (found["kind"], found["type"], found["actor"], found["patients"][-1]) == ("search", "AuditEvent", "auditor", "watched")
    [again] = shared.during(lambda: auditor.get(f"AuditEvent/{found['id']}"))
    assert (again["kind"], again["type"], again["resource"]) == ("read", "AuditEvent", str(found["id"]))


@pytest.fixture(scope="module")
def filled(make_fhir: Any, fresh_database: Any) -> Iterator[tuple[Trail, list[Json]]]:
    """A trail of random events, and all of them as resources."""
    url = fresh_database()
    trail = Trail(url, make_fhir(url))
    chance = random.Random(4)
    start = datetime(2026, 3, 1, tzinfo=UTC)
    for n in range(400):
        kind = chance.choice([kind for kind in KINDS if kind != "received"])
        record(
            trail.store,
            event(
                kind,
                actor=chance.choice(["anna@example.org", "Anna", "bernd", "Ärztin", "system"]),
                fhir_user=chance.choice(["Practitioner/7", "Patient/p1", None]),
                roles=chance.choice([("doctor",), ("staff", "admin"), ()]),
                outcome=chance.choice([0, 0, 4, 8]),
                address=chance.choice(["192.0.2.1", "2001:db8::1", None]),
                patients=tuple(sorted(chance.sample(["p1", "p2", "p3"], chance.randint(0, 2)))),
                type=chance.choice(["Observation", "account", None]),
                recorded=start + timedelta(minutes=chance.randint(0, 50_000), milliseconds=n),
            ),
        )
        if n % 20 == 0:
            trail.fhir.post("AuditEvent", {**SENT, "action": chance.choice("CRUDE"), "recorded": (start + timedelta(hours=n)).isoformat()})
    yield trail, [rendered(each) for each in everything(trail.store)]
    trail.store.close()


def everything(store: Store) -> list[Entry]:
    from fhir_server.search import SYSTEM, Statement

    with store.snapshot(SYSTEM) as db:
        return db.events(Statement("TRUE"), 10_000)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "action=R",
        "action=R,C",
        "action:not=R",
        "outcome=4",
        "outcome=http://terminology.hl7.org/CodeSystem/audit-event-outcome|0",
        "date=2026-03-05",
        "date=ge2026-03-05&date=lt2026-03-20",
        "date=ge2026-03-05T10:11:12.345Z",
        "date=ne2026-03",
        "_lastUpdated=gt2020",
        "_lastUpdated=lt2026-03-15",
        "patient=p1",
        "patient=Patient/p1,Patient/p2",
        "patient=Patient/p1&patient=p2",
        "agent=Practitioner/7",
        "agent=Patient/p1",
        "agent-name=anna",
        "agent-name=arz",
        "agent-name:exact=Anna",
        "agent-name:contains=example",
        "agent-role=doctor",
        "agent-role:not=doctor",
        "type=rest",
        "type=http://dicom.nema.org/resources/ontology/DCM|110114",
        "subtype=read,search",
        "subtype=http://dicom.nema.org/resources/ontology/DCM|110122",
        "subtype=sign-in-failed",
        "type=http://dicom.nema.org/resources/ontology/DCM|",
        "entity=Patient/p3",
        "entity=Observation/o1",
        "entity-type=1",
        "entity-role=24",
        "address=192.0",
        "address=2001:DB8",
        "source:missing=false",
        "altid=a1",
        "policy=urn:session:s1",
        "patient=p1&type=rest&outcome=0&date=ge2026-03-10",
    ],
)
def test_a_search_finds_what_matches_and_nothing_else(filled: tuple[Trail, list[Json]], query: str) -> None:
    trail, resources = filled
    registry = trail.store.registry
    asked = registry.parse("AuditEvent", [tuple(part.split("=", 1)) for part in query.split("&") if part], strict=True)  # type: ignore[misc]
    expected = [each["id"] for each in resources if matches(asked, each, registry)]
    found = trail.fhir.ids(f"AuditEvent?{query}&_count=37")
    # Each search leaves events of its own, which later ones may find.
    known = {each["id"] for each in resources}
    assert [each for each in found if each in known] == expected
    counted = trail.fhir.get(f"AuditEvent?{query}&_summary=count")["total"]
    assert counted >= len(found)
    assert counted - len(found) <= 60


def test_pages_go_by_time_either_way(filled: tuple[Trail, list[Json]]) -> None:
    trail, resources = filled
    known = {each["id"]: each["recorded"] for each in resources if each["recorded"].startswith("2026-0")}
    ids = [each for each in trail.fhir.ids("AuditEvent?date=lt2026-11&_sort=date&_count=50") if each in known]
    assert len(ids) == len(known) == len(set(ids))
    back = [each for each in trail.fhir.ids("AuditEvent?date=lt2026-11&_sort=-date&_count=50") if each in known]
    assert back == ids[::-1]
    own = [known[each] for each in ids if known[each].endswith("Z")]
    assert own == sorted(own)


def test_a_page_link_serves_its_owner_alone(filled: tuple[Trail, list[Json]]) -> None:
    trail, _ = filled
    page = trail.fhir.get("AuditEvent?action=R&_count=2")
    (link,) = [each["url"] for each in page["link"] if each["relation"] == "next"]
    assert trail.fhir("GET", link).status_code == 200
    assert trail.fhir.other(user="other").get(link, 400)
    assert trail.fhir.get(link.replace("action=R", "action=C"), 400)


def test_a_search_that_would_look_at_too_much_is_refused(filled: tuple[Trail, list[Json]], monkeypatch: pytest.MonkeyPatch) -> None:
    trail, _ = filled
    monkeypatch.setattr(find, "MAX_LOOKED_AT", 300)
    monkeypatch.setattr(find, "_AT_ONCE", 100)
    answer = trail.fhir("GET", "AuditEvent?altid=nobody")
    assert answer.status_code == 422
    assert "date, patient" in issues(answer.get_json())
    assert "total" in trail.fhir.get("AuditEvent?action=R&_summary=count")


def test_parts_of_an_event_can_be_asked_for(shared: Trail) -> None:
    found = shared.store.append_event(event("read"))
    part = shared.fhir.get(f"AuditEvent/{found.id}?_elements=action")
    assert "entity" not in part
    page = shared.fhir.get(f"AuditEvent?_id={found.id}&_summary=true")
    assert page["entry"][0]["resource"]["meta"]["tag"][0]["code"] == "SUBSETTED"
    assert shared.fhir("GET", f"AuditEvent/{found.id}", headers={"If-None-Match": 'W/"1"'}).status_code == 304
    for path in ("AuditEvent/0", "AuditEvent/999999999999", "AuditEvent/x", f"AuditEvent/{found.id}/_history/2", "AuditEvent/99999999999999999999"):
        assert shared.fhir("GET", path).status_code == 404, path
    for query in ("nonsense=1", "_sort=action", "_sort=date,-date", "_cursor=x"):
        assert shared.fhir("GET", f"AuditEvent?{query}").status_code == 400, query
    assert shared.fhir("GET", f"AuditEvent?_id=x,{unique()},-1,{found.id}").get_json()["total"] == 1
