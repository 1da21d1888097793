"""https://github.com/smart-on-fhir/client-py, as it is published. Its models refuse what R4 does not know."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import requests
from fhirclient.client import FHIRClient
from fhirclient.models.bundle import Bundle
from fhirclient.models.capabilitystatement import CapabilityStatement
from fhirclient.models.fhirdate import FHIRDate
from fhirclient.models.humanname import HumanName
from fhirclient.models.observation import Observation
from fhirclient.models.operationoutcome import OperationOutcome
from fhirclient.models.patient import Patient
from fhirclient.server import FHIRNotFoundException, FHIRUnauthorizedException

WEIGHT = "http://loinc.org|29463-7"


@pytest.fixture
def server(live: SimpleNamespace) -> Any:
    # The token comes from outside: the library takes none of its own.
    client = FHIRClient(settings={"app_id": "tests", "api_base": live.base})
    client.server.session.headers["Authorization"] = f"Bearer {live.token}"
    return client.server


def test_the_metadata_are_read_without_a_token(live: SimpleNamespace) -> None:
    client = FHIRClient(settings={"app_id": "tests", "api_base": live.base})
    # It has found where tokens are had, and has none.
    assert not client.prepare()
    statement = client.server.capabilityStatement
    assert (statement.fhirVersion, statement.kind) == ("4.0.1", "instance")
    assert statement.implementation.url == live.base
    with pytest.raises(FHIRUnauthorizedException) as refused:
        Patient.read("ana-rivera", client.server)
    assert OperationOutcome(refused.value.response.json()).issue[0].code == "login"


def test_the_capability_statement_fits_its_model(live: SimpleNamespace) -> None:
    sent = requests.get(f"{live.base}/metadata", timeout=30).json()
    statement = CapabilityStatement(sent)
    assert statement.as_json().keys() == sent.keys()
    by_type = {resource.type: resource for resource in statement.rest[0].resource}
    assert len(by_type) == 146
    assert {"identifier", "name", "birthdate", "_id"} <= {param.name for param in by_type["Patient"].searchParam}


def test_a_resource_from_its_creation_to_its_end(server: Any) -> None:
    patient = Patient()
    patient.name = [HumanName({"family": "Fhirclient", "given": ["One"]})]
    patient.birthDate = FHIRDate("1980-05-06")
    created = patient.create(server)
    read = Patient.read(created["id"], server)
    assert read.name[0].family == "Fhirclient"
    assert read.meta.versionId == "1"
    read.active = True
    read.update(server)
    again = Patient.read(read.id, server)
    assert (again.active, again.meta.versionId) == (True, "2")
    history = Bundle.read_from(f"Patient/{read.id}/_history", server)
    assert [entry.resource.meta.versionId for entry in history.entry] == ["2", "1"]
    assert [entry.request.method for entry in history.entry] == ["PUT", "POST"]
    again.delete(server)
    with pytest.raises(requests.HTTPError) as deleted:
        Patient.read(read.id, server)
    assert deleted.value.response.status_code == 410
    history = Bundle.read_from(f"Patient/{read.id}/_history", server)
    assert history.entry[0].resource is None
    assert history.entry[0].request.method == "DELETE"


def test_a_search_goes_through_every_page(server: Any) -> None:
    search = Observation.where({"patient": "ana-rivera", "code": WEIGHT, "_sort": "-date", "_count": "20"})
    pages = list(search.perform_iter(server))
    assert [len(page.entry) for page in pages] == [20, 20, 5]
    found = list(search.perform_resources_iter(server))
    dates = [observation.effectiveDateTime.as_json() for observation in found]
    assert len({observation.id for observation in found}) == 45
    assert dates == sorted(dates, reverse=True)
    assert found[0].subject.resolved(Patient).id == "ana-rivera"


def test_included_resources_resolve_without_another_request(server: Any) -> None:
    search = Observation.where({"patient": "joon-park"}).include("subject")
    bundle = next(iter(search.perform_iter(server)))
    observation = next(entry.resource for entry in bundle.entry if entry.search.mode == "match")
    assert observation.subject.resolved(Patient).name[0].family == "Park"


def test_every_example_fits_its_model(server: Any) -> None:
    bundle = Bundle.read_from("_history?_count=1000", server)
    stored = [entry.resource for entry in bundle.entry if entry.resource is not None]
    kinds = {resource.resource_type for resource in stored}
    assert {"Patient", "Observation", "Encounter", "Immunization", "MedicationRequest", "PractitionerRole"} <= kinds


def test_faults_are_operation_outcomes(server: Any, live: SimpleNamespace) -> None:
    with pytest.raises(FHIRNotFoundException) as missing:
        Patient.read("nobody", server)
    assert OperationOutcome(missing.value.response.json()).issue[0].code == "not-found"
    headers = {"Authorization": f"Bearer {live.token}"}
    refused = requests.post(f"{live.base}/Patient", json={"resourceType": "Patient", "gender": "x"}, headers=headers, timeout=30)
    assert refused.status_code == 422
    issue = OperationOutcome(refused.json()).issue[0]
    assert (issue.severity, issue.code, issue.expression) == ("error", "code-invalid", ["Patient.gender"])
