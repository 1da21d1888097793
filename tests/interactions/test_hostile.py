"""Whatever is sent: a 4xx OperationOutcome that says what is wrong, and nothing stored. https://hl7.org/fhir/R4/security.html"""

from __future__ import annotations

import gzip
import json
import string
import time
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from tests.interactions.conftest import Fhir, Json, identified, patient, unique

JSON, XML = {"Content-Type": "application/fhir+json"}, {"Content-Type": "application/fhir+xml"}
NAMESPACE = 'xmlns="http://hl7.org/fhir"'
LIMIT = 4 * 1024 * 1024


class Bad(NamedTuple):
    """A body that no write may take: its status where that is certain, and a word that its answer must have."""

    body: bytes
    status: int = 0
    says: str = ""
    headers: dict[str, str] = JSON


def entities(depth: int) -> bytes:
    """Few bytes that mean many."""
    lines = ['<!ENTITY e0 "ha">', *(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, depth))]
    return f"<!DOCTYPE x [{''.join(lines)}]><Patient {NAMESPACE}><name><family value='&e{depth - 1};'/></name></Patient>".encode()


def bomb(size: int) -> bytes:
    return gzip.compress(b'{"resourceType":"Patient","language":"' + b"x" * size + b'"}')


BODIES: dict[str, Bad] = {
    "nothing": Bad(b"", 400, "empty"),
    "white space": Bad(b"  \n ", 400, "empty"),
    "no JSON": Bad(b"hello", 400, "JSON"),
    "cut off": Bad(b'{"resourceType":"Patient"', 400, "JSON"),
    "two values": Bad(b'{"resourceType":"Patient"} {}', 400, "JSON"),
    "trailing comma": Bad(b'{"resourceType":"Patient",}', 400, "JSON"),
    "comment": Bad(b'{"resourceType":"Patient"/**/}', 400, "JSON"),
    "NaN": Bad(b'{"resourceType":"Patient","multipleBirthInteger":NaN}', 400),
    "infinity": Bad(b'{"resourceType":"Patient","multipleBirthInteger":1e999999}', 400),
    "400 digits": Bad(b'{"resourceType":"Patient","multipleBirthInteger":' + b"1" * 400 + b"}", 400),
    "400 digits behind the point": Bad(b'{"resourceType":"Patient","multipleBirthInteger":0.' + b"1" * 400 + b"}", 400),
    "hidden in an unknown place": Bad(b'{"resourceType":"Patient","x":{"y":[' + b"1" * 400 + b"]}}"),
    "leading zero": Bad(b'{"resourceType":"Patient","multipleBirthInteger":01}', 400),
    "invalid UTF-8": Bad(b'{"resourceType":"Patient","language":"\xff\xfe"}', 400),
    "overlong UTF-8": Bad(b'{"resourceType":"Patient","language":"\xc0\x80"}', 400),
    "UTF-16": Bad('{"resourceType":"Patient"}'.encode("utf-16"), 400),
    "NUL": Bad(b'{"resourceType":"Patient","language":"\\u0000"}', 400, "NUL"),
    "NUL in a key": Bad(b'{"resourceType":"Patient","lang\\u0000uage":"x"}', 400),
    "bare control character": Bad(b'{"resourceType":"Patient","language":"\x01"}', 400),
    "lone surrogate": Bad(b'{"resourceType":"Patient","name":[{"family":"\\ud800"}]}'),
    "lone low surrogate": Bad(b'{"resourceType":"Patient","name":[{"family":"\\udc00x"}]}'),
    "duplicate key": Bad(b'{"resourceType":"Patient","gender":"male","gender":"female"}', 400, "twice"),
    "duplicate key deep inside": Bad(b'{"resourceType":"Patient","name":[{"family":"a","family":"b"}]}', 400, "twice"),
    "duplicate key, escaped": Bad(b'{"resourceType":"Patient","gender":"male","\\u0067ender":"female"}', 400, "twice"),
    "nested arrays": Bad(b'{"resourceType":"Patient","name":' + b"[" * 10_000 + b"]" * 10_000 + b"}", 400, "deep"),
    "nested objects": Bad(b'{"resourceType":"Patient","name":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"}", 400, "deep"),
    "nested extensions": Bad(b'{"resourceType":"Patient",' + b'"extension":[{"url":"x",' * 400 + b'"id":"x"' + b"}]" * 400 + b"}"),
    "nested contained": Bad(b'{"resourceType":"Patient",' + b'"contained":[{"resourceType":"Patient",' * 300 + b'"id":"x"' + b"}]" * 300 + b"}"),
    "array": Bad(b"[]", 400),
    "array of resources": Bad(b'[{"resourceType":"Patient"}]', 400),
    "string": Bad(b'"Patient"', 400),
    "number": Bad(b"7", 400),
    "null": Bad(b"null", 400),
    "no resourceType": Bad(b"{}", 400, "resourceType"),
    "resourceType a number": Bad(b'{"resourceType":7}', 400, "resourceType"),
    "resourceType a list": Bad(b'{"resourceType":["Patient"]}', 400, "resourceType"),
    "resourceType null": Bad(b'{"resourceType":null}', 400, "resourceType"),
    "resourceType unknown": Bad(b'{"resourceType":"Pateint"}', 400, "Pateint"),
    "resourceType abstract": Bad(b'{"resourceType":"DomainResource"}', 400),
    "resourceType a data type": Bad(b'{"resourceType":"HumanName"}', 400),
    "another type": Bad(b'{"resourceType":"Observation"}', 400, "Observation"),
    "object for a list": Bad(b'{"resourceType":"Patient","name":{}}', 422),
    "list for an object": Bad(b'{"resourceType":"Patient","maritalStatus":[]}', 422),
    "string for a list": Bad(b'{"resourceType":"Patient","name":"Ann"}', 422),
    "null in a list": Bad(b'{"resourceType":"Patient","name":[null]}', 422),
    "null for a list": Bad(b'{"resourceType":"Patient","name":null}', 422),
    "empty list": Bad(b'{"resourceType":"Patient","name":[]}', 422),
    "empty object": Bad(b'{"resourceType":"Patient","maritalStatus":{}}', 422),
    "empty string": Bad(b'{"resourceType":"Patient","language":""}', 422),
    "number for a string": Bad(b'{"resourceType":"Patient","language":7}', 422),
    "string for a boolean": Bad(b'{"resourceType":"Patient","active":"true"}', 422),
    "impossible date": Bad(b'{"resourceType":"Patient","birthDate":"2020-02-30"}', 422, "2020-02-30"),
    "year zero": Bad(b'{"resourceType":"Patient","birthDate":"0000"}', 422),
    "two choices": Bad(b'{"resourceType":"Patient","deceasedBoolean":true,"deceasedDateTime":"2020"}', 422),
    "meta a string": Bad(b'{"resourceType":"Patient","meta":"x"}', 422),
    "meta a list": Bad(b'{"resourceType":"Patient","meta":[]}', 422),
    "meta null": Bad(b'{"resourceType":"Patient","meta":null}', 422),
    "tags of numbers": Bad(b'{"resourceType":"Patient","meta":{"tag":[7]}}', 422),
    "script in the narrative": Bad(
        b'{"resourceType":"Patient","text":{"status":"generated","div":"<div xmlns=\\"http://www.w3.org/1999/xhtml\\"><script>x</script></div>"}}',
        422,
    ),
    "narrative with a DTD": Bad(
        b'{"resourceType":"Patient","text":{"status":"generated","div":"<!DOCTYPE a [<!ENTITY b \\"c\\">]><div xmlns=\\"http://www.w3.org/1999/xhtml\\">&b;</div>"}}',
        422,
    ),
    "over the limit": Bad(b'{"resourceType":"Patient","language":"' + b"x" * LIMIT + b'"}', 413),
    "white space over the limit": Bad(b" " * (LIMIT + 1), 413),
    "gzip that is none": Bad(b"hello", 400, "gzip", {**JSON, "Content-Encoding": "gzip"}),
    "gzip cut off": Bad(bomb(1_000)[:-9], 400, "gzip", {**JSON, "Content-Encoding": "gzip"}),
    "gzip bomb": Bad(bomb(50_000_000), 413, "", {**JSON, "Content-Encoding": "gzip"}),
    "unknown coding": Bad(b'{"resourceType":"Patient"}', 415, "", {**JSON, "Content-Encoding": "br"}),
    "no media type": Bad(b'{"resourceType":"Patient"}', 415, "", {"Content-Type": ""}),
    "wrong media type": Bad(b'{"resourceType":"Patient"}', 415, "", {"Content-Type": "text/plain"}),
    "wrong charset": Bad(b'{"resourceType":"Patient"}', 415, "", {"Content-Type": "application/fhir+json; charset=latin-1"}),
    "wrong version": Bad(b'{"resourceType":"Patient"}', 415, "", {"Content-Type": "application/fhir+json; fhirVersion=5.0"}),
    "JSON as XML": Bad(b'{"resourceType":"Patient"}', 400, "XML", XML),
    "XML as JSON": Bad(f"<Patient {NAMESPACE}/>".encode(), 400, "JSON"),
    "XML cut off": Bad(f"<Patient {NAMESPACE}>".encode(), 400, "XML", XML),
    "XML without namespace": Bad(b"<Patient/>", 400, "namespace", XML),
    "XML of another namespace": Bad(b'<Patient xmlns="urn:x"/>', 400, "namespace", XML),
    "XML with a DTD": Bad(f"<!DOCTYPE Patient><Patient {NAMESPACE}/>".encode(), 400, "document type", XML),
    "XML with a file": Bad(
        f'<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><Patient {NAMESPACE}><language value="&f;"/></Patient>'.encode(), 400, "", XML
    ),
    "XML with multiplying entities": Bad(entities(9), 400, "", XML),
    "XML of an unknown element": Bad(f'<Patient {NAMESPACE}><nmae value="x"/></Patient>'.encode(), 400, "nmae", XML),
    "XML with text": Bad(f"<Patient {NAMESPACE}>hello</Patient>".encode(), 400, "text", XML),
    "XML nested": Bad(f"<Patient {NAMESPACE}>".encode() + b'<extension url="x">' * 10_000 + b"</extension>" * 10_000 + b"</Patient>", 400, "", XML),
    "XML in Latin-1": Bad(
        f'<?xml version="1.0" encoding="ISO-8859-1"?><Patient {NAMESPACE}><language value="\xe9"/></Patient>'.encode("latin-1"), 400, "", XML
    ),
    "XML with NUL": Bad(f'<Patient {NAMESPACE}><language value="\0"/></Patient>'.encode(), 400, "", XML),
    "XML with the reference of NUL": Bad(f'<Patient {NAMESPACE}><language value="&#0;"/></Patient>'.encode(), 400, "", XML),
    "XML of 400 digits": Bad(f'<Patient {NAMESPACE}><multipleBirthInteger value="{"1" * 400}"/></Patient>'.encode(), 422, "", XML),
    "XML including": Bad(
        f'<Patient {NAMESPACE} xmlns:xi="http://www.w3.org/2001/XInclude"><xi:include href="file:///etc/passwd" parse="text"/></Patient>'.encode(),
        400,
        "",
        XML,
    ),
}


def refused(answer: TestResponse) -> Json:
    """The OperationOutcome of a refusal, which names a fault."""
    assert 400 <= answer.status_code < 500, (answer.status, answer.data[:500])
    outcome: Json = answer.get_json()
    assert outcome["resourceType"] == "OperationOutcome"
    for issue in outcome["issue"]:
        assert issue["severity"] in {"error", "fatal"}
        assert 10 < len(issue["diagnostics"]) < 2_000, issue
    return outcome


@pytest.fixture(scope="module")
def known(fhir: Fhir) -> str:
    """A Patient that bad requests aim at."""
    identity: str = fhir.post("Patient", patient())["id"]
    return identity


@pytest.mark.parametrize("name", BODIES)
def test_bad_bodies_are_refused_by_every_write(fhir: Fhir, known: str, name: str) -> None:
    bad, headers = BODIES[name], {"Accept": "application/fhir+json", **BODIES[name].headers}
    before = fhir.get("_history?_count=1&_total=accurate")["total"]
    answers = {address: fhir(*address, bad.body, headers) for address in (("POST", "Patient"), ("PUT", f"Patient/{known}"), ("PUT", "Patient?_id=x"))}
    for address, answer in answers.items():
        outcome = refused(answer)
        assert answer.status_code == (bad.status or answer.status_code), (address, answer.data)
        assert bad.says in str(outcome), address
    refused(fhir("POST", "", bad.body, headers))
    if name != "array":  # A JSON Patch without operations.
        refused(fhir("PATCH", f"Patient/{known}", bad.body, headers))
    told = fhir("POST", "Patient/$validate", bad.body, headers)
    if told.status_code == 200:
        assert "error" in [issue["severity"] for issue in told.get_json()["issue"]]
    else:
        refused(told)
    assert fhir.get("_history?_count=1&_total=accurate")["total"] == before


@pytest.mark.parametrize(
    "name", ["duplicate key", "impossible date", "nested objects", "resourceType a number", "NUL", "400 digits", "null in a list"]
)
@pytest.mark.parametrize("kind", ["batch", "transaction"])
def test_bad_resources_in_bundles_are_refused(fhir: Fhir, kind: str, name: str) -> None:
    value = unique()
    good = json.dumps({"resource": identified(value), "request": {"method": "POST", "url": "Patient"}}).encode()
    body = b'{"resourceType":"Bundle","type":"%s","entry":[%s,{"request":{"method":"POST","url":"Patient"},"resource":%s}]}'
    answer = fhir("POST", "", body % (kind.encode(), good, BODIES[name].body))
    if answer.status_code != 200:
        refused(answer)
        assert fhir.ids(f"Patient?identifier={value}") == []
    else:
        assert kind == "batch"
        assert [each["response"]["status"][0] for each in answer.get_json()["entry"]] == ["2", "4"]


HEADERS: list[tuple[str, str, str, dict[str, str]]] = [
    *(
        ("GET", "read", "", {"If-None-Match": tag})
        for tag in ("1 2", "W/1", '"', 'W/"', '"a b"', '"é"', '""', "*,*", ",", '"1"' * 100, '"' + "1" * 65 + '"')
    ),
    *(("PUT", "read", "", {"If-Match": tag}) for tag in ("1", "W/1", "*", '"1","2"', '""', "", "x" * 10_000)),
    *(
        ("GET", "read", "", {"If-Modified-Since": text})
        for text in ("yesterday", "2020-01-01", "Mon, 99 Foo 2020 00:00:00 GMT", "0", "Sun, 06 Nov 99999 00:00:00 GMT")
    ),
    *(
        ("GET", "read", "", {"Accept": text})
        for text in ("application/pdf", "x" * 5_000, "application/fhir+json; fhirVersion=3.0", "application/fhir+json;q=0")
    ),
    *(("GET", "read", "", {"Authorization": text}) for text in ("", "Bearer", "Bearer x", "Basic eDp5", "Bearer " + "a." * 5_000, "Bearer a.b.c")),
    *(("GET", "read", "", {"Host": text}) for text in ("x y", "<script>", "http://x")),
]


@pytest.mark.parametrize(("method", "target", "query", "headers"), HEADERS)
def test_bad_headers_are_refused(fhir: Fhir, known: str, method: str, target: str, query: str, headers: dict[str, str]) -> None:
    assert target == "read"
    body = patient(id=known) if method == "PUT" else None
    refused(fhir(method, f"Patient/{known}{query}", body, headers))


IDS = (
    "é",
    "%c3%a9",
    "x" * 65,
    "../x",
    "%00",
    "a%00b",
    "a%2fb",
    "a b",
    "a_b",
    "$",
    "%",
    "%zz",
    "\u202e",
    "%ff",
    "%ed%a0%80",
    "'",
    "a;b",
    "*",
    "{id}",
    "%23",
    "a%0d%0aX: y",
)


@pytest.mark.parametrize("identity", IDS)
@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "HEAD"])
def test_hostile_ids_are_refused(fhir: Fhir, method: str, identity: str) -> None:
    body: Any = {"PUT": patient(id="x"), "PATCH": [{"op": "remove", "path": "/gender"}]}.get(method)
    for path in (f"Patient/{identity}", f"Patient/{identity}/_history", f"Patient/{identity}/_history/{identity}"):
        answer = fhir(method, path, body)
        assert 400 <= answer.status_code < 500, (path, answer.status, answer.data[:300])


