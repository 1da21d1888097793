"""SearchParameters over HTTP: what is refused, what becomes searchable and when, and the server's own definitions."""

from __future__ import annotations

import gc
import re
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fhir_server.operations import conformance
from fhir_server.search.definitions import faults
from fhir_server.settings import CANON
from fhir_server.spec import r4
from fhir_server.store import Store
from fhir_server.validation import Validator

from .conftest import Fhir, Json, MakeFhir, entry, issues


def parameter(code: str = "label", expression: str | None = "Patient.name.text", **fields: Any) -> Json:
    resource = {
        "resourceType": "SearchParameter",
        "url": f"urn:{code}",
        "name": "Label",
        "status": "active",
        "description": "A label",
        "code": code,
        "base": ["Patient"],
        "type": "string",
        "expression": expression,
        **fields,
    }
    return {key: value for key, value in resource.items() if value is not None}


def patient(text: str) -> Json:
    return {"resourceType": "Patient", "name": [{"text": text, "family": f"F{text}"}]}


def store_of(fhir: Fhir) -> Store:
    store = fhir.app.extensions["store"]
    assert isinstance(store, Store)
    return store


def index(fhir: Fhir) -> None:
    store_of(fhir).index_now(patience=0)


@pytest.fixture
def own(make_fhir: MakeFhir, fresh_database: Callable[[], str]) -> Iterator[Fhir]:
    """A server over a database of its own."""
    made = make_fhir(fresh_database())
    yield made
    made.close()


WRONG: list[tuple[Json, str, str]] = [
    (parameter(expression="Patient.name.("), "expression", "FHIRPath: expected a name .* at character 14"),
    (parameter(expression="Patient.name."), "expression", "FHIRPath: .* at character 14"),
    (parameter(expression="Patient.name.where(use ="), "expression", "FHIRPath: .* at character"),
    (parameter(expression="'"), "expression", "FHIRPath: .*"),
    (parameter(expression="(" * 2_000 + "Patient.id"), "expression", "nested more than"),
    (parameter(expression="Patient.name" * 5_000), "expression", "characters"),
    (parameter(expression="Patient.nonsense"), "expression", "For Patient: its expression leads to nothing that its type can hold"),
    (parameter(expression="Observation.code", type="token"), "expression", "For Patient: its expression leads to nothing"),
    (parameter(expression="Patient.active"), "expression", "For Patient: its expression leads to nothing that its type can hold"),
    (parameter(expression="Patient.name.first().text"), "expression", "For Patient: it can be neither read as a path nor as a condition"),
    (parameter(expression="Patient.repeat(contact)"), "expression", "For Patient: it can be neither read as a path nor as a condition"),
    (parameter(expression="Patient.name.nonsense() = 'x'", type="token"), "expression", "For Patient: .*nonsense"),
    (parameter(expression="Patient.name.text", base=["Patient", "Observation"]), "expression", "For Observation: its expression leads to nothing"),
    (parameter(expression="Resource.nonsense", base=["Resource"]), "expression", "its expression leads to nothing"),
    (parameter(expression="Patient.extension.value.extension.value"), "expression", "For Patient: its expression leads to more than 500 places"),
    (parameter(expression=None), "expression", "A parameter that is active needs an expression"),
    (parameter(code="a.b"), "code", "'a.b' cannot stand in a search"),
    (parameter(code="_label"), "code", "'_label' cannot stand in a search"),
    (parameter(code="x" * 65), "code", "cannot stand in a search"),
    (parameter(code="organization", type="reference", expression="Patient.managingOrganization", base=["Patient"]), "", ""),
    (parameter(code="link", type="reference", expression="Patient.managingOrganization"), "code", "'link' of Patient cannot be defined anew"),
    (parameter(code="subject", base=["Observation"], type="reference", expression="Observation.focus"), "code", "cannot be defined anew"),
    (parameter(code="date", base=["Observation"], type="date", expression="Observation.issued"), "code", "cannot be defined anew"),
    (parameter(type="special"), "type", "Special parameters are code"),
    (parameter(type="nonsense"), "type", "nonsense"),
    (parameter(base=["Nonsense"]), "base[0]", "Nonsense"),
    (
        parameter(type="composite", base=["Observation"], expression="Observation", component=[{"definition": "urn:x", "expression": "value."}] * 2),
        "component[0].expression",
        "FHIRPath: ",
    ),
    (
        parameter(type="composite", base=["Observation"], expression="Observation", component=[{"definition": "urn:x", "expression": "value"}] * 2),
        "component",
        "For Observation: ",
    ),
]


@pytest.mark.parametrize(("body", "place", "text"), WRONG)
def test_a_wrong_one_is_refused_with_the_place_of_its_fault(fhir: Fhir, body: Json, place: str, text: str) -> None:
    if not place:
        # This one is the specification's own, word for word: nothing is wrong with it.
        body = {**body, "url": r4().search_params("Patient")["organization"].url}
        assert faults(body, store_of(fhir).registry) == []
        return
    outcome = fhir.post("SearchParameter", body, 422)
    assert outcome["issue"][0]["expression"] == [f"SearchParameter.{place}"]
    assert re.search(text, issues(outcome)), issues(outcome)


