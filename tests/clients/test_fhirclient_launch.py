"""Launches of https://github.com/smart-on-fhir/client-py, as it is published: in front of a person, from an EHR, and as a backend service."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import jwt
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import ec
from fhirclient.client import FHIRClient
from fhirclient.models.observation import Observation
from fhirclient.models.patient import Patient
from fhirclient.server import FHIRUnauthorizedException
from jwt.algorithms import ECAlgorithm

from .pages import Person

BACK = "http://127.0.0.1:3000/back"


@pytest.fixture
def register(live: SimpleNamespace) -> Callable[..., Any]:
    def register(**metadata: Any) -> Any:
        headers = {"Authorization": f"Bearer {live.call('token', '--role', 'admin')}"}
        answer = requests.post(f"{live.base.removesuffix('/fhir')}/oauth/register", json=metadata, headers=headers, timeout=30)
        assert answer.status_code == 201, answer.text
        return answer.json()

    return register


def person(live: SimpleNamespace, role: str, *options: str) -> Person:
    login = f"{uuid.uuid4().hex}@example.org"
    live.call("user", "add", login, "--role", role, "--password-stdin", *options, stdin="correct horse battery\n")
    return Person(login, "correct horse battery", lambda: str(live.call("user", "otp", login)))


@pytest.mark.parametrize("auth_method", ["none", "client_secret_basic"])
def test_a_patient_lets_the_app_in(live: SimpleNamespace, register: Callable[..., Any], auth_method: str) -> None:
    made = register(client_name="Tests", redirect_uris=[BACK], token_endpoint_auth_method=auth_method)
    settings = {
        "app_id": made["client_id"],
        "app_secret": made.get("client_secret"),
        "api_base": live.base,
        "redirect_uri": BACK,
        "scope": "openid fhirUser offline_access patient/*.read",
    }
    client = FHIRClient(settings=settings)
    assert not client.prepare()
    client.handle_callback(person(live, "patient", "--patient", "ana-rivera").let_in(client.authorize_url))
    assert client.ready
    assert (client.patient_id, client.patient.name[0].family) == ("ana-rivera", "Rivera")
    found = Observation.where({"code": "http://loinc.org|29463-7", "_count": "10"}).perform_resources_iter(client.server)
    assert {each.subject.reference for each in found} == {"Patient/ana-rivera"}
    with pytest.raises(Exception, match="404"):
        Patient.read("joon-park", client.server)
    before = client.server.auth.access_token
    assert client.reauthorize()
    assert client.server.auth.access_token != before
    assert Patient.read("ana-rivera", client.server).id == "ana-rivera"


def test_a_doctor_chooses_the_patient(live: SimpleNamespace, register: Callable[..., Any]) -> None:
    made = register(client_name="Tests", redirect_uris=[BACK], token_endpoint_auth_method="none")
    settings = {"app_id": made["client_id"], "api_base": live.base, "redirect_uri": BACK, "scope": "patient/Patient.rs patient/Observation.rs"}
    client = FHIRClient(settings=settings)
    client.prepare()
    doctor = person(live, "doctor")
    client.handle_callback(doctor.let_in(client.authorize_url, name="park", without=("patient/Observation.rs",)))
    assert client.patient.name[0].family == "Park"
    with pytest.raises(Exception, match="403"):
        list(Observation.where({"patient": "joon-park"}).perform_iter(client.server))


def test_an_ehr_opens_the_app(live: SimpleNamespace, register: Callable[..., Any]) -> None:
    launch_uri = "http://127.0.0.1:3000/launch"
    made = register(client_name="Tests", redirect_uris=[BACK], launch_uri=launch_uri, token_endpoint_auth_method="none")
    doctor = person(live, "doctor")
    url = doctor.open_app(live.base.removesuffix("/fhir"), made["client_id"], "park")
    given = dict(part.split("=", 1) for part in url.partition("?")[2].split("&"))
    settings = {"app_id": made["client_id"], "api_base": unquote(given["iss"]), "redirect_uri": BACK, "scope": "patient/*.rs"}
    client = FHIRClient(settings={**settings, "launch_token": given["launch"]})
    client.prepare()
    client.handle_callback(doctor.let_in(client.authorize_url))
    assert client.patient.id == "joon-park"


def test_a_backend_service_acts_for_itself(live: SimpleNamespace, register: Callable[..., Any]) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    public = ECAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": "one"}
    made = register(
        client_name="Loader",
        grant_types=["client_credentials"],
        token_endpoint_auth_method="private_key_jwt",
        scope="system/Patient.rs",
        jwks=json.loads(json.dumps({"keys": [public]})),
    )
    endpoint = f"{live.base.removesuffix('/fhir')}/oauth/token"
    claims = {"iss": made["client_id"], "sub": made["client_id"], "aud": endpoint, "exp": int(time.time()) + 200, "jti": uuid.uuid4().hex}
    token = jwt.encode(claims, key, algorithm="ES384", headers={"kid": "one"})
    client = FHIRClient(settings={"app_id": made["client_id"], "api_base": live.base, "jwt_token": token, "scope": "system/Patient.rs"})
    client.wants_patient = False
    client.prepare()
    client.authorize()
    assert Patient.read("ana-rivera", client.server).name[0].family == "Rivera"
    # A statement is good once.
    client.server.auth.reset()
    with pytest.raises((requests.HTTPError, FHIRUnauthorizedException)):
        client.authorize()
