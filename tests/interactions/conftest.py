"""The whole application over a real database, spoken to as a client would: HTTP in, HTTP out."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from weakref import WeakSet
from zoneinfo import ZoneInfo

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from fhir_server import fhirjson
from fhir_server.access import issue
from fhir_server.app import build_app
from fhir_server.interactions import Engine
from fhir_server.operations import names
from fhir_server.settings import Settings
from fhir_server.store import Store

SECRET = "a secret that only the tests know of"
BASE = "http://localhost/fhir"
ZONE = ZoneInfo("Europe/Berlin")
# What entries call each other by.
LINK = "urn:uuid:61ebe359-bfdc-4613-8bf2-c5e300945f0a"
OTHER = "urn:uuid:88f151c0-a954-468a-88bd-5ae15c08e059"

Json = dict[str, Any]


def token(user: str = "tester", scope: str = "system/*.cruds", patient: str | None = None) -> str:
    return issue(SECRET, role=None, user=user, patient=patient, scope=scope, ttl=3600, now=time.time())


def unique(stem: str = "x") -> str:
    """A value that no other test uses: the tests of a worker share one database."""
    return f"{stem}-{uuid.uuid4().hex}"


@dataclass(frozen=True)
class Fhir:
    """A caller. `path` is below the base, or an absolute link that the server gave."""

    app: Flask
    token: str

    def __call__(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> TestResponse:
        given = {"Authorization": f"Bearer {self.token}", **(headers or {})}
        data = None
        if body is not None:
            given = {"Content-Type": "application/json-patch+json" if isinstance(body, list) else "application/fhir+json", **given}
            data = body if isinstance(body, (bytes, str)) else fhirjson.dumps(body)
        url = path.removeprefix("http://localhost") if path.startswith("http") else f"/fhir/{path}".removesuffix("/")
        return self.app.test_client(use_cookies=False).open(url, method=method, headers=given, data=data)

    def get(self, path: str, status: int = 200, headers: dict[str, str] | None = None) -> Any:
        """The JSON of an answer with this status."""
        return self._json(self("GET", path, headers=headers), status)

    def post(self, path: str, body: Any, status: int = 201, headers: dict[str, str] | None = None) -> Any:
        return self._json(self("POST", path, body, headers), status)

    def put(self, path: str, body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Any:
        return self._json(self("PUT", path, body, headers), status)

    def bundle(self, kind: str, *entries: Json, status: int = 200, headers: dict[str, str] | None = None) -> Any:
        """The answer to a batch or transaction."""
        return self.post("", {"resourceType": "Bundle", "type": kind, "entry": list(entries)}, status, headers)

    def pages(self, path: str, between: Callable[[], object] = lambda: None) -> Iterator[Json]:
        """Every page behind a link; `between` runs before each next one."""
        link: str | None = path
        for _ in range(1_000):
            if link is None:
                return
            page = self.get(link)
            yield page
            link = next((each["url"] for each in page["link"] if each["relation"] == "next"), None)
            between()
        pytest.fail(f"{path} never ends")

    def ids(self, path: str) -> list[str]:
        """The ids of all matches on all pages, in order."""
        return [entry["resource"]["id"] for page in self.pages(path) for entry in page.get("entry", ()) if entry["search"]["mode"] == "match"]

    def close(self) -> None:
        """Closes its store: the end of a server that is one test's, or one module's."""
        self.app.extensions["store"].close()

    def other(self, **claims: Any) -> Fhir:
        """The same server for another caller."""
        return replace(self, token=token(**claims))

    @staticmethod
    def _json(answer: TestResponse, status: int) -> Any:
        assert answer.status_code == status, (answer.status, answer.data[:2_000])
        return json.loads(answer.data) if answer.data else None


MakeFhir = Callable[..., Fhir]


@pytest.fixture(scope="session")
def make_fhir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeFhir]:
    """Servers over databases of the test's choice. One for less than the whole run is closed by whoever has asked for it."""
    # Weak, since each has a set of search parameters: 2 MB.
    opened: WeakSet[Store] = WeakSet()

    def make(url: str, *, max_body_mb: int = 4, profile_check: str = "off", **options: Any) -> Fhir:
        store = Store(url, zone=ZONE, bases=(BASE,), connections=8, **options)
        opened.add(store)
        settings = Settings(
            data=Path(tmp_path_factory.mktemp("data")),
            jwt_secret=SECRET,
            clinic_timezone=ZONE,
            max_body_mb=max_body_mb,
            profile_check=profile_check,
        )
        return Fhir(build_app(Engine.build(store, settings, names()), settings), token())

    yield make
    for store in list(opened):
        store.close()


@pytest.fixture(scope="session")
def fhir(make_fhir: MakeFhir, database_url: str) -> Fhir:
    """A server over this worker's database, and a caller who may do everything."""
    return make_fhir(database_url)


@pytest.fixture(scope="session")
def integral(make_fhir: MakeFhir, fresh_database: Callable[[], str]) -> Fhir:
    """The same with referential integrity."""
    return make_fhir(fresh_database(), referential_integrity=True)


def patient(**fields: Any) -> Json:
    return {"resourceType": "Patient", "name": [{"family": "Meier", "given": ["Ann"]}], **fields}


def identified(value: str, **fields: Any) -> Json:
    """A Patient with one identifier."""
    return patient(identifier=[{"system": "urn:mrn", "value": value}], **fields)


def observation(**fields: Any) -> Json:
    return {"resourceType": "Observation", "status": "final", "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}]}, **fields}


def profile(url: str, *elements: Json, view: str = "differential", **fields: Any) -> Json:
    """A profile of Patient that can be stored, with these elements in its differential or snapshot."""
    stated = {"name": "Kept", "status": "draft", "kind": "resource", "abstract": False, "type": "Patient", "derivation": "constraint"}
    base = {"baseDefinition": "http://hl7.org/fhir/StructureDefinition/Patient"}
    return {"resourceType": "StructureDefinition", "url": url, **stated, **base, view: {"element": list(elements)}, **fields}


def entry(method: str, url: str, resource: Json | None = None, full_url: str | None = None, **request: Any) -> Json:
    """An entry of a batch or transaction."""
    made: Json = {"request": {"method": method, "url": url, **request}}
    if resource is not None:
        made["resource"] = resource
    if full_url is not None:
        made["fullUrl"] = full_url
    return made


def issues(outcome: Json) -> str:
    """What an OperationOutcome says, checked to be one that helps."""
    assert outcome["resourceType"] == "OperationOutcome"
    assert all(issue["severity"] and issue["code"] and len(issue["diagnostics"]) > 10 for issue in outcome["issue"]), outcome
    return " / ".join(issue["diagnostics"] for issue in outcome["issue"])


def made(fhir: Fhir, resource: Json) -> str:
    """The id of a new resource."""
    identity: str = fhir.post(resource["resourceType"], resource)["id"]
    return identity


def self_query(bundle: Json) -> dict[str, list[str]]:
    """The parameters of the self link."""
    (url,) = [each["url"] for each in bundle["link"] if each["relation"] == "self"]
    return parse_qs(urlsplit(url).query)


def statuses(bundle: Json) -> list[str]:
    return [each["response"]["status"][:3] for each in bundle["entry"]]


def written(bundle: Json, number: int) -> str:
    """Type and id that an entry of a response is about."""
    location: str = bundle["entry"][number]["response"]["location"]
    return location.removeprefix(BASE + "/").partition("/_history/")[0]