def test_through_every_door(own: Fhir) -> None:
    wrong = parameter(expression="Patient.nonsense")
    made = own.post("SearchParameter", parameter(status="draft"))
    own.put(f"SearchParameter/{made['id']}", {**wrong, "id": made["id"]}, 422)
    changes = [{"op": "replace", "path": "/status", "value": "active"}, {"op": "replace", "path": "/expression", "value": "Patient.nonsense"}]
    assert own("PATCH", f"SearchParameter/{made['id']}", changes).status_code == 422
    outcome = own.bundle("transaction", entry("POST", "SearchParameter", wrong), status=422)
    assert outcome["issue"][0]["expression"] == ["Bundle.entry[0].resource.expression"]
    assert own.get("SearchParameter?_summary=count")["total"] == 1


def test_a_validation_tells_the_same(fhir: Fhir) -> None:
    def told(body: Json) -> list[list[str]]:
        return [issue["expression"] for issue in fhir.post("SearchParameter/$validate", body, 200)["issue"] if issue["severity"] == "error"]

    assert told(parameter(expression="Patient.nonsense")) == [["SearchParameter.expression"]]
    assert told(parameter()) == []


def test_a_draft_may_be_wrong_and_is_not_searched_by(own: Fhir) -> None:
    own.post("SearchParameter", parameter(status="draft", expression="Patient.nonsense"))
    own.get("SearchParameter/$status")
    assert "label" in issues(own.get("Patient?label=x", 400))


def test_a_posted_one_is_indexed_and_then_searchable(own: Fhir) -> None:
    own.post("Patient", patient("Before"))
    made = own.post("SearchParameter", parameter())
    refusal = own.get("Patient?label=before", 400)
    assert "'label' of Patient is being indexed, 0 % done; try again later" in issues(refusal)
    assert refusal["issue"][0]["code"] == "transient"
    status = own.get(f"SearchParameter/{made['id']}/$status")["parameter"]
    assert status[0] == {"name": "ready", "valueBoolean": False}
    assert {part["name"]: part.get("valueCode", part.get("valueInteger")) for part in status[1]["part"][:3]} == {
        "type": "Patient",
        "code": "label",
        "percent": 0,
    }
    assert status[1]["part"][3]["valueReference"] == {"reference": f"SearchParameter/{made['id']}"}
    own.post("Patient", patient("Between"))
    index(own)
    assert own.get("SearchParameter/$status")["parameter"] == [{"name": "ready", "valueBoolean": True}]
    assert len(own.ids("Patient?label=before")) == len(own.ids("Patient?label=between")) == 1
    assert len(own.ids("Patient?_sort=label")) == 2
    (rest,) = own.get("metadata")["rest"]
    stated = {param["name"]: param for kind in rest["resource"] if kind["type"] == "Patient" for param in kind["searchParam"]}
    assert stated["label"] == {"name": "label", "definition": "urn:label", "type": "string"}


def test_a_conditional_write_by_a_new_parameter(own: Fhir, make_fhir: MakeFhir) -> None:
    other = make_fhir(str(store_of(own)._numbers._pool.conninfo))
    own.post("SearchParameter", parameter())
    index(own)
    first = other.post("Patient", patient("Once"), headers={"If-None-Exist": "label:exact=Once"})
    again = own.post("Patient", patient("Once"), 200, headers={"If-None-Exist": "label:exact=Once"})
    other.close()
    assert again["id"] == first["id"]


def test_who_may_not_read_search_parameters_is_told_nothing_of_them(fhir: Fhir) -> None:
    fhir.other(scope="system/Patient.rs").get("SearchParameter/$status", 403)
    fhir.get("Patient/$status", 404)


def test_an_expression_that_fails_on_a_resource_does_not_keep_it_from_being_written(own: Fhir) -> None:
    own.post("SearchParameter", parameter("odd", "Patient.name.single().family = 'A'", type="token"))
    index(own)
    made = own.post("Patient", {"resourceType": "Patient", "name": [{"family": "A"}, {"family": "B"}]})
    own.post("Patient", {"resourceType": "Patient", "name": [{"family": "A"}]})
    assert len(own.ids("Patient?odd=true")) == 1
    assert made["id"] not in own.ids("Patient?odd=true")


def test_the_definitions_that_come_along_are_valid(fhir: Fhir) -> None:
    validator = Validator(r4())
    found = [resource for resource, _ in conformance.definitions()]
    assert {f"{resource['resourceType']}/{resource['id']}" for resource in found} >= {
        *(f"SearchParameter/{name}" for name in ("queue-zone", "billing-template", "Invoice-due", "ChargeItemDefinition-code", "Slot-end")),
        *(f"StructureDefinition/{name}" for name in ("queue-priority", "billing-template", "billing-trigger", "billing-applies-to")),
        *(f"StructureDefinition/{name}" for name in ("credits-invoice", "invoice-balance", "hold-expires", "charge-price")),
        "CodeSystem/queue-zone",
        "ValueSet/queue-zone",
    }
    for resource in found:
        assert validator.check(resource) == []
        assert resource["url"] == f"{CANON}/{resource['resourceType']}/{resource['id']}"
        if resource["resourceType"] == "SearchParameter":
            assert faults(resource, store_of(fhir).registry) == []


