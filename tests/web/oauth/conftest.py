"""A clinic with an authorization server, apps that are registered there, and browsers that somebody has signed in with."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from flask.testing import FlaskClient
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from werkzeug.test import TestResponse

from fhir_server.access.accounts.accounts import Account
from fhir_server.access.apps import Client, Clients, NewClient
from fhir_server.access.policy import Policy
from fhir_server.access.tokens import issue
from fhir_server.access.vault import Vault
from fhir_server.search import SYSTEM
from fhir_server.store.ops import Put
from fhir_server.web import oauth
from tests.web.conftest import SECRET, Clinic

Json = dict[str, Any]
ISSUER = "http://localhost"
FHIR = f"{ISSUER}/fhir"
BACK = "https://app.example.org/back"
VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
SCOPE = "openid fhirUser launch/patient offline_access patient/*.rs"

RECORD: list[Json] = [
    {"resourceType": "Patient", "id": "p1", "name": [{"family": "Okafor", "given": ["Chidi"]}], "birthDate": "1990-05-17"},
    {"resourceType": "Patient", "id": "p2", "name": [{"family": "Rivera", "given": ["Ana"]}], "identifier": [{"system": "urn:x", "value": "1001"}]},
    {"resourceType": "Practitioner", "id": "d1", "name": [{"family": "Adeyemi"}]},
    {
        "resourceType": "Encounter",
        "id": "e1",
        "status": "in-progress",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
        "subject": {"reference": "Patient/p2"},
    },
    *(
        {
            "resourceType": "Observation",
            "id": f"{kind}-{patient}",
            "status": "final",
            "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": kind}]}],
            "code": {"text": "x"},
            "subject": {"reference": f"Patient/{patient}"},
        }
        for patient in ("p1", "p2")
        for kind in ("laboratory", "vital-signs")
    ),
]


@cache
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@cache
def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP384R1())


def key_set() -> Json:
    keys = [
        RSAAlgorithm.to_jwk(rsa_key().public_key(), as_dict=True) | {"kid": "r"},
        ECAlgorithm.to_jwk(ec_key().public_key(), as_dict=True) | {"kid": "e"},
    ]
    return {"keys": [{name: value for name, value in key.items() if name != "key_ops"} for key in keys]}


def query_of(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


@dataclass
class House:
    """The clinic, seen by apps."""

    clinic: Clinic
    browsers: list[FlaskClient] = field(default_factory=list)

    @property
    def clients(self) -> Clients:
        return Clients(self.clinic.store, Vault(SECRET))

    def app(self, auth_method: str = "none", **changed: Any) -> tuple[Client, str | None]:
        given: Json = {"name": "Growth Chart", "grant_types": ("authorization_code", "refresh_token"), "redirect_uris": (BACK,), **changed}
        if auth_method == "private_key_jwt":
            given.setdefault("jwks", json.dumps(key_set()))
        return self.clients.add(NewClient(auth_method=auth_method, **given), "tests", self.clinic.clock.now())

    def service(self, scope: str = "system/*.rs", **changed: Any) -> Client:
        given: Json = {"grant_types": ("client_credentials",), "redirect_uris": (), "scope": scope, **changed}
        return self.app("private_key_jwt", **given)[0]

    def account(self, role: str = "patient", **fields: Any) -> Account:
        return self.clinic.account(role, **({"practitioner": "d1"} if role == "doctor" else {}), **fields)

    def browser(self, account: Account | None = None) -> FlaskClient:
        client = self.clinic.app.test_client()
        if account is not None:
            secret = self.clinic.sign_in.sessions.begin_in_browser(account, "192.0.2.9", "a browser", self.clinic.clock.now())
            client.set_cookie("session", secret)
        return client

    def admin(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token('admin')}"}

    def token(self, role: Any = None, **given: Any) -> str:
        return issue(SECRET, **({"role": role, "user": None, "patient": None, "scope": None, "ttl": 3600, "now": self.clinic.clock()} | given))

    def post(self, path: str, headers: Any = None, **data: Any) -> TestResponse:
        return self.clinic.app.test_client(use_cookies=False).post(path, data=data, headers=headers or {})

    def get(self, path: str, token: str | None = None, **options: Any) -> TestResponse:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return self.clinic.app.test_client(use_cookies=False).get(path, headers=headers, **options)

    def status(self, token: str, path: str = "Patient/p1") -> int:
        return self.get(f"/fhir/{path}", token).status_code

    def query(self, client: Client, **changed: Any) -> str:
        given: Json = {
            "response_type": "code",
            "client_id": client.id,
            "redirect_uri": BACK,
            "scope": SCOPE,
            "state": "st&te=1",
            "aud": FHIR,
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
        }
        return urlencode({name: value for name, value in (given | changed).items() if value is not None})

    def ask(self, browser: FlaskClient, client: Client, **changed: Any) -> TestResponse:
        return browser.get(f"/oauth/authorize?{self.query(client, **changed)}")

    def page(self, browser: FlaskClient, client: Client, **changed: Any) -> str:
        """The address of the page that asks."""
        answer = self.ask(browser, client, **changed)
        assert answer.status_code == 303, answer.text
        place = answer.headers["Location"]
        assert re.fullmatch(r"/oauth/authorize/[\w-]{32}", place), place
        return place

    def fill(self, browser: FlaskClient, place: str, **given: Any) -> TestResponse:
        """Sends the form of a page, with every box as it is unless it is given."""
        page = browser.get(place).text
        token = re.search(r'name="form_token" value="(\w+)"', page)
        assert token is not None, page
        boxes = [html.unescape(each) for each in re.findall(r'name="scope" value="([^"]*)"', page)]
        return browser.post(place.partition("?")[0], data={"form_token": token[1], "scope": boxes} | given)

    def code(self, browser: FlaskClient, client: Client, patient: str | None = None, **changed: Any) -> str:
        place = self.page(browser, client, **changed)
        if patient is not None:
            assert self.fill(browser, place, answer="choose", patient=patient).status_code == 303
        answer = self.fill(browser, place, answer="allow")
        assert answer.status_code == 303, answer.text
        return query_of(answer.headers["Location"])["code"]

    def redeem(self, client: Client, code: str, secret: str | None = None, /, **changed: Any) -> TestResponse:
        form: Json = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK, "code_verifier": VERIFIER, "client_id": client.id}
        if secret is not None:
            form["client_secret"] = secret
        return self.post("/oauth/token", **{name: value for name, value in (form | changed).items() if value is not None})

    def tokens(self, account: Account, client: Client, secret: str | None = None, **changed: Any) -> Json:
        browser = self.browser(account)
        self.browsers.append(browser)
        answer = self.redeem(client, self.code(browser, client, **changed), secret)
        assert answer.status_code == 200, answer.text
        found: Json = answer.get_json()
        return found

    def refresh(self, client: Client, token: str, secret: str | None = None, **more: Any) -> TestResponse:
        given = {"client_secret": secret} if secret is not None else {}
        return self.post("/oauth/token", grant_type="refresh_token", refresh_token=token, client_id=client.id, **given, **more)

    def assertion(self, client: Client, algorithm: str = "RS384", *, kid: str | None = "", key: Any = None, **changed: Any) -> str:
        now = int(self.clinic.clock())
        claims: Json = {"iss": client.id, "sub": client.id, "aud": f"{ISSUER}/oauth/token", "exp": now + 290, "jti": uuid.uuid4().hex}
        signer = key if key is not None else rsa_key() if algorithm.startswith("RS") else ec_key()
        name = ("r" if algorithm.startswith("RS") else "e") if kid == "" else kid
        sent = {each: value for each, value in (claims | changed).items() if value is not None}
        return jwt.encode(sent, signer, algorithm=algorithm, headers={"kid": name} if name is not None else {})

    def serve(self, client: Client, assertion: str | None = None, **more: Any) -> TestResponse:
        form: Json = {
            "grant_type": "client_credentials",
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": assertion if assertion is not None else self.assertion(client),
            "scope": "system/*.rs",
        }
        return self.post("/oauth/token", **{name: value for name, value in (form | more).items() if value is not None})

    def register(self, headers: dict[str, str] | None = None, **metadata: Any) -> TestResponse:
        return self.clinic.app.test_client(use_cookies=False).post("/oauth/register", json=metadata, headers=headers or {})

    @property
    def policy(self) -> Policy:
        return Policy(self.clinic.store)


@pytest.fixture(scope="module")
def make_house(make_clinic: Callable[..., Clinic]) -> Callable[..., House]:
    def make(**options: Any) -> House:
        clinic = make_clinic(**options)
        clinic.app.register_blueprint(oauth.blueprint(clinic.engine, clinic.settings, clinic.clock))
        clinic.store.transact([Put(each, each["id"]) for each in RECORD], SYSTEM)
        return House(clinic)

    return make


@pytest.fixture(scope="module")
def one_house(make_house: Callable[..., House]) -> House:
    return make_house()


@pytest.fixture
def house(one_house: House) -> House:
    return one_house