@pytest.mark.parametrize(
    "path",
    [
        "Nonsense",
        "patient",
        "Patient/1/2/3",
        "Patient//1",
        "//Patient",
        "Patient/1/_history/1/2",
        "_nonsense",
        "Patient/_nonsense/x",
        "$nonsense",
        "Patient/1/$no",
        "HumanName",
        "Resource",
        "DomainResource",
        "x" * 60000,
        "Patient/" + "x" * 60000,
        "Patient?" + "name=a&" * 5000,
        "Patient?name=" + "a," * 30000,
        "Patient?_id=" + ",".join(f"id{n}" for n in range(5000)),
        "%00",
        "..",
        "Patient/../Patient",
        "?name=x",
        "Patient/1?_format=nonsense",
        "Patient/1?_summary=x",
    ],
)
def test_bad_addresses_are_refused(fhir: Fhir, path: str) -> None:
    started = time.process_time()
    refused(fhir("GET", path))
    # No address is worth seconds.
    assert time.process_time() - started < 5


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "NONSENSE", "get", "PROPFIND"])
def test_unknown_methods_are_refused(fhir: Fhir, method: str) -> None:
    assert 400 <= fhir(method, "Patient/1").status_code < 500


def test_or_lists_up_to_their_limit_answer(fhir: Fhir, known: str) -> None:
    for name in ("_id", "identifier", "name", "birthdate", "general-practitioner", "family:exact"):
        values = ["2020-01-01" if name == "birthdate" else f"v{n}" for n in range(1_000)]
        assert fhir("GET", f"Patient?{name}={','.join(values)}").status_code == 200, name
    assert fhir.ids(f"Patient?_id={','.join([known] * 1_000)}") == [known]
    for n in (10, 60, 100):
        assert fhir("GET", "Patient?" + "&".join(["name=a"] * n)).status_code in {200, 400}, n
        assert fhir("GET", "Patient?" + "&".join(["identifier=a"] * n)).status_code in {200, 400}, n