def extension(name: str, *parts: Json, **value: Any) -> Json:
    return {"url": f"{CANON}/StructureDefinition/{name}", **({"extension": list(parts)} if parts else value)}


def test_the_definitions_that_come_along_are_searchable_at_once(own: Fhir) -> None:
    store = store_of(own)
    count = len(conformance.definitions())
    assert conformance.install(store) == count
    assert conformance.install(store) == 0
    store.index_now()
    assert own.get("StructureDefinition/queue-priority")["url"] == f"{CANON}/StructureDefinition/queue-priority"
    assert own.get(f"CodeSystem?url={CANON}/CodeSystem/queue-zone")["total"] == 1
    zone = {"coding": [{"system": f"{CANON}/CodeSystem/queue-zone", "code": "emergency", "display": "Red \u2013 Emergency"}]}
    priority = extension("queue-priority", {"url": "zone", "valueCodeableConcept": zone}, {"url": "basis", "valueCode": "auto"})
    template = extension("billing-template", {"url": "template", "valueCanonical": "urn:template|2"}, {"url": "series", "valueCode": "A"})
    balance = extension(
        "invoice-balance",
        {"url": "paid", "valueMoney": {"value": 5, "currency": "EUR"}},
        {"url": "due", "valueMoney": {"value": 20, "currency": "EUR"}},
    )
    own.post("Encounter", {"resourceType": "Encounter", "status": "arrived", "class": {"code": "AMB"}, "extension": [priority]})
    own.post("Appointment", {"resourceType": "Appointment", "status": "proposed", "participant": [{"status": "accepted", "actor": {"display": "x"}}]})
    own.post("Invoice", {"resourceType": "Invoice", "status": "draft", "extension": [template, balance]})
    subject, code = {"reference": "Patient/x"}, {"text": "x"}
    own.post("ChargeItem", {"resourceType": "ChargeItem", "status": "billable", "subject": subject, "code": code, "extension": [template]})
    definition = {"resourceType": "ChargeItemDefinition", "url": "urn:template", "status": "active"}
    own.post("ChargeItemDefinition", {**definition, "code": {"coding": [{"system": "urn:codes", "code": "GP1"}]}})
    times = {"start": "2026-01-05T09:00:00Z", "end": "2026-01-05T09:15:00Z"}
    own.post("Slot", {"resourceType": "Slot", "schedule": {"reference": "Schedule/x"}, "status": "free", **times})
    for path, matches in {
        f"Encounter?queue-zone={CANON}/CodeSystem/queue-zone|emergency": 1,
        "Encounter?queue-zone=regular": 0,
        "Encounter?queue-zone=auto": 0,
        "Encounter?queue-zone:text=red": 1,
        "Appointment?queue-zone:missing=true": 1,
        "Invoice?billing-template=urn:template|2": 1,
        "Invoice?billing-template=urn:template|1": 0,
        "ChargeItem?billing-template=urn:template|2": 1,
        "Invoice?due=20": 1,
        "Invoice?due=gt10": 1,
        "Invoice?due=5": 0,
        "ChargeItemDefinition?code=urn:codes|GP1": 1,
        "Slot?end=le2026-01-05T09:15:00Z": 1,
        "Slot?end=lt2026-01-05T09:15:00Z": 0,
    }.items():
        assert own.get(path)["total"] == matches, path


def test_what_an_operator_changes_stays(own: Fhir) -> None:
    store = store_of(own)
    conformance.install(store)
    own("DELETE", "SearchParameter/Slot-end")
    kept = own.get("StructureDefinition/hold-expires")
    own.put("StructureDefinition/hold-expires", {**kept, "publisher": "Hillside"})
    assert conformance.install(store) == 0
    own.get("SearchParameter/Slot-end", 410)
    assert own.get("StructureDefinition/hold-expires")["publisher"] == "Hillside"


def test_parameters_of_before_are_let_go(own: Fhir) -> None:
    store = store_of(own)

    def everywhere() -> None:
        """Has every kind of request look at the parameters."""
        made = own.post("Patient", patient("kept"))
        own.put(f"Patient/{made['id']}", made)
        own.get("Patient?name=kept&_revinclude=Observation:subject")
        own.get(f"Patient/{made['id']}/$everything")
        own.get("metadata")

    everywhere()
    before = weakref.ref(store.registry)
    for code in ("one", "two", "three"):
        own.post("SearchParameter", parameter(code))
        index(own)
        everywhere()
    gc.collect()
    assert before() is None
