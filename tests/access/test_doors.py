"""What each kind of caller gets at each door, against a model in plain Python that knows nothing of SQL.

The record is small: two patients, what is filed under each, what was filed under the wrong one at first, and the clinic's directory.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import jwt
import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from fhir_server.access import grant_of, issue
from fhir_server.app import build_app
from fhir_server.interactions import Engine
from fhir_server.operations import names
from fhir_server.search.grant import Way
from fhir_server.settings import Settings
from fhir_server.store import Store

SECRET: Final = "a secret that only the tests know of"
BASE: Final = "http://localhost/fhir"
ZONE: Final = ZoneInfo("Europe/Berlin")
TYPES: Final = ("Patient", "Observation", "Condition", "Organization", "Flag", "CareTeam")

Json = dict[str, Any]


def bearer(scope: str | None = "system/*.cruds", role: Any = None, patient: str | None = None) -> dict[str, str]:
    made = issue(SECRET, role=role, user="someone", patient=patient, scope=scope, ttl=3600, now=time.time())
    return {"Authorization": f"Bearer {made}"}


@dataclass(frozen=True)
class Doors:
    app: Flask
    admin: dict[str, str]

    def __call__(self, who: dict[str, str], method: str, path: str, body: Any = None, **headers: str) -> TestResponse:
        kind = "application/json-patch+json" if isinstance(body, list) else "application/fhir+json"
        url = path.removeprefix("http://localhost") if path.startswith("http") else f"/fhir/{path}".removesuffix("/")
        given_headers = (
            who | ({"Content-Type": kind} if body is not None else {}) | {name.replace("_", "-"): value for name, value in headers.items()}
        )
        data = None if body is None else json.dumps(body).encode()
        return self.app.test_client(use_cookies=False).open(url, method=method, headers=given_headers, data=data)

    def put(self, kind: str, identity: str, **content: Any) -> None:
        answer = self(self.admin, "PUT", f"{kind}/{identity}", {"resourceType": kind, "id": identity, **content})
        assert answer.status_code in (200, 201), answer.data

    def all(self, who: dict[str, str], path: str) -> Iterator[Json]:
        """The resources on every page; nothing where the door is shut."""
        link: str | None = path
        while link is not None:
            answer = self(who, "GET", link)
            if answer.status_code != 200:
                assert answer.status_code in (403, 404, 410), answer.data
                return
            page = answer.json
            assert page is not None
            yield from (entry["resource"] for entry in page.get("entry", ()) if "resource" in entry)
            link = next((each["url"] for each in page["link"] if each["relation"] == "next"), None)


def observation(subject: str, text: str) -> Json:
    return {"status": "final", "code": {"text": text}, "subject": {"reference": subject}}


@pytest.fixture(scope="module")
def doors(fresh_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    store = Store(fresh_database(), zone=ZONE, bases=(BASE,), connections=4)
    options = Settings(data=Path(tmp_path_factory.mktemp("data")), jwt_secret=SECRET, clinic_timezone=ZONE, max_body_mb=16)
    made = Doors(build_app(Engine.build(store, options, names()), options), bearer())
    made.put("Organization", "o1", name="Clinic")
    for each, other in (("a", "b"), ("b", "a")):
        made.put("Patient", each, name=[{"family": f"secret-{each}"}], managingOrganization={"reference": "Organization/o1"})
        made.put("Patient", each, name=[{"family": f"secret-{each}"}], link=[{"other": {"reference": f"Patient/{other}"}, "type": "seealso"}])
        made.put("Observation", f"o-{each}", **observation(f"Patient/{each}", f"secret-{each}"), hasMember=[{"reference": f"Observation/o-{other}"}])
        made.put("Condition", f"c-{each}", subject={"reference": f"Patient/{each}"}, code={"text": f"secret-{each}"})
        # Filed under the wrong patient, and put right; then one that is deleted, and one that came back.
        made.put("Observation", f"moved-to-{each}", **observation(f"Patient/{other}", f"secret-{other}"))
        made.put("Observation", f"moved-to-{each}", **observation(f"Patient/{each}", f"secret-{each}"))
        for gone in ("gone", "back"):
            made.put("Observation", f"{gone}-{each}", **observation(f"Patient/{each}", f"secret-{each}"))
            assert made(made.admin, "DELETE", f"Observation/{gone}-{each}").status_code == 204
        made.put("Observation", f"back-{each}", **observation(f"Patient/{each}", f"secret-{each}"))
        made.put("Flag", f"x-{each}", status="active", code={"text": "x"}, subject={"reference": f"Patient/{each}"})
    made.put("CareTeam", "g", participant=[{"member": {"reference": "Patient/a"}}])
    yield made
    store.close()


@dataclass(frozen=True)
class Caller:
    """A grant as the model has it: permissions by type, and the one patient, if any."""

    permissions: dict[str, frozenset[str]]
    patient: str | None

    def headers(self) -> dict[str, str]:
        level = "patient" if self.patient else "system"
        scope = " ".join(f"{level}/{kind}.{''.join(c for c in 'cruds' if c in held)}" for kind, held in self.permissions.items() if held)
        return bearer(scope, patient=self.patient)

    def may(self, kind: str, permission: str) -> bool:
        return permission in self.permissions.get(kind, frozenset())

    def owns(self, resource: Json) -> bool:
        """Whether this version is of the patient whom the caller is held to."""
        kind = resource["resourceType"]
        if self.patient is None or kind == "Organization":
            return True
        own = f"Patient/{self.patient}"
        if kind == "Patient":
            return bool(resource["id"] == self.patient)
        places = [resource.get("subject", {}), *(each["member"] for each in resource.get("participant", ()))]
        return any(place.get("reference") == own for place in places)


callers = st.builds(
    Caller,
    st.dictionaries(st.sampled_from(TYPES), st.frozensets(st.sampled_from("cruds"), min_size=1), min_size=1),
    st.sampled_from([None, "a", "b"]),
)

SEARCHES: Final = (
    *TYPES,
    "Patient?link=Patient/a",
    "Patient?link=Patient/a&name=secret",
    "Patient?link=Patient/b&organization:missing=true&_sort=-birthdate",
    "Observation?subject=Patient/a&_sort=-date",
    "Observation?subject=Patient/a&status=final",
    "Observation?patient=b&code:missing=true",
    "Observation?subject=Patient/a,Patient/b",
    "Observation?_id=o-a,o-b&_include=*",
    "Observation?_include=Observation:has-member&_include=Observation:subject&_count=1",
    "Patient?_revinclude=Observation:subject&_revinclude=Condition:subject",
    "Organization?_revinclude=Patient:organization",
    "Condition?subject:missing=false&_sort=-_lastUpdated&_count=1",
    "CareTeam?participant=Patient/a&_include=CareTeam:participant",
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(caller=callers, path=st.sampled_from(SEARCHES))
def test_searches_show_what_the_model_shows_and_count_no_more(doors: Doors, caller: Caller, path: str) -> None:
    who = caller.headers()
    kind = path.partition("?")[0]
    shown = list(doors.all(who, path))
    for resource in shown:
        name = resource["resourceType"]
        assert caller.may(name, "r") or caller.may(name, "s"), (caller, resource)
        assert caller.owns(resource), (caller, resource)
    counted = doors(who, "GET", path + ("&" if "?" in path else "?") + "_summary=count")
    if not caller.may(kind, "s"):
        assert counted.status_code == 403
        assert shown == []
        return
    assert counted.json is not None
    if doors(who, "GET", path).status_code == 403:
        # A type that the caller may not search stands in a _revinclude.
        assert shown == []
        return
    matches = {entry["resource"]["id"] for entry in _entries(doors, who, path) if entry["search"]["mode"] == "match"}
    assert counted.json["total"] == len(matches)


def _entries(doors: Doors, who: dict[str, str], path: str) -> Iterator[Json]:
    link: str | None = path
    while link is not None:
        page = doors(who, "GET", link).json
        assert page is not None
        yield from page.get("entry", ())
        link = next((each["url"] for each in page["link"] if each["relation"] == "next"), None)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(caller=callers, scope=st.sampled_from(["", *(f"{kind}/" for kind in TYPES)]), count=st.integers(1, 5))
def test_histories_show_no_version_that_was_not_the_callers(doors: Doors, caller: Caller, scope: str, count: int) -> None:
    who = caller.headers()
    kinds = [scope.strip("/")] if scope else [kind for kind in TYPES if caller.may(kind, "r")]
    shown = list(doors.all(who, f"{scope}_history?_count={count}"))
    total = doors(who, "GET", f"{scope}_history?_summary=count")
    if not all(caller.may(kind, "r") and caller.may(kind, "s") for kind in kinds):
        assert shown == []
        assert total.status_code == 403
        return
    for resource in shown:
        assert caller.may(resource["resourceType"], "r"), (caller, resource)
        assert caller.owns(resource), (caller, resource)
    every = list(_entries(doors, who, f"{scope}_history?_count={count}")) if kinds or scope else []
    assert total.json is not None
    assert total.json["total"] == len(every)


INSTANCES: Final = (
    *(f"Patient/{p}" for p in "ab"),
    *(f"Observation/{stem}-{p}" for stem in ("o", "moved-to", "gone", "back") for p in "ab"),
    *(f"{stem}-{p}" for stem in ("Condition/c", "Flag/x") for p in "ab"),
    "Organization/o1",
    "CareTeam/g",
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(caller=callers, address=st.sampled_from(INSTANCES))
def test_one_resource_is_shown_by_every_door_or_by_none(doors: Doors, caller: Caller, address: str) -> None:
    who, kind = caller.headers(), address.partition("/")[0]
    versions = [doors(doors.admin, "GET", f"{address}/_history/{number}") for number in (1, 2, 3)]
    current = doors(doors.admin, "GET", address)
    mine = current.status_code == 200 and caller.owns(current.json or {})
    read = doors(who, "GET", address)
    validated = doors(who, "POST", f"{address}/$validate")
    batched = doors(who, "POST", "", {"resourceType": "Bundle", "type": "batch", "entry": [{"request": {"method": "GET", "url": address}}]})
    assert batched.json is not None
    assert batched.json["entry"][0]["response"]["status"][:3] == str(read.status_code)
    assert ("resource" in batched.json["entry"][0]) == (read.status_code == 200)
    if not caller.may(kind, "r"):
        assert {read.status_code, validated.status_code} == {403}
        assert doors(who, "GET", f"{address}/_history/1").status_code == 403
        return
    assert (read.status_code == 200) == mine
    assert (validated.status_code == 200) == mine
    if caller.patient is not None and not mine and kind != "Organization":
        # What is another's answers as what never was.
        unknown = doors(who, "GET", f"{kind}/never-was")
        assert (read.status_code, len(read.json["issue"])) == (unknown.status_code, len(unknown.json["issue"]))  # type: ignore[index]
        assert doors(who, "GET", f"{address}/_history").status_code == 404
    for number, known in enumerate(versions, 1):
        seen = doors(who, "GET", f"{address}/_history/{number}")
        if seen.status_code == 200:
            assert caller.owns(seen.json or {}), (caller, seen.json)
            assert seen.data == known.data
        elif mine and known.status_code == 200:
            assert not caller.owns(known.json or {})


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(held=st.frozensets(st.sampled_from("cruds"), min_size=1), data=st.data())
def test_each_write_takes_its_own_permission_and_a_condition_that_of_search(doors: Doors, held: frozenset[str], data: st.DataObject) -> None:
    caller = Caller({"Basic": held}, None)
    who, mark = caller.headers(), uuid.uuid4().hex
    basic = {"resourceType": "Basic", "code": {"text": mark}}
    doors.put("Basic", mark, code={"text": "secret-old"}, identifier=[{"system": "urn:m", "value": mark}], meta={"tag": [{"code": "secret-tag"}]})
    condition = f"Basic?identifier=urn:m|{mark}"
    change = [{"op": "replace", "path": "/code/text", "value": "new"}]
    wishes: list[tuple[str, str, str, Any, dict[str, str]]] = [
        ("c", "POST", "Basic", basic, {}),
        ("cs", "POST", "Basic", basic, {"If_None_Exist": f"identifier=urn:m|{mark}"}),
        ("u", "PUT", f"Basic/{mark}", basic | {"id": mark}, {"Prefer": "return=representation"}),
        ("us", "PUT", condition, basic, {}),
        ("u", "PATCH", f"Basic/{mark}", change, {}),
        ("us", "PATCH", condition, change, {}),
        ("d", "DELETE", f"Basic/{mark}", None, {}),
        ("ds", "DELETE", condition, None, {}),
    ]
    needs, method, path, body, headers = data.draw(st.sampled_from(wishes))
    before = doors(doors.admin, "GET", f"Basic/{mark}").data
    answer = doors(who, method, path, body, **headers)
    if set(needs) <= held:
        assert answer.status_code in (200, 201, 204), answer.data
        if not held & {"r", "s"}:
            assert b"secret" not in answer.data
    else:
        assert answer.status_code == 403, answer.data
        assert b"secret" not in answer.data
        assert doors(doors.admin, "GET", f"Basic/{mark}").data == before


def test_a_link_between_patients_opens_nothing(doors: Doors) -> None:
    bound = bearer("patient/*.rs", patient="a")
    for path in ("Patient?link=Patient/a", "Patient?link=Patient/a&name=secret", "Patient?link=Patient/a&_summary=count"):
        answer = doors(bound, "GET", path)
        assert answer.json is not None
        assert answer.json["total"] == 0
        assert b"secret-b" not in answer.data


def test_a_version_of_another_patient_stays_theirs(doors: Doors) -> None:
    bound = bearer(None, role="patient", patient="a")
    assert doors(bound, "GET", "Observation/moved-to-a").status_code == 200
    assert doors(bound, "GET", "Observation/moved-to-a/_history/1").status_code == 404
    instance = doors(bound, "GET", "Observation/moved-to-a/_history").json
    assert instance is not None
    assert (instance["total"], len(instance["entry"])) == (1, 1)
    assert doors(bound, "GET", "Observation/moved-to-b/_history").status_code == 404
    assert b"secret-b" not in doors(bound, "GET", "_history").data


def test_a_patch_tells_only_readers_what_is_there(doors: Doors) -> None:
    doors.put("Patient", "told", name=[{"family": "secret-name"}])
    writer = bearer("system/Patient.u")
    copying = [{"op": "copy", "from": "/name/0/family", "path": "/gender"}]
    refused = doors(writer, "PATCH", "Patient/told", copying)
    assert refused.status_code in (400, 422)
    assert b"secret" not in refused.data
    assert b"secret-name" in doors(bearer("system/Patient.ru"), "PATCH", "Patient/told", copying).data
    done = doors(writer, "PATCH", "Patient/told", [{"op": "add", "path": "/gender", "value": "other"}], Prefer="return=representation")
    assert (done.status_code, done.data) == (200, b"")
    wrapped = {"resourceType": "Bundle", "type": "transaction", "entry": [{"request": {"method": "PUT", "url": "Patient/told"}}]}
    wrapped["entry"][0]["resource"] = {"resourceType": "Patient", "id": "told", "gender": "other"}  # type: ignore[index]
    assert b'"resource"' not in doors(writer, "POST", "", wrapped, Prefer="return=representation").data


def test_a_conditional_reference_takes_the_right_to_search(doors: Doors) -> None:
    entry = {
        "request": {"method": "POST", "url": "Observation"},
        "resource": {"resourceType": "Observation", **observation("Patient?name=secret-a", "x")},
    }
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}
    assert doors(bearer("system/Observation.cruds"), "POST", "", bundle).status_code == 403
    assert doors(bearer("system/Observation.cruds system/Patient.s"), "POST", "", bundle).status_code == 200


def test_a_page_link_serves_its_caller_only_and_no_wider_token(doors: Doors) -> None:
    first = doors(doors.admin, "GET", "Observation?_count=1").json
    assert first is not None
    following = first["link"][1]["url"]
    assert doors(doors.admin, "GET", following).status_code == 200
    for other in (bearer("patient/*.rs", patient="a"), bearer("system/Patient.rs")):
        # The same subject with less: the link opens nothing that the token does not.
        answer = doors(other, "GET", following)
        assert answer.status_code == 403 or b"secret-b" not in answer.data
    stranger = issue(SECRET, role=None, user="stranger", patient=None, scope="system/*.rs", ttl=60, now=time.time())
    assert doors({"Authorization": f"Bearer {stranger}"}, "GET", following).status_code == 400


def test_who_is_held_to_a_patient_writes_within_their_record_only(doors: Doors) -> None:
    bound = bearer("patient/*.cruds", "doctor", patient="a")
    own = {"resourceType": "Observation", **observation("Patient/a", "x")}
    made = doors(bound, "POST", "Observation", own)
    assert made.status_code == 201
    assert made.json is not None
    mine = f"Observation/{made.json['id']}"
    assert doors(bound, "PATCH", mine, [{"op": "replace", "path": "/code/text", "value": "y"}]).status_code == 200
    other = {**own, "subject": {"reference": "Patient/b"}}
    nobodys = {name: value for name, value in own.items() if name != "subject"}
    for method, path, content in (
        ("PUT", "Patient/b", {"resourceType": "Patient", "id": "b"}),
        ("PUT", "Patient/new", {"resourceType": "Patient", "id": "new"}),
        ("POST", "Patient", {"resourceType": "Patient"}),
        ("POST", "Observation", other),
        ("POST", "Observation", nobodys),
        ("PUT", mine, {**other, "id": made.json["id"]}),
        ("PATCH", mine, [{"op": "replace", "path": "/subject/reference", "value": "Patient/b"}]),
        ("PUT", "Observation/o-b", {**own, "id": "o-b"}),
    ):
        assert doors(bound, method, path, content).status_code == 403, (method, path)
    both = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [{"resource": each, "request": {"method": "POST", "url": "Observation"}} for each in (own, other)],
    }
    before = sum(1 for _ in doors.all(doors.admin, "Observation"))
    assert doors(bound, "POST", "", both).status_code == 403
    assert sum(1 for _ in doors.all(doors.admin, "Observation")) == before
    assert doors(bound, "DELETE", mine).status_code == 403


def test_who_is_held_to_a_patient_does_not_write_the_directory(doors: Doors) -> None:
    bound = bearer("patient/*.cruds", "admin", patient="a")
    place = {"resourceType": "Location", "name": "Ward"}
    assert doors(doors.admin, "PUT", "Location/ward", {**place, "id": "ward"}).status_code == 201
    assert doors(bound, "GET", "Location/ward").status_code == 200
    for method, path, content in (
        ("POST", "Location", place),
        ("PUT", "Location/ward", {**place, "id": "ward"}),
        ("PATCH", "Location/ward", [{"op": "replace", "path": "/name", "value": "Other"}]),
        ("DELETE", "Location/ward", None),
        ("POST", "Organization", {"resourceType": "Organization", "name": "Other"}),
    ):
        assert doors(bound, method, path, content).status_code == 403, (method, path)


@pytest.mark.parametrize("condition", [{}, {"If_Match": 'W/"1"'}, {"If_Match": 'W/"9"'}, {"If_None_Match": "*"}])
def test_what_is_hidden_is_not_there_for_a_change_either(doors: Doors, condition: dict[str, str]) -> None:
    of_another = {"status": "active", "subject": [{"reference": "Patient/b"}]}
    for name in ("hidden", "deleted"):
        doors.put("Account", name, **of_another)
    assert doors(doors.admin, "DELETE", "Account/deleted").status_code == 204
    bound = bearer("patient/*.cruds", "staff", patient="a")
    patch = [{"op": "replace", "path": "/status", "value": "inactive"}]
    for method, content in (("DELETE", None), ("PATCH", patch), ("PUT", of_another)):
        absent = doors(bound, method, "Account/never-was", _of("never-was", content), **condition)
        for name in ("hidden", "deleted"):
            found = doors(bound, method, f"Account/{name}", _of(name, content), **condition)
            assert found.status_code == absent.status_code, (method, name)
            assert found.data == absent.data.replace(b"never-was", name.encode())
    assert doors(doors.admin, "GET", "Account/hidden").status_code == 200
    doors.put("Account", "own", status="active", subject=[{"reference": "Patient/a"}])
    assert doors(bound, "DELETE", "Account/own").status_code == 204
    assert doors(doors.admin, "GET", "Account/own").status_code == 410


def _of(name: str, content: Any) -> Any:
    return {"resourceType": "Account", "id": name, **content} if isinstance(content, dict) else content


def test_the_role_patient_beside_another_opens_their_own_record_only() -> None:
    now = int(time.time())
    claims = {
        "iss": "urn:fhir-server",
        "aud": "urn:fhir-server:fhir",
        "sub": "x",
        "jti": "x",
        "iat": now,
        "exp": now + 60,
        "roles": ["staff", "patient"],
        "scope": "",
        "patient": "b",
    }
    unknown = grant_of(SECRET, jwt.encode(claims, SECRET, algorithm="HS256"), now)
    assert not unknown.allows("Observation", "r")
    known = grant_of(SECRET, jwt.encode(claims | {"fhirUser": "Patient/a"}, SECRET, algorithm="HS256"), now)
    assert {way.patient for way in known.ways("Observation")} == {"a"}
    assert known.ways("Patient") == (Way(None, ""),)
    assert known.editable_of("Patient") is None


@pytest.mark.parametrize("path", ["Patient?access_token={}", "Patient/a?access_token={}", "Patient/a?token={}"])
def test_a_token_in_the_address_is_none(doors: Doors, path: str) -> None:
    token = doors.admin["Authorization"].removeprefix("Bearer ")
    assert doors({}, "GET", path.format(token)).status_code == 401


@pytest.mark.parametrize("host", ["evil.example/x?", "a b", "a\\b", "a@b", "a:99999999", "x" * 300])
def test_a_host_that_is_none_makes_no_links(doors: Doors, host: str) -> None:
    answer = doors(doors.admin, "GET", "Patient", Host=host)
    assert answer.status_code == 400
    assert "evil" not in answer.headers.get("Location", "")


def test_answers_are_neither_kept_nor_run_nor_framed(doors: Doors) -> None:
    for path in ("Patient/a", "Patient", "Patient/never-was", "metadata"):
        headers = doors(doors.admin, "GET", path).headers
        assert headers["Cache-Control"] == "private, no-cache"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in headers["Content-Security-Policy"]
        assert "Authorization" in headers["Vary"]


@pytest.mark.parametrize(
    ("method", "path", "kind", "body"),
    [
        ("POST", "Patient", "application/fhir+json", b'{"resourceType":"Patient","name":[' + b"{}," * 1_100_000 + b"{}]}"),
        (
            "POST",
            "Patient",
            "application/fhir+json",
            b'{"resourceType":"Patient","text":{"div":"' + b"\\u003cp/>" * 1_600_000 + b"<p/>" * 400_001 + b'"}}',
        ),
        ("POST", "Patient", "application/fhir+xml", b'<Patient xmlns="http://hl7.org/fhir">' + b"<name/>" * 1_500_000 + b"</Patient>"),
        ("POST", "Patient/_search", "application/x-www-form-urlencoded", b"name=" + b"%41" * 1_500_000),
        ("POST", "", "application/fhir+json", b'{"resourceType":"Bundle","type":"batch","entry":[' + b"{}," * 50_000 + b"{}]}"),
    ],
    ids=["values", "tags", "xml", "form", "entries"],
)
def test_bodies_that_would_cost_too_much_are_too_large(doors: Doors, method: str, path: str, kind: str, body: bytes) -> None:
    headers = doors.admin | {"Content-Type": kind}
    answer = doors.app.test_client(use_cookies=False).open(f"/fhir/{path}".removesuffix("/"), method=method, headers=headers, data=body)
    assert answer.status_code == 413


def test_a_search_compares_with_a_bounded_number_of_values(doors: Doors) -> None:
    headers = doors.admin | {"Content-Type": "application/x-www-form-urlencoded"}
    body = "&".join(["name=" + ",".join(f"{number}" for number in range(1_000))] * 11)
    answer = doors.app.test_client(use_cookies=False).post("/fhir/Patient/_search", headers=headers, data=body)
    assert answer.status_code == 400
    assert b"at most 10,000 values" in answer.data


@pytest.mark.parametrize("leaf", ['"\\u0000"', '{"a\\":":1}', "1" * 5_000, '{"a":1,"a":2}'])
def test_no_depth_of_nesting_is_a_fault_of_the_server(doors: Doors, leaf: str) -> None:
    headers = doors.admin | {"Content-Type": "application/fhir+json"}
    for depth in (1, *range(780, 1_020)):
        body = '{"resourceType":"Patient","name":' + "[" * depth + leaf + "]" * depth + "}"
        answer = doors.app.test_client(use_cookies=False).post("/fhir/Patient", headers=headers, data=body)
        assert answer.status_code in (400, 422), (depth, answer.status)
