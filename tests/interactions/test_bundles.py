"""Batch and transaction as a whole. https://hl7.org/fhir/R4/http.html#transaction"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fhir_server.outcome import Outcome
from tests.interactions.conftest import LINK, Fhir, Json, entry, identified, issues, observation, patient, statuses, unique, written

# --- batch ----------------------------------------------------------------------------------------------------------------------


def test_entries_of_a_batch_stand_for_themselves(fhir: Fhir) -> None:
    made, other = fhir.post("Patient", patient()), fhir.post("Patient", patient())
    path = f"Patient/{made['id']}"
    answer = fhir.bundle(
        "batch",
        entry("POST", "Patient", patient(gender="foo")),
        entry("GET", path),
        entry("GET", "Patient/never-was"),
        entry("PUT", path, {**made, "gender": "female"}, ifMatch='W/"7"'),
        entry("POST", "Patient", patient()),
        entry("DELETE", path),
        entry("GET", path),
        entry("GET", f"Patient/{other['id']}/_history/1"),
        entry("GET", f"Patient?_id={made['id']}"),
        entry("GET", "metadata"),
        entry("HEAD", path),
        entry("FETCH", path),
        {"resource": patient()},
        entry("GET", f"{path}/_history?_format=json"),
    )
    assert (answer["resourceType"], answer["type"]) == ("Bundle", "batch-response")
    assert statuses(answer) == ["422", "200", "404", "412", "201", "204", "410", "200", "200", "200", "410", "400", "400", "200"]
    for each in answer["entry"]:
        if int(each["response"]["status"][:3]) >= 400:
            issues(each["response"]["outcome"])
    assert answer["entry"][1]["resource"] == made
    assert answer["entry"][1]["response"]["etag"] == 'W/"1"'
    assert answer["entry"][8]["resource"]["type"] == "searchset"
    outcome = fhir.post("Bundle/$validate", answer, 200)
    assert [issue for issue in outcome["issue"] if issue["severity"] == "error"] == []


def test_a_bundle_reads_no_more_where_its_answer_is_large_already(fhir: Fhir) -> None:
    large = fhir.post("Patient", patient(contact=[{"name": {"text": "x" * 1_000_000}} for _ in range(3)]))
    value = unique()
    reads = [entry("GET", f"Patient/{large['id']}") for _ in range(25)]
    write = entry("PUT", f"Patient/{value}", patient(id=value))
    told = fhir.bundle("batch", *reads, write, headers={"Prefer": "return=representation"})["entry"]
    assert [each["response"]["status"][:3] for each in told[:22]] == ["200"] * 22
    assert {each["response"]["status"][:3] for each in told[22:25]} == {str(Outcome("too-costly", "").status)}
    assert (told[25]["response"]["status"], "resource" in told[25]) == ("201 Created", False)
    fhir.bundle("transaction", *reads, entry("DELETE", f"Patient/{value}"), status=Outcome("too-costly", "").status)
    assert fhir.get(f"Patient/{value}")["id"] == value


def test_references_in_a_batch_stay_as_they_are(fhir: Fhir) -> None:
    answer = fhir.bundle(
        "batch",
        entry("POST", "Patient", patient(), LINK),
        entry("POST", "Observation", observation(subject={"reference": LINK})),
    )
    assert statuses(answer) == ["201", "201"]
    assert fhir.get(written(answer, 1))["subject"]["reference"] == LINK


def test_an_empty_bundle_has_an_empty_answer(fhir: Fhir) -> None:
    for kind in ("batch", "transaction"):
        answer = fhir.post("", {"resourceType": "Bundle", "type": kind}, 200)
        assert (answer["type"], answer.get("entry", [])) == (f"{kind}-response", [])


@pytest.mark.parametrize("kind", ["collection", "searchset", "history", "document", None, 7, ["batch"], {}])
def test_other_bundles_cannot_be_processed(fhir: Fhir, kind: Any) -> None:
    issues(fhir.post("", {"resourceType": "Bundle", "type": kind, "entry": []}, 400))
    issues(fhir.post("", patient(), 400))


# --- transaction: all or nothing, order ---------------------------------------------------------------------------------------------


def test_a_transaction_answers_for_each_entry_in_the_order_sent(fhir: Fhir) -> None:
    made = fhir.post("Patient", patient())
    gone = fhir.post("Patient", patient())
    identity = unique("put")
    answer = fhir.bundle(
        "transaction",
        entry("GET", f"Patient/{made['id']}"),
        entry("PUT", f"Patient/{made['id']}", {**made, "gender": "female"}, ifMatch='W/"1"'),
        entry("POST", "Patient", patient(id="dropped")),
        entry("DELETE", f"Patient/{gone['id']}"),
        entry("PUT", f"Patient/{identity}", patient(id=identity)),
        entry("GET", f"Patient?_id={identity}"),
    )
    assert (answer["resourceType"], answer["type"]) == ("Bundle", "transaction-response")
    assert statuses(answer) == ["200", "200", "201", "204", "201", "200"]
    # Reads come last: they see what the same transaction has written.
    assert answer["entry"][0]["resource"]["gender"] == "female"
    assert answer["entry"][5]["resource"]["total"] == 1
    for number, version in ((1, 2), (2, 1), (4, 1)):
        response = answer["entry"][number]["response"]
        assert response["etag"] == f'W/"{version}"'
        assert response["location"].endswith(f"/_history/{version}")
        stored = fhir.get(written(answer, number))
        assert response["lastModified"] == stored["meta"]["lastUpdated"]
        assert "resource" not in answer["entry"][number]
    assert written(answer, 2) != "Patient/dropped"
    assert fhir("GET", f"Patient/{gone['id']}").status_code == 410
    outcome = fhir.post("Bundle/$validate", answer, 200)
    assert [issue for issue in outcome["issue"] if issue["severity"] == "error"] == []


def test_what_is_returned_is_what_was_preferred(fhir: Fhir) -> None:
    one = entry("POST", "Patient", patient())
    assert "resource" not in fhir.bundle("transaction", one, headers={"Prefer": "return=minimal"})["entry"][0]
    full = fhir.bundle("transaction", one, headers={"Prefer": "return=representation"})["entry"][0]
    assert full["resource"]["name"] == patient()["name"]
    told = fhir.bundle("transaction", one, headers={"Prefer": "return=OperationOutcome"})["entry"][0]
    assert told["response"]["outcome"]["resourceType"] == "OperationOutcome"


def test_deletes_come_before_conditional_creates_whatever_the_order(fhir: Fhir) -> None:
    value = unique()
    old = fhir.post("Patient", identified(value))
    answer = fhir.bundle(
        "transaction",
        entry("POST", "Patient", identified(value, gender="male"), ifNoneExist=f"identifier=urn:mrn|{value}"),
        entry("DELETE", f"Patient/{old['id']}"),
    )
    assert statuses(answer) == ["201", "204"]
    assert fhir.ids(f"Patient?identifier={value}") == [written(answer, 0).partition("/")[2]]


@pytest.mark.parametrize(
    ("last", "status"),
    [
        (entry("POST", "Patient", patient(gender="foo")), 422),
        (entry("GET", "Patient/never-was"), 404),
        (entry("PUT", "Patient/never-was", patient(id="never-was"), ifMatch='W/"1"'), 412),
        (entry("PUT", "Patient/one", patient(id="two")), 400),
        (entry("PUT", "Patient/one", patient()), 400),
        (entry("POST", "Observation", patient()), 400),
        (entry("POST", "Observation", observation(subject={"reference": "Patient?identifier=urn:mrn|nobody-has-this"})), 412),
        (entry("POST", "Observation", observation(subject={"reference": "Patient?nope=1"})), 400),
        (entry("POST", "Observation", observation(subject={"reference": "Nonsense?identifier=1"})), 0),
        (entry("POST", "Nonsense", {"resourceType": "Nonsense"}), 404),
        (entry("POST", "Patient"), 400),
        (entry("PUT", "Patient", patient()), 400),
        (entry("DELETE", "Patient"), 400),
        (entry("DELETE", "Patient?nope=1"), 400),
        (entry("GET", "Patient?nope=1"), 400),
        (entry("PATCH", "Patient/never-was", {"resourceType": "Parameters"}), 404),
        (entry("PATCH", "Patient?identifier=urn:mrn|nobody-has-this", {"resourceType": "Parameters"}), 404),
        (entry("POST", "$validate", patient()), 400),
        (entry("GET", "http://elsewhere.example.org/fhir/Patient/1"), 400),
        ({"resource": patient()}, 400),
    ],
)
def test_one_bad_entry_undoes_all(fhir: Fhir, last: Json, status: int) -> None:
    value, identity = unique(), unique("kept")
    kept = fhir.put(f"Patient/{identity}", patient(id=identity), 201)
    bundle = [entry("POST", "Patient", identified(value)), entry("DELETE", f"Patient/{identity}"), last]
    answer = fhir("POST", "", {"resourceType": "Bundle", "type": "transaction", "entry": bundle})
    assert answer.status_code == (status or answer.status_code), answer.data
    assert 400 <= answer.status_code < 500
    issues(answer.get_json())
    assert fhir.ids(f"Patient?identifier={value}") == []
    assert fhir.get(f"Patient/{identity}") == kept
    assert fhir.get(f"Patient/{identity}/_history")["total"] == 1


def test_every_faulty_entry_is_named(fhir: Fhir) -> None:
    bad = [entry("POST", "Patient", patient(gender="foo")), entry("POST", "Patient", patient()), entry("POST", "Patient", patient(birthDate="x"))]
    outcome = fhir.bundle("transaction", *bad, status=422)
    assert [issue["expression"][0] for issue in outcome["issue"]] == ["Bundle.entry[0].resource.gender", "Bundle.entry[2].resource.birthDate"]


# --- transaction: large, concurrent ------------------------------------------------------------------------------------------------


def test_a_bundle_of_2000_entries(fhir: Fhir) -> None:
    value = unique()
    patients = [
        entry("POST", "Patient", identified(value, birthDate="1990-01-01"), f"urn:uuid:00000000-0000-4000-8000-{n:012}") for n in range(1_000)
    ]
    seen = [entry("POST", "Observation", observation(subject={"reference": each["fullUrl"]}, identifier=[{"value": value}])) for each in patients]
    answer = fhir.bundle("transaction", *seen, *patients)
    assert set(statuses(answer)) == {"201"}
    locations = [written(answer, n) for n in range(2_000)]
    assert len(set(locations)) == 2_000
    assert fhir.get(f"Patient?identifier={value}&_summary=count")["total"] == 1_000
    assert fhir.get(locations[7])["subject"]["reference"] == locations[1_007]
    referring = fhir.get(f"Observation?subject={locations[1_500]}")
    assert [each["resource"]["id"] for each in referring["entry"]] == [locations[500].partition("/")[2]]


def test_transactions_over_the_same_resources_in_opposite_order_both_end(fhir: Fhir) -> None:
    made = [fhir.post("Patient", patient()) for _ in range(10)]
    entries = [entry("PUT", f"Patient/{each['id']}", each) for each in made]

    def run(number: int) -> list[str]:
        return statuses(fhir.bundle("transaction", *(entries if number % 2 else reversed(entries))))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(run, range(8))) == [["200"] * 10] * 8
    assert {fhir.get(f"Patient/{each['id']}")["meta"]["versionId"] for each in made} == {"9"}


def test_racing_transactions_with_one_condition_make_one_resource(fhir: Fhir) -> None:
    value = unique()

    def run(_: int) -> tuple[str, str]:
        answer = fhir.bundle(
            "transaction",
            entry("POST", "Patient", identified(value), LINK, ifNoneExist=f"identifier=urn:mrn|{value}"),
            entry("POST", "Observation", observation(subject={"reference": LINK})),
        )
        return written(answer, 0), fhir.get(written(answer, 1))["subject"]["reference"]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(run, range(6)))
    assert len({address for pair in found for address in pair}) == 1


def test_labels_are_carried_by_updates_in_transactions(fhir: Fhir) -> None:
    made = fhir.post("Patient", patient(meta={"tag": [{"system": "urn:t", "code": "a"}]}))
    fhir.bundle("transaction", entry("PUT", f"Patient/{made['id']}", patient(id=made["id"])))
    assert fhir.get(f"Patient/{made['id']}")["meta"]["tag"] == [{"system": "urn:t", "code": "a"}]


def test_a_transaction_in_xml(fhir: Fhir) -> None:
    sent = (
        '<Bundle xmlns="http://hl7.org/fhir"><type value="transaction"/>'
        f'<entry><fullUrl value="{LINK}"/><resource><Patient><name><family value="Xml"/></name></Patient></resource>'
        '<request><method value="POST"/><url value="Patient"/></request></entry>'
        f'<entry><resource><Observation><status value="final"/><code><text value="x"/></code>'
        f'<subject><reference value="{LINK}"/></subject></Observation>'
        '</resource><request><method value="POST"/><url value="Observation"/></request></entry></Bundle>'
    )
    answer = fhir("POST", "", sent, {"Content-Type": "application/fhir+xml", "Accept": "application/fhir+json"})
    assert answer.status_code == 200, answer.data
    bundle = answer.get_json()
    assert fhir.get(written(bundle, 1))["subject"]["reference"] == written(bundle, 0)


def test_a_token_that_may_only_read_writes_nothing_by_bundles(fhir: Fhir) -> None:
    value = unique()
    reader = fhir.other(scope="system/*.rs")
    batch = reader.bundle("batch", entry("POST", "Patient", identified(value)), entry("GET", "Patient?_count=1"))
    assert statuses(batch) == ["403", "200"]
    issues(reader.bundle("transaction", entry("POST", "Patient", identified(value)), status=403))
    assert fhir.ids(f"Patient?identifier={value}") == []
