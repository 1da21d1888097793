"""The door with everything behind it, on a real database."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from fhir_server.app import create_app
from fhir_server.settings import Settings
from tests.rest.conftest import SECRET, bearer

XML = {"Accept": "application/fhir+xml", "Content-Type": "application/fhir+xml"}
DIV = '<div xmlns="http://www.w3.org/1999/xhtml"><p title="a &gt; b">&quot;Jim&quot;<br></br></p></div>'


@pytest.fixture
def client(database_url: str, tmp_path: Path) -> Iterator[FlaskClient]:
    thresholds = gc.get_threshold()
    app = create_app(Settings(data=tmp_path, jwt_secret=SECRET, database_url=database_url))
    yield app.test_client()
    app.extensions["store"].close()
    # A process that serves collects less often, and never what it began with; this one goes on with other tests.
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*thresholds)


def test_what_goes_in_as_json_comes_out_as_xml_and_back(client: FlaskClient) -> None:
    narrative = {"status": "generated", "div": DIV}
    sent = {"resourceType": "Observation", "text": narrative, "status": "final", "code": {"text": "x"}, "valueQuantity": {"value": 7}}
    made = client.post("/fhir/Observation", json=sent, headers={**bearer(), "Content-Type": "application/fhir+json"})
    assert made.status_code == 201
    address = made.headers["Location"].removeprefix("http://localhost").partition("/_history")[0]
    document = client.get(address, headers={**bearer(), **XML}).data.replace(b'"7"', b'"7.10"')
    changed = client.put(address, data=document, headers={**bearer(), **XML, "If-Match": 'W/"1"'})
    assert (changed.status_code, changed.headers["ETag"]) == (200, 'W/"2"')
    read = client.get(address, headers=bearer())
    assert b'"value":7.10' in read.data
    assert read.get_json()["text"] == narrative
    assert client.put(address, data=document, headers={**bearer(), **XML, "If-Match": 'W/"1"'}).status_code == 412
    assert client.get(address, headers={**bearer(), "If-None-Match": 'W/"2"'}).status_code == 304


def test_health_metadata_and_operations(client: FlaskClient) -> None:
    assert client.get("/health/ready").status_code == 200
    statement = client.get("/fhir/metadata?_format=xml")
    assert (statement.status_code, statement.data[:38]) == (200, b'<?xml version="1.0" encoding="UTF-8"?>')
    answer = client.post("/fhir/Patient/$validate", json={"resourceType": "Patient", "gender": "x"}, headers=bearer())
    assert (answer.status_code, answer.get_json()["issue"][0]["expression"]) == (200, ["Patient.gender"])
    assert client.get("/fhir/Patient/$nothing", headers=bearer()).status_code == 404


@pytest.mark.parametrize("path", ["/fhir?_type=Patient", "/fhir", "/fhir/Patient?name=%00", "/fhir/Patient?_count=-1", "/fhir/Patient/x?_summary=y"])
def test_odd_requests_are_never_a_fault_of_the_server(client: FlaskClient, path: str) -> None:
    answer = client.get(path, headers=bearer())
    assert answer.status_code < 500
    assert answer.get_json()["resourceType"] in {"Bundle", "OperationOutcome"}