# --- random junk --------------------------------------------------------------------------------------------------------------------

JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
KEYS = [
    "resourceType",
    "id",
    "meta",
    "text",
    "contained",
    "extension",
    "name",
    "identifier",
    "gender",
    "birthDate",
    "_birthDate",
    "link",
    "type",
    "entry",
    "parameter",
]
RESOURCES = st.fixed_dictionaries(
    {"resourceType": st.sampled_from(["Patient", "Bundle", "Parameters", "Binary", "Observation"]) | JUNK},
    optional=dict.fromkeys(KEYS[1:], JUNK),
)
REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "method": st.sampled_from(["GET", "PUT", "POST", "DELETE", "PATCH"]) | JUNK,
        "url": st.sampled_from(["Patient", "Patient/1", "Patient?identifier=1", "_history", "Patient/1/_history"]) | JUNK,
        "ifMatch": st.just('W/"1"') | JUNK,
        "ifNoneMatch": JUNK,
        "ifNoneExist": st.just("identifier=x") | JUNK,
        "ifModifiedSince": JUNK,
    },
)
ENTRIES = st.fixed_dictionaries({}, optional={"request": REQUESTS | JUNK, "resource": RESOURCES | JUNK, "fullUrl": JUNK})
BUNDLES = st.fixed_dictionaries(
    {"resourceType": st.just("Bundle"), "type": st.sampled_from(["batch", "transaction"]), "entry": st.lists(ENTRIES, min_size=1, max_size=4)}
)
PATCHES = st.lists(
    st.fixed_dictionaries(
        {
            "op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"]) | JUNK,
            "path": st.sampled_from(["/name/0", "/name/-", "", "/"]) | JUNK,
        },
        optional={"value": JUNK, "from": st.sampled_from(["/name"]) | JUNK},
    )
    | JUNK,
    max_size=3,
)
ADDRESSES = st.tuples(
    st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]),
    st.sampled_from(
        ["", "Patient", "Patient/1", "Patient/1/_history", "Patient/1/_history/1", "_history", "Patient/_search", "Patient/$validate", "metadata"]
    ),
)
NAMES = st.sampled_from(
    [
        "name",
        "birthdate",
        "identifier",
        "_id",
        "_lastUpdated",
        "_count",
        "_sort",
        "_include",
        "_revinclude",
        "_summary",
        "_elements",
        "_total",
        "_cursor",
        "_since",
        "_at",
        "_format",
        "_pretty",
        "general-practitioner",
        "name:exact",
        "birthdate:missing",
        "_has:Observation:subject:code",
        "link.name",
        "_tag",
    ]
)
VALUES = st.text(max_size=12) | st.sampled_from(["ge2020", "a|b", "true", "-name", "Patient:link", "2020-02-30", "\\", "|", ",", "1e9"])
QUERIES = st.lists(st.tuples(NAMES | st.text(max_size=5), VALUES), max_size=4)
HEADER = st.dictionaries(
    st.sampled_from(
        ["If-Match", "If-None-Match", "If-Modified-Since", "If-None-Exist", "Prefer", "Accept", "Content-Type", "Accept-Encoding", "X-Request-Id"]
    ),
    st.text(string.printable.replace("\r", "").replace("\n", "").replace("\x0b", "").replace("\x0c", ""), max_size=20)
    | st.sampled_from(['W/"1"', "*", "identifier=x", "return=minimal", "application/fhir+xml", "application/json-patch+json", "gzip"]),
    max_size=3,
)
_bounded = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


