"""https://github.com/beda-software/fhir-py, as it is published."""

from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from fhirpy import SyncFHIRClient
from fhirpy.base.exceptions import AuthorizationError, ForbiddenError, MultipleResourcesFound, OperationOutcome, ResourceNotFound

WEIGHT = "http://loinc.org|29463-7"


@pytest.fixture
def client(live: SimpleNamespace) -> Any:
    # Its count() sends a parameter that FHIR does not have; whoever asks for leniency gets it.
    return SyncFHIRClient(live.base, authorization=f"Bearer {live.token}", extra_headers={"Prefer": "handling=lenient"})


def test_a_resource_from_its_creation_to_its_end(client: Any) -> None:
    patient = client.resource("Patient", name=[{"family": "Fhirpy", "given": ["One"]}])
    patient.save()
    assert patient["meta"]["versionId"] == "1"
    patient["name"][0]["given"].append("Two")
    patient.save()
    assert patient["meta"]["versionId"] == "2"
    read = client.reference("Patient", patient.id).to_resource()
    assert read.get_by_path(["name", 0, "given"]) == ["One", "Two"]
    history = client.execute(f"Patient/{patient.id}/_history", method="get")
    assert [entry["response"]["etag"] for entry in history["entry"]] == ['W/"2"', 'W/"1"']
    assert patient.delete() is None
    with pytest.raises(ResourceNotFound) as deleted:
        client.reference("Patient", patient.id).to_resource()
    assert '"OperationOutcome"' in str(deleted.value)


def test_fetch_all_follows_the_pages_to_the_end(client: Any) -> None:
    search = client.resources("Observation").search(patient="ana-rivera", code=WEIGHT).sort("-date").limit(7)
    assert len(search.fetch()) == 7
    everything = search.fetch_all()
    dates = [observation["effectiveDateTime"] for observation in everything]
    assert len({observation.id for observation in everything}) == len(everything) == 45
    assert dates == sorted(dates, reverse=True)


def test_count_first_and_get(client: Any) -> None:
    weights = client.resources("Observation").search(patient="ana-rivera", code=WEIGHT)
    assert weights.count() == 45
    newest = weights.sort("-date").first()
    assert newest["effectiveDateTime"] == "2024-07-22"
    patients = client.resources("Patient")
    assert patients.search(identifier="https://hillside.example.org/patients|1001").get().id == "ana-rivera"
    with pytest.raises(ResourceNotFound):
        patients.search(identifier="https://hillside.example.org/patients|9").get()
    with pytest.raises(MultipleResourcesFound):
        weights.get()


def test_search_by_date_prefixes_quantity_and_elements(client: Any) -> None:
    weights = client.resources("Observation").search(patient="ana-rivera", code=WEIGHT)
    of_a_month = weights.search(date__ge="2023-01-01", date__lt="2023-02-01").fetch_all()
    assert [observation["effectiveDateTime"][:7] for observation in of_a_month] == ["2023-01"] * len(of_a_month)
    assert of_a_month
    heavy = weights.search(value_quantity="ge83.5").fetch_all()
    assert heavy
    assert all(Decimal(str(observation["valueQuantity"]["value"])) >= Decimal("83.5") for observation in heavy)
    assert set(client.resources("Patient").search(_id="joon-park").elements("birthDate").fetch()[0]) >= {"id", "birthDate"}
    assert "address" not in client.resources("Patient").search(_id="joon-park").elements("birthDate").fetch()[0]


def test_includes_in_both_directions(client: Any) -> None:
    bundle = (
        client.resources("Observation").search(patient="joon-park").include("Observation", "encounter").include("Observation", "patient").fetch_raw()
    )
    modes = [(entry["resource"]["resourceType"], entry["search"]["mode"]) for entry in bundle["entry"]]
    assert sorted(modes) == [("Encounter", "include"), ("Observation", "match"), ("Observation", "match"), ("Patient", "include")]
    bundle = client.resources("Patient").search(_id="joon-park").revinclude("Immunization", "patient").fetch_raw()
    assert [entry["resource"]["resourceType"] for entry in bundle["entry"]] == ["Patient", *["Immunization"] * 3]


