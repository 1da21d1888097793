"""A Binary is as open as what it belongs to: its security context, and the documents and reports that have it as an attachment.

https://hl7.org/fhir/R4/binary.html#security
"""

from __future__ import annotations

import json
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from fhir_server.access import grant_of, issue
from fhir_server.access.roles import HELD
from fhir_server.app import build_app
from fhir_server.interactions import Engine
from fhir_server.operations import names
from fhir_server.settings import Settings
from fhir_server.store import Store

SECRET: Final = "a secret that only the tests know of"
BASE: Final = "http://localhost/fhir"
ZONE: Final = ZoneInfo("Europe/Berlin")

Json = dict[str, Any]


@dataclass(frozen=True)
class Clinic:
    app: Flask

    def __call__(self, who: str, method: str, path: str, body: Any = None, **headers: str) -> TestResponse:
        given = {"Authorization": f"Bearer {who}", "Accept": "application/fhir+json"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        if body is not None and "Content-Type" not in given:
            given["Content-Type"] = "application/fhir+json"
        return self.app.test_client(use_cookies=False).open(f"/fhir/{path}", method=method, headers=given, data=data)

    def put(self, kind: str, identity: str, **content: Any) -> None:
        answer = self(ALL, "PUT", f"{kind}/{identity}", {"resourceType": kind, "id": identity, **content})
        assert answer.status_code in (200, 201), answer.data

    def binary(self, identity: str, context: str | None = None, **more: Any) -> None:
        owner = {"securityContext": {"reference": context}} if context else {}
        self.put("Binary", identity, contentType="text/plain", data=b64encode(identity.encode()).decode(), **owner, **more)

    def document(self, identity: str, patient: str, *binaries: str, **more: Any) -> None:
        content = [{"attachment": {"contentType": "text/plain", "url": f"Binary/{each}"}} for each in binaries]
        self.put("DocumentReference", identity, status="current", subject={"reference": f"Patient/{patient}"}, content=content, **more)

    def report(self, identity: str, patient: str, status: str, binary: str) -> None:
        form = [{"contentType": "text/plain", "url": f"{BASE}/Binary/{binary}"}]
        self.put("DiagnosticReport", identity, status=status, code={"text": "x"}, subject={"reference": f"Patient/{patient}"}, presentedForm=form)


def token(role: Any = None, scope: str | None = None, patient: str | None = None, user: str | None = None) -> str:
    return issue(SECRET, role=role, user="somebody", patient=patient, scope=scope, ttl=3600, now=time.time(), fhir_user=user)


def scopes(level: str, *types: str) -> str:
    return " ".join(f"{level}/{name}.rs" for name in types)


ALL: Final = token(scope="system/*.cruds")
ADMIN: Final = token("admin")
DOCTOR: Final = token("doctor", user="Practitioner/d")
PATIENT: Final = token("patient", patient="a", user="Patient/a")
OWN: Final = {"of-patient", "of-result", "of-document", "of-report", "of-medium", "of-two", "of-clinic"}
HIDDEN: Final = {"held", "of-held", "unreleased", "of-unreleased", "both", "labelled", "misattached"}
"""What belongs to patient a and is not released, or to somebody else besides."""
OTHERS: Final = {"b-patient", "b-result", "b-document", "b-report"}
NOBODYS: Final = {"of-nothing"}
DANGLING: Final = {"dangling", "elsewhere"}
EVERY: Final = OWN | HIDDEN | OTHERS | NOBODYS | DANGLING
CALLERS: Final[dict[str, tuple[str, set[str]]]] = {
    "a backend that may do all": (ALL, EVERY),
    "an admin": (ADMIN, EVERY),
    "a doctor": (DOCTOR, OWN | HIDDEN | OTHERS | NOBODYS),
    "a patient": (PATIENT, OWN),
    "a patient's app for all": (token("patient", "patient/*.rs", "a", "Patient/a"), OWN),
    # What a patient may not see their apps may not, whichever types they are let in to.
    "a patient's app for documents": (token("patient", scopes("patient", "Binary", "DocumentReference"), "a", "Patient/a"), OWN),
    "a patient's app for Binaries alone": (token("patient", "patient/Binary.rs", "a", "Patient/a"), OWN),
    "an app of a patient without an account": (token(scope="patient/Binary.rs", patient="a"), OWN),
    "an app of a patient that reads the clinic's directory besides": (token(scope="patient/*.rs system/Organization.rs", patient="a"), OWN),
    "an app of a patient that looks for what is held besides": (
        token(scope=f"patient/Binary.rs system/Binary.rs?_security={HELD['code']}", patient="a"),
        OWN | {"labelled"},
    ),
    "an app of a patient that sends files of all": (token(scope="patient/Binary.rs system/Binary.c", patient="a"), OWN),
    "a doctor's app for one patient": (token("doctor", "patient/*.rs", "a", "Practitioner/d"), OWN | HIDDEN - {"misattached"}),
    "a doctor's app for Binaries of one patient": (token("doctor", "patient/Binary.rs", "a", "Practitioner/d"), OWN | HIDDEN - {"misattached"}),
    "a doctor's app for all": (token("doctor", "user/*.rs", user="Practitioner/d"), OWN | HIDDEN | OTHERS | NOBODYS),
    "a doctor's app for one kind of Binary": (token("doctor", f"user/Binary.rs?_security={HELD['code']}", user="Practitioner/d"), {"labelled"}),
    "a backend for Binaries": (token(scope="system/Binary.rs"), EVERY),
}


@pytest.fixture(scope="module")
def clinic(fresh_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    store = Store(fresh_database(), zone=ZONE, bases=(BASE,), connections=4)
    options = Settings(data=Path(tmp_path_factory.mktemp("data")), jwt_secret=SECRET, clinic_timezone=ZONE)
    made = Clinic(build_app(Engine.build(store, options, names()), options))
    made.put("Organization", "o", name="Clinic")
    for patient, stem in (("a", "of"), ("b", "b")):
        made.put("Patient", patient, active=True)
        subject = {"reference": f"Patient/{patient}"}
        made.put("Observation", f"final-{patient}", status="final", code={"text": "x"}, subject=subject)
        made.binary(f"{stem}-patient", f"Patient/{patient}")
        made.binary(f"{stem}-result", f"Observation/final-{patient}")
        made.binary(f"{stem}-document")
        made.document(f"d-{patient}", patient, f"{stem}-document")
        made.binary(f"{stem}-report")
        made.report(f"r-{patient}", patient, "final", f"{stem}-report")
    held = {"meta": {"security": [HELD]}}
    made.put("Observation", "preliminary", status="preliminary", code={"text": "x"}, subject={"reference": "Patient/a"})
    made.put("Media", "m", status="completed", subject={"reference": "Patient/a"}, content={"url": "Binary/of-medium"})
    made.binary("of-medium")
    made.binary("of-two", "DocumentReference/two")
    made.document("two", "a", "of-two")
    made.binary("of-clinic", "Organization/o")
    made.binary("held", "DocumentReference/held")
    made.binary("of-held")
    made.document("held", "a", "of-held", **held)
    made.binary("unreleased", "Observation/preliminary")
    made.binary("of-unreleased", "Patient/a")
    made.report("early", "a", "preliminary", "of-unreleased")
    # A document that is released and a report that is not.
    made.binary("both")
    made.document("d-both", "a", "both")
    made.report("r-both", "a", "partial", "both")
    made.binary("labelled", "Patient/a", **held)
    # Somebody else's, and attached to something of a's besides.
    made.binary("misattached")
    made.document("d-mis-a", "a", "misattached")
    made.document("d-mis-b", "b", "misattached")
    made.binary("of-nothing")
    made.binary("dangling", "Patient/nobody")
    made.binary("elsewhere", "http://else.example/fhir/Patient/a")
    yield made
    store.close()


def pages(clinic: Clinic, who: str, path: str) -> list[Json]:
    answer = clinic(who, "GET", path)
    assert answer.status_code == 200, answer.data
    assert answer.json is not None
    return [entry["resource"] for entry in answer.json.get("entry", ()) if "resource" in entry]


def binaries(resources: list[Json]) -> set[str]:
    return {each["id"] for each in resources if each["resourceType"] == "Binary"}


@pytest.mark.parametrize("caller", CALLERS)
def test_every_door_shows_a_binary_as_what_it_belongs_to(clinic: Clinic, caller: str) -> None:
    who, expected = CALLERS[caller]
    for door in ("Binary/{}", "Binary/{}/_history/1", "Binary/{}/_history"):
        answers = {each: clinic(who, "GET", door.format(each)).status_code for each in EVERY}
        assert answers == {each: 200 if each in expected else 404 for each in EVERY}, door
    assert binaries(pages(clinic, who, "Binary?_count=100")) == expected
    assert binaries(pages(clinic, who, "Binary/_history?_count=100")) == expected
    counted = clinic(who, "GET", "Binary?_summary=count").json
    assert counted is not None
    assert counted["total"] == len(expected)
    batch = {"resourceType": "Bundle", "type": "batch", "entry": [{"request": {"method": "GET", "url": f"Binary/{each}"}} for each in sorted(EVERY)]}
    entries = clinic(who, "POST", "", batch).json
    assert entries is not None
    assert binaries([entry["resource"] for entry in entries["entry"] if "resource" in entry]) == expected


def test_a_record_has_its_attachments(clinic: Clinic) -> None:
    for who, path, patient in ((PATIENT, "Patient/a/$everything?_count=200", "of"), (DOCTOR, "Patient/b/$everything?_count=200", "b")):
        found: set[str] = set()
        link: str | None = path
        while link is not None:
            page = clinic(who, "GET", link.removeprefix(f"{BASE}/")).json
            assert page is not None
            found |= binaries([entry["resource"] for entry in page.get("entry", ())])
            link = next((each["url"] for each in page["link"] if each["relation"] == "next"), None)
        shown = OWN - {"of-result", "of-two", "of-clinic"} if patient == "of" else OTHERS - {"b-result"}
        assert found >= shown
        assert found <= CALLERS["a patient" if patient == "of" else "a doctor"][1] - (OWN if patient == "b" else set())


def test_attachments_are_included_as_far_as_they_can_be_seen(clinic: Clinic) -> None:
    path = "DocumentReference?_count=100&_include=DocumentReference:attachment"
    assert binaries(pages(clinic, PATIENT, path)) == {"of-document", "of-two"}
    assert binaries(pages(clinic, DOCTOR, path)) == {"of-document", "of-two", "of-held", "both", "misattached", "b-document"}
    back = {
        each["id"]
        for each in pages(clinic, PATIENT, "Binary?_count=100&_revinclude=DocumentReference:attachment&_revinclude=DiagnosticReport:attachment")
    }
    assert back == OWN | {"d-a", "two", "r-a"}
    assert binaries(pages(clinic, PATIENT, "Binary?security-context=Observation/final-a,Observation/final-b,Observation/preliminary")) == {
        "of-result"
    }
    assert binaries(pages(clinic, PATIENT, "Binary?_has:DiagnosticReport:attachment:status=preliminary,partial,final")) == {"of-report"}
    assert binaries(pages(clinic, DOCTOR, "Binary?_has:DiagnosticReport:attachment:status=partial")) == {"both"}


def test_whoever_sees_all_has_no_condition_on_their_statements() -> None:
    # By what narrows a grant totals are counted, versions looked at one by one, and boards shown without names.
    limited = {caller: grant_of(SECRET, who, time.time()).narrows for caller, (who, _) in CALLERS.items()}
    assert sorted(caller for caller, narrows in limited.items() if not narrows) == ["a backend for Binaries", "a backend that may do all", "an admin"]
    assert not grant_of(SECRET, ADMIN, time.time()).differs_by_content("Binary")


def test_staff_read_no_binaries(clinic: Clinic) -> None:
    staff = token("staff", user="Practitioner/s")
    assert clinic(staff, "GET", "Binary/of-patient").status_code == 403
    assert binaries(pages(clinic, staff, "Patient/a/$everything")) == set()


def test_what_is_withdrawn_takes_its_binaries_along_and_back(clinic: Clinic) -> None:
    clinic.put("Observation", "w", status="final", code={"text": "x"}, subject={"reference": "Patient/a"})
    clinic.binary("w", "Observation/w")
    assert clinic(PATIENT, "GET", "Binary/w").status_code == 200
    clinic.put("Observation", "w", status="entered-in-error", code={"text": "x"}, subject={"reference": "Patient/a"})
    assert clinic(PATIENT, "GET", "Binary/w").status_code == 404
    assert clinic(ALL, "DELETE", "Observation/w").status_code == 204
    assert clinic(DOCTOR, "GET", "Binary/w").status_code == 404


def test_a_version_of_before_it_was_put_right_stays_with_whose_it_was(clinic: Clinic) -> None:
    clinic.binary("moved", "Patient/b")
    clinic.binary("moved", "Patient/a")
    app = CALLERS["a doctor's app for Binaries of one patient"][0]
    for who in (PATIENT, app):
        assert clinic(who, "GET", "Binary/moved").status_code == 200
        assert clinic(who, "GET", "Binary/moved/_history/1").status_code == 404
        assert [each["meta"]["versionId"] for each in pages(clinic, who, "Binary/moved/_history")] == ["2"]
    assert len(pages(clinic, DOCTOR, "Binary/moved/_history")) == 2
    assert clinic(ALL, "DELETE", "Binary/moved").status_code == 204
    assert clinic(PATIENT, "GET", "Binary/moved").status_code == 404


def test_whoever_is_held_to_a_patient_says_whose_a_new_binary_is(clinic: Clinic) -> None:
    app = token("doctor", "patient/*.cruds", "a", "Practitioner/d")

    def posted(who: str, context: str | None) -> int:
        stated = {"X_Security_Context": context} if context else {}
        return clinic(who, "POST", "Binary", b"%PDF", Content_Type="application/pdf", **stated).status_code

    assert posted(app, "Patient/a") == 201
    assert [posted(app, context) for context in ("Patient/b", "Observation/final-b", None)] == [403, 403, 403]
    assert [posted(DOCTOR, context) for context in ("Patient/b", "Observation/final-b", None)] == [201, 201, 201]
    assert [posted(who, "Patient/a") for who in (PATIENT, token("staff", user="Practitioner/s"))] == [403, 403]


def test_nobody_opens_a_binary_by_attaching_it_or_takes_it_over(clinic: Clinic) -> None:
    app = token("doctor", "patient/*.cruds", "a", "Practitioner/d")
    mine = {"resourceType": "DocumentReference", "status": "current", "subject": {"reference": "Patient/a"}}
    for each in ("b-patient", "b-document"):
        answer = clinic(app, "POST", "DocumentReference", {**mine, "content": [{"attachment": {"url": f"Binary/{each}"}}]})
        assert answer.status_code == 201
        assert clinic(app, "GET", f"Binary/{each}").status_code == 404
        assert clinic(DOCTOR, "GET", f"Binary/{each}").status_code == 200
        assert answer.json is not None
        assert clinic(ALL, "DELETE", f"DocumentReference/{answer.json['id']}").status_code == 204
        taken = {"resourceType": "Binary", "id": each, "contentType": "text/plain", "securityContext": {"reference": "Patient/a"}}
        assert clinic(app, "PUT", f"Binary/{each}", taken).status_code == 403


@pytest.mark.parametrize(
    "address", ["Binary/{}?_format=json", "Binary/{}/_history/1?x=1", "Binary/{}#page=2", f"{BASE}/Binary/{{}}?_format=json#page=2"]
)
def test_a_document_has_the_file_whatever_its_address_asks_for_besides(clinic: Clinic, address: str) -> None:
    clinic.binary("addressed")
    content = [{"attachment": {"contentType": "text/plain", "url": address.format("addressed")}}]
    clinic.put("DocumentReference", "addressed", status="current", subject={"reference": "Patient/a"}, content=content)
    of_b = token("patient", patient="b", user="Patient/b")
    assert [clinic(who, "GET", "Binary/addressed").status_code for who in (PATIENT, of_b)] == [200, 404]
    assert binaries(pages(clinic, PATIENT, "DocumentReference?_id=addressed&_include=DocumentReference:attachment")) == {"addressed"}
    for each in ("DocumentReference", "Binary"):
        assert clinic(ALL, "DELETE", f"{each}/addressed").status_code == 204


def test_a_consent_that_closes_a_document_closes_its_binary(clinic: Clinic) -> None:
    clinic.put("Patient", "c", active=True)
    clinic.binary("c-patient", "Patient/c")
    clinic.binary("c-document")
    clinic.document(
        "d-c", "c", "c-document", meta={"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}]}
    )
    clinic.binary("c-plain")
    clinic.document("d-plain", "c", "c-plain")

    def read(who: str, **headers: str) -> list[int]:
        return [clinic(who, "GET", f"Binary/{each}", **headers).status_code for each in ("c-patient", "c-document", "c-plain")]

    consent = {
        "status": "active",
        "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": "Patient/c"},
        "policyRule": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "OPTIN"}]},
    }
    restricted = {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}
    assert read(DOCTOR) == [200, 200, 200]
    clinic.put("Consent", "c", **consent, provision={"provision": [{"type": "deny", "securityLabel": [restricted]}]})
    assert read(DOCTOR) == [200, 404, 200]
    assert binaries(pages(clinic, DOCTOR, "Binary/_history?_count=200")) & {"c-patient", "c-document", "c-plain"} == {"c-patient", "c-plain"}
    clinic.put("Consent", "c", **consent, provision={"type": "deny"})
    assert read(DOCTOR) == [404, 404, 404]
    assert not binaries(pages(clinic, DOCTOR, "Binary?_count=200")) & {"c-patient", "c-document", "c-plain"}
    assert read(DOCTOR, X_Break_Glass="found unconscious") == [200, 200, 200]
    assert read(token("patient", patient="c", user="Patient/c")) == [200, 200, 200]
