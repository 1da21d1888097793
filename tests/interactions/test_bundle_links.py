"""Links between the entries of a transaction. https://hl7.org/fhir/R4/http.html#trules"""

from __future__ import annotations

from tests.interactions.conftest import BASE, LINK, OTHER, Fhir, entry, identified, issues, observation, patient, statuses, unique, written


def test_links_become_references_wherever_one_may_stand(fhir: Fhir) -> None:
    oid, canonical = "urn:oid:2.16.840.1.113883.3.4.5", "urn:uuid:9f1c7b1e-0000-4000-8000-000000000001"
    composition = {
        "resourceType": "Basic",
        "code": {"text": LINK},
        "subject": {"reference": LINK},
        "identifier": [{"system": LINK, "value": LINK}],
        "modifierExtension": [{"url": "http://example.org/inside", "valueReference": {"reference": "#o"}}],
        "contained": [{"resourceType": "Observation", "id": "o", "status": "final", "code": {"text": "x"}, "subject": {"reference": oid}}],
        "extension": [
            {"url": "http://example.org/ref", "valueReference": {"reference": oid}},
            {"url": "http://example.org/canonical", "valueCanonical": f"{canonical}|1.0"},
            {"url": "http://example.org/uri", "valueUri": LINK},
            {"url": "http://example.org/string", "valueString": LINK},
            {"url": "http://example.org/fragment", "valueUri": f"{LINK}#name"},
        ],
        "text": {
            "status": "generated",
            "div": f'<div xmlns="http://www.w3.org/1999/xhtml"><a href="{LINK}">she</a> <a href=\'{oid}\'>it</a> {LINK} <a href="http://x.org/">x</a></div>',
        },
        "author": {"extension": [{"url": "http://example.org/deep", "valueReference": {"reference": LINK}}], "display": LINK},
    }
    answer = fhir.bundle(
        "transaction",
        entry("POST", "Basic", composition),
        entry("POST", "Patient", patient(), LINK),
        entry("POST", "Patient", patient(), oid),
        entry("POST", "ValueSet", {"resourceType": "ValueSet", "status": "draft", "url": "http://example.org/vs"}, canonical),
    )
    found = fhir.get(written(answer, 0))
    she, it, values = written(answer, 1), written(answer, 2), written(answer, 3)
    assert found["subject"]["reference"] == she
    assert found["contained"][0]["subject"]["reference"] == it
    assert [each.get("valueReference", {}).get("reference") or each.get("valueCanonical") or each.get("valueUri") for each in found["extension"]] == [
        it,
        f"{values}|1.0",
        she,
        None,
        f"{she}#name",
    ]
    assert found["extension"][3]["valueString"] == LINK
    assert found["author"]["extension"][0]["valueReference"]["reference"] == she
    assert found["author"]["display"] == LINK
    assert found["code"]["text"] == LINK
    assert found["identifier"][0]["value"] == LINK
    assert f'<a href="{she}">she</a> <a href=\'{it}\'>it</a> {LINK} <a href="http://x.org/">x</a>' in found["text"]["div"]
    assert fhir.ids(f"Basic?subject={she}") == [found["id"]]


def test_links_may_form_a_circle_and_point_to_themselves(fhir: Fhir) -> None:
    answer = fhir.bundle(
        "transaction",
        entry("POST", "Patient", patient(link=[{"other": {"reference": OTHER}, "type": "seealso"}]), LINK),
        entry(
            "POST",
            "Patient",
            patient(link=[{"other": {"reference": LINK}, "type": "seealso"}, {"other": {"reference": OTHER}, "type": "refer"}]),
            OTHER,
        ),
    )
    one, two = written(answer, 0), written(answer, 1)
    assert fhir.get(one)["link"][0]["other"]["reference"] == two
    assert [each["other"]["reference"] for each in fhir.get(two)["link"]] == [one, two]


def test_full_urls_of_resources_elsewhere_are_links_too(fhir: Fhir) -> None:
    there = "http://elsewhere.example.org/fhir/Patient/77"
    answer = fhir.bundle(
        "transaction",
        entry("POST", "Patient", patient(id="77"), there),
        entry("POST", "Observation", observation(subject={"reference": there}), "http://elsewhere.example.org/fhir/Observation/5"),
        entry("POST", "Observation", observation(subject={"reference": "Patient/77"}), "http://elsewhere.example.org/fhir/Observation/6"),
    )
    assert fhir.get(written(answer, 1))["subject"]["reference"] == written(answer, 0)
    # https://hl7.org/fhir/R4/bundle.html#references: a relative reference is read against the fullUrl of the entry that it stands in.
    assert fhir.get(written(answer, 2))["subject"]["reference"] == written(answer, 0)