def test_conditional_update(client: Any) -> None:
    identifier = [{"system": "https://fhirpy.example.org", "value": "7"}]
    search = client.resources("Patient").search(identifier="https://fhirpy.example.org|7")
    made, created = search.update(client.resource("Patient", identifier=identifier))
    assert created
    updated, created = search.update(client.resource("Patient", identifier=identifier, active=False))
    assert (updated.id, updated["active"], created) == (made.id, False, False)
    assert search.get().id == made.id


def test_a_transaction_and_validation(client: Any) -> None:
    link = "urn:uuid:0f1e2d3c-4b5a-4697-8899-aabbccddeeff"
    patient = {"resourceType": "Patient", "name": [{"family": "Bundled"}]}
    condition = {"resourceType": "Condition", "subject": {"reference": link}, "code": {"text": "Cough"}}
    bundle = client.resource(
        "Bundle",
        type="transaction",
        entry=[
            {"fullUrl": link, "resource": patient, "request": {"method": "POST", "url": "Patient"}},
            {"resource": condition, "request": {"method": "POST", "url": "Condition"}},
        ],
    )
    answer = client.execute("", data=bundle.serialize())
    places = [entry["response"]["location"].split("/")[:2] for entry in answer["entry"]]
    assert [place[0] for place in places] == ["Patient", "Condition"]
    stored = client.reference("Condition", places[1][1]).to_resource()
    assert stored["subject"]["reference"] == "/".join(places[0])
    assert client.resource("Patient", name=[{"family": "Good"}]).is_valid()
    assert not client.resource("Patient", gender="unheard-of").is_valid()


def test_faults_are_the_exceptions_of_the_library(client: Any, live: SimpleNamespace) -> None:
    with pytest.raises(OperationOutcome) as invalid:
        client.resource("Patient", gender="unheard-of", birthDate="2020-02-30").save()
    assert [issue["expression"] for issue in invalid.value.resource["issue"]] == [["Patient.gender"], ["Patient.birthDate"]]
    with pytest.raises(ResourceNotFound, match="does not exist"):
        client.reference("Patient", "nobody").to_resource()
    with pytest.raises(OperationOutcome) as unknown:
        SyncFHIRClient(live.base, authorization=f"Bearer {live.token}").resources("Patient").search(colour="red").fetch()
    assert "colour" in unknown.value.resource["issue"][0]["diagnostics"]
    with pytest.raises(AuthorizationError, match="OperationOutcome"):
        SyncFHIRClient(live.base, authorization="Bearer wrong").resources("Patient").fetch()
    with pytest.raises(AuthorizationError, match="OperationOutcome"):
        SyncFHIRClient(live.base).resources("Patient").fetch()


def test_a_token_without_the_right_is_forbidden(live: SimpleNamespace) -> None:
    client = SyncFHIRClient(live.base, authorization=f"Bearer {live.patients_only}")
    assert client.resources("Patient").fetch()
    with pytest.raises(ForbiddenError, match="OperationOutcome"):
        client.resources("Observation").fetch()
    with pytest.raises(ForbiddenError):
        client.resource("Patient", active=True).save()


def test_its_own_kind_of_patch_is_refused_and_changes_nothing(client: Any) -> None:
    """It sends the changed elements as plain JSON, which is neither of the patches that FHIR has."""
    patient = client.resource("Patient", active=True)
    patient.save()
    with pytest.raises(OperationOutcome, match="JSON Patch"):
        client.reference("Patient", patient.id).patch(active=False)
    assert client.reference("Patient", patient.id).to_resource()["meta"]["versionId"] == "1"


def test_get_or_create_makes_one(client: Any) -> None:
    identifier = [{"system": "https://fhirpy.example.org", "value": "8"}]
    search = client.resources("Patient").search(identifier="https://fhirpy.example.org|8")
    first, created = search.get_or_create(client.resource("Patient", identifier=identifier))
    assert created
    second, created = search.get_or_create(client.resource("Patient", identifier=identifier))
    assert (second.id, created) == (first.id, False)


def test_refresh_brings_what_another_wrote(client: Any) -> None:
    patient = client.resource("Patient", active=True)
    patient.save()
    client.resource("Patient", id=patient.id, active=False).save()
    patient.refresh()
    assert patient["active"] is False


def test_count_under_strict_handling(live: SimpleNamespace) -> None:
    strict = SyncFHIRClient(live.base, authorization=f"Bearer {live.token}")
    assert strict.resources("Observation").search(patient="ana-rivera", code=WEIGHT).count() == 45