def sane(answer: TestResponse) -> None:
    assert answer.status_code < 500, (answer.status, answer.data[:500])


@_bounded
@given(address=ADDRESSES, query=QUERIES, headers=HEADER, body=st.none() | RESOURCES | BUNDLES | PATCHES | JUNK)
def test_junk_never_breaks_anything(fhir: Fhir, address: tuple[str, str], query: list[tuple[str, str]], headers: dict[str, str], body: Any) -> None:
    method, path = address
    text = "&".join(f"{quote(name)}={quote(value)}" for name, value in query)
    data = None if body is None else json.dumps(body).encode()
    sane(fhir(method, f"{path}?{text}" if text else path, data, {"Accept": "*/*", **headers}))


@_bounded
@given(body=BUNDLES)
def test_junk_in_bundles_never_breaks_anything(fhir: Fhir, body: Json) -> None:
    answer = fhir("POST", "", json.dumps(body).encode())
    sane(answer)
    if answer.status_code == 200:
        assert [each for each in answer.get_json()["entry"] if each["response"]["status"][0] == "5"] == []


@_bounded
@given(patch=PATCHES)
def test_junk_in_patches_never_breaks_anything(fhir: Fhir, known: str, patch: Any) -> None:
    sane(fhir("PATCH", f"Patient/{known}", json.dumps(patch).encode(), {"Content-Type": "application/json-patch+json"}))


@_bounded
@given(query=QUERIES)
def test_junk_in_queries_never_breaks_anything(fhir: Fhir, query: list[tuple[str, str]]) -> None:
    text = "&".join(f"{quote(name)}={quote(value)}" for name, value in query)
    for path in ("Patient", "_history", "Patient/_history"):
        sane(fhir("GET", f"{path}?{text}"))
        sane(fhir("GET", f"{path}?{text}", headers={"Prefer": "handling=lenient"}))


@_bounded
@given(data=st.binary(max_size=60))
def test_random_bytes_never_break_anything(fhir: Fhir, data: bytes) -> None:
    for kind in ("application/fhir+json", "application/fhir+xml", "application/json-patch+json"):
        answer = fhir("PATCH" if "patch" in kind else "POST", "Patient/1" if "patch" in kind else "Patient", data or b" ", {"Content-Type": kind})
        assert 400 <= answer.status_code < 500