def test_links_to_what_was_found_updated_and_patched(fhir: Fhir) -> None:
    value, identity = unique(), unique("known")
    there = fhir.post("Patient", identified(value))["id"]
    answer = fhir.bundle(
        "transaction",
        entry("POST", "Observation", observation(subject={"reference": LINK})),
        entry("POST", "Observation", observation(subject={"reference": OTHER})),
        entry("POST", "Patient", identified(value), LINK, ifNoneExist=f"identifier=urn:mrn|{value}"),
        entry("PUT", f"Patient/{identity}", patient(id=identity), OTHER),
    )
    assert statuses(answer) == ["201", "201", "200", "201"]
    assert fhir.get(written(answer, 0))["subject"]["reference"] == f"Patient/{there}"
    assert fhir.get(written(answer, 1))["subject"]["reference"] == f"Patient/{identity}"


def test_conditional_references(fhir: Fhir) -> None:
    value = unique()
    there = fhir.post("Patient", identified(value))["id"]
    condition = f"Patient?identifier=urn:mrn|{value}"
    made = observation(
        subject={"reference": condition},
        performer=[{"reference": condition}],
        extension=[{"url": "http://example.org/uri", "valueUri": condition}, {"url": "http://example.org/canonical", "valueCanonical": condition}],
        text={"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml"><a href="{condition}">she</a></div>'},
    )
    answer = fhir.bundle("transaction", entry("POST", "Observation", made))
    found = fhir.get(written(answer, 0))
    assert found["subject"]["reference"] == found["performer"][0]["reference"] == f"Patient/{there}"
    assert found["extension"][0]["valueUri"] == found["extension"][1]["valueCanonical"] == f"Patient/{there}"
    assert f'href="Patient/{there}"' in found["text"]["div"]
    fhir.post("Patient", identified(value))
    assert "more than one" in issues(fhir.bundle("transaction", entry("POST", "Observation", made), status=412))


def test_a_conditional_reference_does_not_find_what_is_deleted_beside_it(fhir: Fhir) -> None:
    value = unique()
    there = fhir.post("Patient", identified(value))["id"]
    made = observation(subject={"reference": f"Patient?identifier=urn:mrn|{value}"})
    fhir.bundle("transaction", entry("POST", "Observation", made), entry("DELETE", f"Patient/{there}"), status=412)
    assert fhir.get(f"Patient/{there}")["id"] == there


def test_a_reference_to_one_version_stays_one(fhir: Fhir) -> None:
    there = fhir.post("Patient", patient())["id"]
    versioned = f"Patient/{there}/_history/1"
    answer = fhir.bundle(
        "transaction",
        entry("POST", "Observation", observation(subject={"reference": versioned})),
        entry("PUT", f"Patient/{there}", patient(id=there), f"{BASE}/Patient/{there}"),
    )
    assert fhir.get(written(answer, 0))["subject"]["reference"] == versioned


def test_a_stored_bundle_is_left_as_it_is(fhir: Fhir) -> None:
    seen = observation(id="o", subject={"reference": LINK}, performer=[{"reference": "Patient?identifier=urn:mrn|nobody-has-this"}])
    inside = [{"fullUrl": LINK, "resource": patient(id="p")}, {"fullUrl": OTHER, "resource": seen}]
    stored = {"resourceType": "Bundle", "type": "collection", "link": [{"relation": "self", "url": "Patient?name=x"}], "entry": inside}
    asked = {"resourceType": "Bundle", "type": "batch", "entry": [entry("GET", "Patient?identifier=nobody-has-this")]}
    answer = fhir.bundle("transaction", entry("POST", "Bundle", stored), entry("POST", "Bundle", asked), entry("POST", "Patient", patient(), LINK))
    assert fhir.get(written(answer, 0))["entry"] == inside
    assert fhir.get(written(answer, 1))["entry"] == asked["entry"]


def test_links_inside_a_patch(fhir: Fhir) -> None:
    made = fhir.post("Observation", observation())
    patch = {
        "resourceType": "Parameters",
        "parameter": [
            {
                "name": "operation",
                "part": [
                    {"name": "type", "valueCode": "add"},
                    {"name": "path", "valueString": "Observation"},
                    {"name": "name", "valueString": "subject"},
                    {"name": "value", "valueReference": {"reference": LINK}},
                ],
            }
        ],
    }
    answer = fhir.bundle("transaction", entry("PATCH", f"Observation/{made['id']}", patch), entry("POST", "Patient", patient(), LINK))
    assert fhir.get(f"Observation/{made['id']}")["subject"]["reference"] == written(answer, 1)
