"""Read, vread and their conditional forms. https://hl7.org/fhir/R4/http.html#read, https://hl7.org/fhir/R4/http.html#cread"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime

import pytest

from tests.interactions.conftest import BASE, Fhir, issues, observation, patient, unique


def test_read_tells_version_and_time(fhir: Fhir) -> None:
    made = fhir.post("Patient", patient(birthDate="1990-05-04"))
    answer = fhir("GET", f"Patient/{made['id']}")
    assert answer.status_code == 200
    assert answer.json == made
    assert answer.content_type == "application/fhir+json; charset=utf-8"
    assert answer.headers["ETag"] == 'W/"1"'
    assert answer.headers["Content-Location"] == f"{BASE}/Patient/{made['id']}/_history/1"
    updated = datetime.fromisoformat(made["meta"]["lastUpdated"])
    assert parsedate_to_datetime(answer.headers["Last-Modified"]) == updated.replace(microsecond=0)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", made["meta"]["lastUpdated"])


def test_head_is_get_without_the_body(fhir: Fhir) -> None:
    made = fhir.post("Patient", patient())
    for path in (
        f"Patient/{made['id']}",
        f"Patient/{made['id']}/_history/1",
        f"Patient?_id={made['id']}",
        "metadata",
        f"Patient/{made['id']}/_history",
    ):
        full, head = fhir("GET", path), fhir("HEAD", path)
        assert (head.status_code, head.data) == (200, b"")
        for header in ("ETag", "Last-Modified", "Content-Type", "Content-Length"):
            assert head.headers.get(header) == full.headers.get(header), path
    assert fhir("HEAD", "Patient/nobody").status_code == 404


def test_read_with_a_version_the_caller_has_is_304(fhir: Fhir) -> None:
    made = fhir.post("Patient", patient())
    path = f"Patient/{made['id']}"
    for tags in ('W/"1"', '"1"', 'W/"7", W/"1"', "*"):
        answer = fhir("GET", path, headers={"If-None-Match": tags})
        assert (answer.status_code, answer.data, answer.headers["ETag"]) == (304, b"", 'W/"1"'), tags
    assert fhir("GET", path, headers={"If-None-Match": 'W/"2"'}).status_code == 200
    fhir.put(path, {**made, "active": True})
    assert fhir("GET", path, headers={"If-None-Match": 'W/"1"'}).status_code == 200


def test_read_since_a_time(fhir: Fhir) -> None:
    made = fhir.post("Patient", patient())
    path = f"Patient/{made['id']}"
    shown = parsedate_to_datetime(fhir("GET", path).headers["Last-Modified"])
    for moment, status in ((shown, 304), (shown + timedelta(days=1), 304), (shown - timedelta(seconds=1), 200)):
        answer = fhir("GET", path, headers={"If-Modified-Since": format_datetime(moment, usegmt=True)})
        assert answer.status_code == status, moment
    # If-None-Match is the stronger of the two (RFC 9110, 13.2.2).
    later = format_datetime(shown + timedelta(days=1), usegmt=True)
    assert fhir("GET", path, headers={"If-Modified-Since": later, "If-None-Match": 'W/"9"'}).status_code == 200


@pytest.mark.parametrize("moment", ["Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 0001 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 -1200"])
def test_times_at_the_ends_of_the_calendar_are_times(fhir: Fhir, moment: str) -> None:
    made = fhir.post("Patient", patient())
    assert fhir("GET", f"Patient/{made['id']}", headers={"If-Modified-Since": moment}).status_code in {200, 304, 400}


def test_vread_gives_each_version_as_it_was(fhir: Fhir) -> None:
    first = fhir.post("Patient", patient(gender="female"))
    path = f"Patient/{first['id']}"
    second = fhir.put(path, {**first, "gender": "male"})
    assert fhir.get(f"{path}/_history/1") == first
    assert fhir.get(f"{path}/_history/2") == second
    answer = fhir("GET", f"{path}/_history/1")
    assert answer.headers["ETag"] == 'W/"1"'
    assert answer.headers["Content-Location"].endswith("/_history/1")
    for version in ("3", "0", "-1", "x", "01", "99999999999999999999", "1.0"):
        assert "no version" in issues(fhir.get(f"{path}/_history/{version}", 404))


def test_what_was_deleted_is_gone_but_its_past_is_not(fhir: Fhir) -> None:
    made = fhir.post("Patient", patient())
    path = f"Patient/{made['id']}"
    assert fhir("DELETE", path).status_code == 204
    answer = fhir("GET", path)
    assert answer.status_code == 410
    assert answer.headers["ETag"] == 'W/"2"'
    assert "deleted" in issues(answer.get_json())
    assert fhir.get(f"{path}/_history/1") == made
    assert fhir("GET", f"{path}/_history/2").status_code == 410
    assert fhir("GET", path, headers={"If-None-Match": 'W/"2"'}).status_code == 410


def test_what_never_was_is_not_found(fhir: Fhir) -> None:
    assert "does not exist" in issues(fhir.get("Patient/never-was", 404))
    # The same id under another type is another resource.
    made = fhir.post("Patient", patient())
    fhir.get(f"Observation/{made['id']}", 404)
    assert "Patient" in issues(fhir.get("Pateint/1", 404))


SHAPED = {
    "resourceType": "Observation",
    "text": {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">weight</div>'},
    "status": "final",
    "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}]},
    "effectiveDateTime": "2020-01-01",
    "valueQuantity": {"value": 70, "unit": "kg"},
    "note": [{"text": "after lunch"}],
}


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        ("_summary=true", {"status", "code", "effectiveDateTime", "valueQuantity"}),
        ("_summary=text", {"text", "status", "code"}),
        ("_summary=data", {"status", "code", "effectiveDateTime", "valueQuantity", "note"}),
        ("_summary=false", {"text", "status", "code", "effectiveDateTime", "valueQuantity", "note"}),
        ("_elements=note", {"status", "code", "note"}),
        ("_elements=value[x],effective", {"status", "code", "effectiveDateTime", "valueQuantity"}),
    ],
)
def test_parts_of_a_resource_by_read_vread_search_and_history(fhir: Fhir, asked: str, kept: set[str]) -> None:
    made = fhir.post("Observation", SHAPED)
    path = f"Observation/{made['id']}"
    parts = [
        fhir.get(f"{path}?{asked}"),
        fhir.get(f"{path}/_history/1?{asked}"),
        fhir.get(f"{path}/_history?{asked}")["entry"][0]["resource"],
    ]
    if "[" not in asked:
        parts.append(fhir.get(f"Observation?_id={made['id']}&{asked}")["entry"][0]["resource"])
    for part in parts:
        assert part.keys() - {"resourceType", "id", "meta"} == kept
        tagged = [tag["code"] for tag in part["meta"].get("tag", ())]
        assert tagged == ([] if asked == "_summary=false" else ["SUBSETTED"])


def test_a_count_cannot_be_read(fhir: Fhir) -> None:
    made = fhir.post("Patient", patient())
    fhir.get(f"Patient/{made['id']}?_summary=count", 400)
    fhir.get(f"Patient/{made['id']}?_summary=nonsense", 400)


def test_contained_resources_and_unknown_extensions_come_back(fhir: Fhir) -> None:
    sent = observation(
        contained=[{"resourceType": "Patient", "id": "p", "name": [{"family": "Inside"}]}],
        subject={"reference": "#p"},
        extension=[{"url": "http://example.org/unknown", "valueString": " kept  as it is\n"}],
        _status={"extension": [{"url": "http://example.org/other", "valueCode": "x"}]},
    )
    made = fhir.post("Observation", sent)
    found = fhir.get(f"Observation/{made['id']}")
    assert {key: found[key] for key in sent} == sent


def test_numbers_and_times_come_back_letter_for_letter(fhir: Fhir) -> None:
    values = ["1.10", "1e3", "0.0000001", "-0.0", "123456789012345678.90", "1E-7", "100", "0.10", "12345678901234567890123"]
    components = ",".join(f'{{"code":{{"text":"{n}"}},"valueQuantity":{{"value":{value}}}}}' for n, value in enumerate(values))
    sent = (
        '{"resourceType":"Observation","status":"final","code":{"text":"x"},"effectiveInstant":"2020-02-29T23:59:59.123456+01:00",'
        f'"issued":"2015-02-07T13:28:17.000Z","component":[{components}]}}'
    )
    made = fhir("POST", "Observation", sent)
    assert made.status_code == 201, made.data
    identity = made.headers["Location"].split("/")[-3]
    for answer in (
        made,
        fhir("GET", f"Observation/{identity}"),
        fhir("GET", f"Observation?_id={identity}"),
        fhir("GET", f"Observation/{identity}/_history"),
        fhir("GET", f"Observation/{identity}?_summary=data"),
        fhir("GET", f"Observation/{identity}?_pretty=true"),
    ):
        assert re.findall(rb'"value" ?: ?([^},\s]+)', answer.data)[-len(values) :] == [value.encode() for value in values]
        assert b"2020-02-29T23:59:59.123456+01:00" in answer.data
        assert b"2015-02-07T13:28:17.000Z" in answer.data
    as_xml = fhir("GET", f"Observation/{identity}?_format=xml").data.decode()
    assert [value for value in values if f'<value value="{value}"/>' not in as_xml] == []


def test_xml_in_json_out_and_back(fhir: Fhir) -> None:
    sent = (
        '<Patient xmlns="http://hl7.org/fhir"><text><status value="generated"/>'
        '<div xmlns="http://www.w3.org/1999/xhtml"><p>Ann &amp; Bob</p></div></text>'
        '<name id="n1"><family value="M&#252;ller &lt;&quot;&gt;"/><given value="Ann"/><given value="Bea"/></name>'
        '<birthDate value="1990-05-04"><extension url="http://hl7.org/fhir/StructureDefinition/patient-birthTime">'
        '<valueDateTime value="1990-05-04T04:00:00.50Z"/></extension></birthDate>'
        '<multipleBirthInteger value="2"/></Patient>'
    )
    answer = fhir("POST", "Patient", sent, {"Content-Type": "application/fhir+xml", "Accept": "application/fhir+json"})
    assert answer.status_code == 201, answer.data
    made = answer.get_json()
    assert made["name"] == [{"id": "n1", "family": 'Müller <">', "given": ["Ann", "Bea"]}]
    assert made["_birthDate"]["extension"][0]["valueDateTime"] == "1990-05-04T04:00:00.50Z"
    assert made["multipleBirthInteger"] == 2
    path = f"Patient/{made['id']}"
    back = fhir("GET", path, headers={"Accept": "application/fhir+xml"})
    assert back.content_type == "application/fhir+xml; charset=utf-8"
    again = fhir("PUT", path, back.data, {"Content-Type": "application/fhir+xml", "Accept": "application/fhir+xml"})
    assert again.status_code == 200, again.data
    now = fhir.get(path)
    assert {**now, "meta": None} == {**made, "meta": None}


def test_every_kind_of_answer_has_an_xml_form(fhir: Fhir) -> None:
    made = fhir.post("Patient", patient())
    path = f"Patient/{made['id']}"
    for url in (path, f"{path}/_history", f"Patient?_id={made['id']}", "metadata", f"{path}/_history/1", f"{path}?_summary=true"):
        answer = fhir("GET", f"{url}{'&' if '?' in url else '?'}_format=xml")
        assert answer.status_code == 200, answer.data
        assert answer.data.startswith(b"<?xml"), url
    fault = fhir("GET", "Patient/never-was?_format=xml")
    assert (fault.status_code, fault.content_type) == (404, "application/fhir+xml; charset=utf-8")
    assert b"<OperationOutcome" in fault.data


def test_pretty_is_the_same_content_on_many_lines(fhir: Fhir) -> None:
    made = fhir.post("Patient", patient())
    answer = fhir("GET", f"Patient/{made['id']}?_pretty=true")
    assert answer.data.count(b"\n") > 5
    assert answer.get_json() == made


def test_another_format_is_not_acceptable(fhir: Fhir) -> None:
    for headers, path in (({"Accept": "application/pdf"}, "Patient?name=x"), ({}, "Patient?name=x&_format=turtle"), ({}, "metadata?_format=ttl")):
        answer = fhir("GET", path, headers=headers)
        assert answer.status_code == 406
        issues(answer.get_json())


def test_id_of_64_characters_is_the_longest(fhir: Fhir) -> None:
    identity = (unique("A.b-") + "0" * 64)[:64]
    fhir.put(f"Patient/{identity}", patient(id=identity), 201)
    assert fhir.get(f"Patient/{identity}")["id"] == identity
    fhir.put(f"Patient/{identity}0", patient(id=identity + "0"), 400)
