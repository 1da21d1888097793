"""$graphql. https://hl7.org/fhir/R4/graphql.html"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.interactions.conftest import Fhir, Json, entry, patient, unique

Count = Callable[[Callable[[], object]], int]

PERSON: Json = {
    "identifier": [{"system": "urn:oid:1.2.36", "value": "12345"}],
    "active": True,
    "name": [
        {"use": "official", "family": "Chalmers", "given": ["Peter", "James"]},
        {"use": "usual", "given": ["Jim"]},
        {"use": "maiden", "family": "Windsor", "given": ["Peter", "James"]},
    ],
    "birthDate": "2016-05-18",
    "_birthDate": {"extension": [{"url": "urn:time", "valueDateTime": "2016-05-18T10:28:45Z"}]},
    "contact": [{"name": {"family": "Du Marché"}, "gender": "female"}],
}


def ask(fhir: Fhir, query: str, path: str = "", **more: Any) -> Any:
    """The data of an answer to a query over GET."""
    answer = fhir("GET", f"{path}$graphql?{urlencode({'query': query, **more})}")
    assert answer.status_code == 200, answer.text
    assert answer.content_type.startswith("application/json")
    told = json.loads(answer.data)
    assert set(told) == {"data"}
    return told["data"]


def refused(fhir: Fhir, query: str, path: str = "", status: int = 400, **more: Any) -> str:
    """What the errors say, checked to be those of the page."""
    answer = fhir("GET", f"{path}$graphql?{urlencode({'query': query, **more})}")
    assert answer.status_code == status, answer.text
    told = json.loads(answer.data)
    assert told["data"] is None
    assert all(error["extensions"]["resource"]["issue"][0]["diagnostics"] == error["message"] for error in told["errors"])
    assert all(place["line"] > 0 for error in told["errors"] for place in error.get("locations", ()))
    return " / ".join(error["message"] for error in told["errors"])


def put(fhir: Fhir, *resources: Json) -> None:
    fhir.bundle("transaction", *(entry("PUT", f"{each['resourceType']}/{each['id']}", each) for each in resources))


@pytest.fixture(scope="module")
def name(fhir: Fhir) -> str:
    """The page's patient with a practitioner, conditions and an observation."""
    name = unique("g")
    subject = {"subject": {"reference": f"Patient/{name}"}}
    put(
        fhir,
        {"resourceType": "Organization", "id": f"{name}-org", "name": "Hospital"},
        {"resourceType": "Practitioner", "id": f"{name}-doc", "name": [{"family": "Who"}]},
        {
            "resourceType": "Patient",
            "id": name,
            **PERSON,
            "generalPractitioner": [{"reference": f"Practitioner/{name}-doc"}],
            "managingOrganization": {"reference": "#o"},
            "contained": [{"resourceType": "Organization", "id": "o", "name": "Contained", "partOf": {"reference": f"Organization/{name}-org"}}],
        },
        *({"resourceType": "Condition", "id": f"{name}-c{n}", **subject, "code": {"text": f"C{n}"}} for n in range(3)),
        {
            "resourceType": "Observation",
            "id": f"{name}-o",
            "status": "final",
            "code": {"text": "Weight"},
            **subject,
            "valueQuantity": {"value": 72.10, "unit": "kg"},
            "performer": [{"reference": f"Practitioner/{name}-doc"}, {"reference": f"Practitioner/{name}-gone"}, {"display": "Somebody"}],
        },
    )
    return name


def of(fhir: Fhir, name: str, query: str, **more: Any) -> Any:
    return ask(fhir, query, f"Patient/{name}/", **more)


def test_fields_are_elements(fhir: Fhir, name: str) -> None:
    assert of(fhir, name, "{ name { text given family } }") == {
        "name": [{"given": ["Peter", "James"], "family": "Chalmers"}, {"given": ["Jim"]}, {"given": ["Peter", "James"], "family": "Windsor"}]
    }
    assert of(fhir, name, "{ resourceType id born: birthDate _birthDate { extension { valueDateTime } } contact { name { family } } }") == {
        "resourceType": "Patient",
        "id": name,
        "born": "2016-05-18",
        "_birthDate": {"extension": [{"valueDateTime": "2016-05-18T10:28:45Z"}]},
        "contact": [{"name": {"family": "Du Marché"}}],
    }
    types = of(fhir, name, "{ __typename name { __typename } contact { __typename } }")
    assert (types["__typename"], types["name"][0], types["contact"]) == ("Patient", {"__typename": "HumanName"}, [{"__typename": "PatientContact"}])
    assert b'{"value":72.1,"unit":"kg"}' in fhir("GET", f"Observation/{name}-o/$graphql?query={{valueQuantity{{value,unit}}}}").data


def test_lists_are_chosen_from(fhir: Fhir, name: str) -> None:
    def chosen(choice: str) -> list[str]:
        return [" ".join(each["given"]) for each in of(fhir, name, f"{{ name{choice} {{ given }} }}").get("name", ())]

    assert chosen("(use: official)") == ["Peter James"]
    assert chosen('(use: ["official", usual])') == ["Peter James", "Jim"]
    assert chosen('(given: "Jim")') == ["Jim"]
    assert chosen("(use: temp)") == []
    assert chosen('(fhirpath: "family.exists()")') == ["Peter James", "Peter James"]
    assert chosen("(_offset: 1)") == ["Jim", "Peter James"]
    assert chosen("(_offset: 1, _count: 1)") == ["Jim"]
    assert chosen('(fhirpath: "family.exists()", _offset: 1, _count: 5)') == ["Peter James"]
    assert chosen(" @first") == ["Peter James"]
    assert of(fhir, name, '{ when: _birthDate(fhirpath: "extension.exists()") { at: extension(url: "urn:time") { valueDateTime } } }') == {
        "when": {"at": [{"valueDateTime": "2016-05-18T10:28:45Z"}]}
    }


def test_fragments_variables_and_conditions(fhir: Fhir, name: str) -> None:
    query = """
    query Both($use: String = "official", $long: Boolean!) {
      ...Names
      ... on Patient @include(if: $long) { active }
      ... on Observation { status }
      ... @skip(if: $long) { birthDate }
    }
    query Other { id }
    fragment Names on DomainResource { name(use: $use) { ...Family } }
    fragment Family on HumanName { family }
    """
    shown = {"operationName": "Both", "variables": json.dumps({"long": True})}
    assert of(fhir, name, query, **shown) == {"name": [{"family": "Chalmers"}], "active": True}
    shown["variables"] = json.dumps({"long": False, "use": "maiden"})
    assert of(fhir, name, query, **shown) == {"name": [{"family": "Windsor"}], "birthDate": "2016-05-18"}
    assert of(fhir, name, query, operationName="Other") == {"id": name}
    twice = "{ name { family } name { family given @first } active active }"
    assert of(fhir, name, twice)["name"][0] == {"family": "Chalmers", "given": ["Peter"]}


def test_references_are_followed(fhir: Fhir, name: str) -> None:
    query = """{ Observation(id: "ID-o") {
      subject { reference resource { ... on Patient { birthDate } ... on Group { quantity } id } }
      performer { display resource(optional: true) { ... on Practitioner { name { family } } } }
    } }""".replace("ID", name)
    assert ask(fhir, query) == {
        "Observation": {
            "subject": {"reference": f"Patient/{name}", "resource": {"birthDate": "2016-05-18", "id": name}},
            "performer": [{"resource": {"name": [{"family": "Who"}]}}, {}, {"display": "Somebody"}],
        }
    }
    typed = "{ subject { resource(type: Patient) { birthDate } resource(type: Group) { quantity } } }"
    assert ask(fhir, typed, f"Observation/{name}-o/") == {"subject": {"resource": {"birthDate": "2016-05-18"}}}
    assert ask(fhir, "{ subject { resource { active name { family } } } }", f"Observation/{name}-o/")["subject"]["resource"]["active"] is True
    inner = "{ managingOrganization { resource { name partOf { resource { name } } } } contained { ... on Organization { id name } } }"
    assert of(fhir, name, inner) == {
        "managingOrganization": {"resource": {"name": "Contained", "partOf": {"resource": {"name": "Hospital"}}}},
        "contained": [{"id": "o", "name": "Contained"}],
    }
    said = refused(fhir, "{ performer { resource { id } } }", f"Observation/{name}-o/")
    assert said.startswith(f"'Practitioner/{name}-gone' cannot be followed; say resource(optional: true)")


def test_searches(fhir: Fhir, name: str) -> None:
    listed = ask(fhir, f'{{ ConditionList(patient: "{name}", _sort: "_id") {{ id code {{ text }} }} }}')
    assert listed == {"ConditionList": [{"id": f"{name}-c{n}", "code": {"text": f"C{n}"}} for n in range(3)]}
    ids = f'["{name}-c0", "{name}-c2"]'
    two = f'{{ some: ConditionList(_id: {ids}, _sort: "_id") {{ id }} none: ConditionList(_id: "no,thing") {{ id }} }}'
    assert ask(fhir, two) == {"some": [{"id": f"{name}-c0"}, {"id": f"{name}-c2"}], "none": []}
    chosen = f'{{ ConditionList(patient: "{name}", fhirpath: "code.text = \'C1\'") {{ id }} }}'
    assert ask(fhir, chosen) == {"ConditionList": [{"id": f"{name}-c1"}]}
    assert len(ask(fhir, f'{{ ConditionList(patient: "{name}", _count: 2) {{ id }} }}')["ConditionList"]) == 2
    hyphens = f'{{ ConditionList(patient: "{name}", clinical_status: active) {{ id }} PatientList(_id: "{name}", name: "chal") {{ id }} }}'
    assert ask(fhir, hyphens) == {"ConditionList": [], "PatientList": [{"id": name}]}
    variable = "query($ids: [ID]!) { ConditionList(_id: $ids) { id } }"
    assert ask(fhir, variable, variables=json.dumps({"ids": [f"{name}-c1"]})) == {"ConditionList": [{"id": f"{name}-c1"}]}


def test_what_refers_to_a_resource(fhir: Fhir, name: str) -> None:
    found = of(
        fhir, name, '{ id ConditionList(_reference: patient, _sort: "_id") { id } ObservationList(_reference: subject, _count: 1) { status } }'
    )
    assert found == {"id": name, "ConditionList": [{"id": f"{name}-c{n}"} for n in range(3)], "ObservationList": [{"status": "final"}]}
    page = of(fhir, name, "{ ConditionConnection(_reference: subject, _count: 2) { count edges { resource { id } } next } }")["ConditionConnection"]
    assert page["count"] == 3
    assert len(page["edges"]) == 2
    assert len(ask(fhir, f'{{ ConditionConnection(cursor: "{page["next"]}") {{ edges {{ mode }} }} }}')["ConditionConnection"]["edges"]) == 1
    nested = f'{{ PatientList(_id: "{name}") {{ ConditionConnection(_reference: subject) {{ count }} }} }}'
    assert ask(fhir, nested)["PatientList"][0]["ConditionConnection"] == {"count": 3}


def test_connections_have_pages_of_one_moment(fhir: Fhir) -> None:
    stem = unique("family")
    put(fhir, *(patient(id=f"{stem}-{n}", name=[{"family": stem}]) for n in range(5)))
    fields = "{ count offset pagesize first previous next last edges { mode score resource { id } } __typename }"
    page = ask(fhir, f'{{ PatientConnection(name: "{stem}", _count: 2, _sort: "_id") {fields} }}')["PatientConnection"]
    assert {key: page[key] for key in ("count", "offset", "pagesize", "previous", "last", "__typename")} == {
        "count": 5,
        "offset": 0,
        "pagesize": 2,
        "previous": None,
        "last": None,
        "__typename": "PatientConnection",
    }
    assert page["edges"][0] == {"mode": "match", "score": None, "resource": {"id": f"{stem}-0"}}
    first, found = page["first"], list(page["edges"])
    put(fhir, patient(id=f"{stem}-4", name=[{"family": "Other"}]), patient(id=f"{stem}-9", name=[{"family": stem}]))
    while page["next"] is not None:
        page = ask(fhir, f'{{ PatientConnection(_cursor: "{page["next"]}") {fields} }}')["PatientConnection"]
        found += page["edges"]
    assert [edge["resource"]["id"] for edge in found] == [f"{stem}-{n}" for n in range(5)]
    assert page["offset"] == 4
    again = ask(fhir, f'{{ PatientConnection(cursor: "{first}") {fields} }}')["PatientConnection"]
    assert [edge["resource"]["id"] for edge in again["edges"]] == [f"{stem}-0", f"{stem}-1"]
    assert "stands alone" in refused(fhir, f'{{ PatientConnection(cursor: "{first}", name: "x") {{ count }} }}')
    assert "page link" in refused(fhir, f'{{ PatientConnection(cursor: "{first}abc") {{ count }} }}')
    assert "cursor was changed" in refused(fhir, '{ PatientConnection(cursor: "ä") { count } }')


def test_the_examples_of_flattening(fhir: Fhir, name: str) -> None:
    both = {"system": ["urn:oid:1.2.36"], "value": ["12345"], "active": True}
    assert of(fhir, name, "{ identifier @flatten { system value } active name @flatten { text given family } }") == {
        **both,
        "given": ["Peter", "James", "Jim", "Peter", "James"],
        "family": ["Chalmers", "Windsor"],
    }
    assert of(fhir, name, "{ name @flatten { text given @first family } }") == {"given": ["Peter", "Jim", "Peter"], "family": ["Chalmers", "Windsor"]}
    single = "{ identifier @flatten { system @singleton value @singleton } name @flatten @first { text given family @singleton } }"
    assert of(fhir, name, single) == {"system": "urn:oid:1.2.36", "value": "12345", "given": ["Peter", "James"], "family": "Chalmers"}
    assert of(fhir, name, '{ name @flatten @slice(path: "use") { given family @singleton } }') == {
        "given.official": ["Peter", "James"],
        "family.official": "Chalmers",
        "given.usual": ["Jim"],
        "given.maiden": ["Peter", "James"],
        "family.maiden": "Windsor",
    }
    assert of(fhir, name, '{ name @slice(path: "$index") @flatten { given @first @singleton family } }') == {
        "given.0": "Peter",
        "family.0": ["Chalmers"],
        "given.1": "Jim",
        "given.2": "Peter",
        "family.2": ["Windsor"],
    }
    assert of(fhir, name, '{ name @slice(path: "use") { family } }')["name.maiden"] == [{"family": "Windsor"}]
    resolved = "{ generalPractitioner @flatten { resource @flatten { name @flatten { doctor: family @singleton } } } }"
    assert of(fhir, name, resolved) == {"doctor": "Who"}
    assert ask(fhir, f'{{ ConditionList(patient: "{name}", _sort: "_id") @flatten {{ code @flatten {{ text }} }} }}') == {"text": ["C0", "C1", "C2"]}
    assert "several values" in refused(fhir, "{ name @flatten { family @singleton } }", f"Patient/{name}/")
    assert "into one list" in refused(fhir, "{ active name @flatten { x: family } identifier @flatten { x: system } }", f"Patient/{name}/")


def test_every_way_to_send_a_query(fhir: Fhir, name: str) -> None:
    path, query = f"Patient/{name}/$graphql", "query Q($u: String) { name(use: $u) { family } }"
    expected = {"data": {"name": [{"family": "Windsor"}]}}
    sent = {"query": query, "variables": {"u": "maiden"}, "operationName": "Q"}
    for kind in ("application/json", "application/fhir+json"):
        assert fhir.post(path, sent, 200, {"Content-Type": kind}) == expected
    assert fhir.post(path, "{ name(use: maiden) { family } }", 200, {"Content-Type": "application/graphql"}) == expected
    body = {"resourceType": "Parameters", "parameter": [{"name": "query", "valueString": "{ name(use: maiden) { family } }"}]}
    assert fhir.post(path, body, 200) == expected
    answer = fhir("GET", f"{path}?query={quote('{id}')}&_format=xml")
    assert json.loads(answer.data) == {"data": {"id": name}}
    assert fhir("POST", f"Patient/{name}/$validate", "{id}", {"Content-Type": "application/graphql"}).status_code == 415
    assert fhir("POST", path, b"\xff", {"Content-Type": "application/graphql"}).status_code == 400


def test_the_grant_bounds_it(fhir: Fhir, name: str) -> None:
    own = fhir.other(scope="patient/*.rs", patient=name)
    assert len(of(own, name, "{ ConditionList(_reference: patient) { id } }")["ConditionList"]) == 3
    stranger = fhir.other(scope="patient/*.rs", patient="nobody")
    assert "does not exist" in refused(stranger, "{ id }", f"Patient/{name}/", 404)
    assert ask(stranger, f'{{ ConditionList(patient: "{name}") {{ id }} }}') == {"ConditionList": []}
    assert "does not exist" in refused(stranger, f'{{ Patient(id: "{name}") {{ id }} }}')
    few = fhir.other(scope="system/Observation.rs")
    assert ask(few, "{ subject { resource(optional: true) { id } } }", f"Observation/{name}-o/") == {"subject": {}}
    assert "cannot be followed" in refused(few, "{ subject { resource { id } } }", f"Observation/{name}-o/")
    assert "does not allow" in refused(few, '{ PatientList(name: "x") { id } }', status=403)
    assert fhir("GET", "$graphql?query={__typename}", headers={"Authorization": ""}).status_code == 401


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("", "There is no query"),
        ("{ id", "Syntax Error"),
        ("mutation { PatientDelete(id: 1) { id } }", "A mutation is not possible here"),
        ("type A { b: Int }", "defines no types"),
        ("query A { __typename } query B { __typename }", "Name one operation"),
        ("{ Patients { id } }", "Query has no field 'Patients'; did you mean 'Patient'?"),
        ("{ Patient { id } }", "Patient takes the id of one resource"),
        ("{ PatientList(_id: x) { nam } }", "Patient has no field 'nam'; did you mean 'name'?"),
        ("{ PatientList(_id: x) { name } }", "'name' has fields of its own"),
        ("{ PatientList(_id: x) { id { a } } }", "'id' is a single value"),
        ('{ PatientList(_id: x) { birthDate(fhirpath: "1") } }', "'birthDate' takes no arguments"),
        ("{ PatientList(_id: x) { name(usage: a) { text } } }", "'name' cannot be chosen by 'usage'"),
        ("{ PatientList(_id: x) { name(_count: -1) { text } } }", "_count of 'name' is a whole number"),
        ('{ PatientList(_id: x) { name(fhirpath: "a(") { text } } }', "FHIRPath"),
        ("{ PatientList(_id: x) { a: id a: active } }", "'a' stands for two fields"),
        ("{ PatientList(_id: x) { name @loud { text } } }", "There is no directive '@loud'"),
        ("{ PatientList(_id: x) { name @slice { text } } }", "@slice needs path"),
        ("{ PatientList(_id: x) { name @skip { text } } }", "@skip needs if"),
        ("{ PatientList(_id: x) { ... on Pateint { id } } }", "'Pateint' is no type of FHIR R4; did you mean 'Patient'?"),
        ("{ PatientList(_id: x) { generalPractitioner { resource { status } } } }", "has no field 'status'"),
        ("{ PatientList(_id: x) { generalPractitioner { resource(type: Doctor) { id } } } }", "'Doctor' is no resource type"),
        ("{ PatientList(_id: x) { generalPractitioner { resource(optional: 1) { id } } } }", "optional: true or false"),
        ("{ PatientList(_id: x) { ConditionList { id } } }", "needs _reference"),
        ("{ PatientList(_id: x) { ConditionList(_reference: code) { id } } }", "needs _reference"),
        ("{ PatientList(_id: x) { ConditionList(_reference: subject, cursor: a) { id } } }", "neither id nor cursor"),
        ("{ PatientList(_id: x) { ...A } } fragment A on Patient { ...A }", "contains itself"),
        ("{ PatientList(_id: x) { ...B } }", "There is no fragment 'B'"),
        ("{ PatientList(nonsense: x) { id } }", "no search parameter 'nonsense'"),
        ("{ PatientList(birthdate: soon) { id } }", "birthdate is no date"),
        ('{ PatientList(_include: "*") { id } }', "_include is not possible in GraphQL"),
        ("{ PatientList(_reference: x) { id } }", "_reference is for what refers to a resource"),
        ("{ PatientList(name: {a: 1}) { id } }", "An object is no value"),
        ("{ PatientList(name: $x) { id } }", "$x is not declared"),
        ("query($x: String!) { PatientList(name: $x) { id } }", "$x has to have a value"),
        ('query($x: Int = "a") { PatientList(_count: $x) { id } }', "$x is of type Int"),
        ("{ __schema { types { name } } }", "There is no introspection"),
        ('{ Patient(id: "does-not-exist") { id } }', "Patient/does-not-exist does not exist"),
        ('{ Patient(id: "a b") { id } }', "'a b' is not an id"),
        ('{ PatientConnection { count @slice(path: "x") } }', "nothing can be sliced of it"),
        ('{ a: PatientConnection(cursor: "a.b") { count } b: PatientConnection(cursor: "a.b") { count } }', "Only one cursor"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(fhir: Fhir, query: str, said: str) -> None:
    assert said in refused(fhir, query)


def test_limits_are_named_before_anything_is_read(fhir: Fhir, statements: Count) -> None:
    deep = (
        "{ PatientList(_id: x) { link { other { resource { " * 1
        + "... on Patient { link { other { resource { " * 4
        + "id"
        + " } } } }" * 4
        + " } } } } }"
    )
    many = "{ PatientList(_id: x) { " + " ".join(f"a{n}: id" for n in range(1_000)) + " } }"
    bomb = "{ PatientList(_id: x) { ...F0 } } " + " ".join(f"fragment F{n} on Patient {{ ...F{n + 1} ...F{n + 1} }}" for n in range(40))
    bomb += " fragment F40 on Patient { id }"
    long = "{ PatientList(_id: x) { id } } #" + "x" * 100_000
    wide = "{ Basic(id: x) { subject { resource { " + " ".join(f"a{n}: id" for n in range(900)) + " } } } }"
    nested = "{" + "a{" * 5_000
    for query, said in ((deep, "fields deep"), (many, "fields"), (bomb, "fields"), (long, "characters"), (wide, "too many fields on too many types")):

        def run(query: str = query, said: str = said) -> None:
            told = fhir.post("$graphql", {"query": query}, 422)
            assert said in told["errors"][0]["message"]

        assert statements(run) == 0
    assert fhir("POST", "$graphql", {"query": nested}).status_code == 400
    searches = "{" + " ".join(f'a{n}: PatientList(_id: "x") {{ id }}' for n in range(51)) + "}"
    assert "50 searches" in refused(fhir, searches, status=422)


def test_statements_do_not_grow_with_the_items_of_a_level(fhir: Fhir, statements: Count) -> None:
    query = """{ ObservationList(code: "CODE") {
      subject { resource { ... on Patient { generalPractitioner { resource { id } } ConditionList(_reference: subject) { id } } } }
      performer { resource { ... on Practitioner { name { family } } } }
    } }"""

    def cost(size: int) -> int:
        stem = unique("many")
        made: list[Json] = []
        for n in range(size):
            made += (
                {"resourceType": "Practitioner", "id": f"{stem}-{n}"},
                patient(id=f"{stem}-{n}", generalPractitioner=[{"reference": f"Practitioner/{stem}-{(n + 1) % size}"}]),
                {"resourceType": "Condition", "id": f"{stem}-{n}", "subject": {"reference": f"Patient/{stem}-{n}"}},
                {
                    "resourceType": "Observation",
                    "id": f"{stem}-{n}",
                    "status": "final",
                    "code": {"coding": [{"code": stem}]},
                    "subject": {"reference": f"Patient/{stem}-{n}"},
                    "performer": [{"reference": f"Practitioner/{stem}-{n}"}],
                },
            )
        put(fhir, *made)
        found: list[Any] = []
        count = statements(lambda: found.append(ask(fhir, query.replace("CODE", stem))))
        listed = found[0]["ObservationList"]
        assert len(listed) == size
        for each in listed:
            subject = each["subject"]["resource"]
            assert len(subject["ConditionList"]) == len(subject["generalPractitioner"]) == len(each["performer"]) == 1
        assert len({each["subject"]["resource"]["ConditionList"][0]["id"] for each in listed}) == size
        return count

    # Beside BEGIN, isolation level and COMMIT: observations, patients, practitioners, and two for conditions, of which one only counts. All
    # practitioners were read by then.
    assert cost(20) == cost(60) <= 2 + 5


WHOLE = [
    "{ name @flatten { given family } _birthDate { extension { url } } contained { id } }",
    "{ ConditionList ( _reference : subject , _count : 2 ) { id subject { resource { id } } } }",
    '{ generalPractitioner { resource ( optional : true ) { ... on Practitioner { id } } } name ( use : official ) @slice(path:"use") { given } }',
    "{ ConditionConnection ( _reference : subject ) { count next edges { mode resource { id } } } }",
]
PARTS = [
    *sorted({part for query in WHOLE for part in query.split()}),
    *('@slice(path:"$index")', "@first", "@singleton", "@skip(if:true)", "$x", "[", "]", '"a"', "-1", "1.5", "null", "fhirpath", "_offset"),
    *("Query", "query", "fragment F on Patient", "...F", "type", "cursor", "__typename", "extension", "link", "other", "PatientList", "Patient"),
]


@given(
    st.sampled_from(WHOLE),
    st.lists(st.tuples(st.integers(0, 60), st.sampled_from(["add", "put", "drop"]), st.sampled_from(PARTS)), min_size=1, max_size=4),
    st.booleans(),
)
def test_mangled_queries_never_fail(fhir: Fhir, name: str, query: str, changes: list[tuple[int, str, str]], system: bool) -> None:  # noqa: FBT001
    parts = query.split()
    for place, how, part in changes:
        at = place % (len(parts) or 1)
        parts[at : at + (how != "add")] = [] if how == "drop" else [part]
    answer = fhir("GET", f"{'' if system else f'Patient/{name}/'}$graphql?{urlencode({'query': ' '.join(parts)})}")
    assert answer.status_code in {200, 400, 422}, answer.text
    assert ("errors" in json.loads(answer.data)) is (answer.status_code != 200)


def test_an_answer_that_grows_beyond_its_limit_is_refused(fhir: Fhir) -> None:
    stem = unique("wide")
    subject = {"subject": {"reference": f"Patient/{stem}"}}
    put(fhir, patient(id=stem), *({"resourceType": "Condition", "id": f"{stem}-{n}", **subject} for n in range(500)))
    each = "subject { resource { ... on Patient { ConditionList(_reference: subject) { id } } } }"
    assert "more than 200,000 values" in refused(fhir, f'{{ ConditionList(patient: "{stem}") {{ {each} }} }}', status=422)


def test_a_list_is_whole_or_refused(fhir: Fhir) -> None:
    stem = unique("long")
    put(fhir, *({"resourceType": "Basic", "id": f"{stem}-{n}", "code": {"coding": [{"code": stem}]}} for n in range(1_001)))
    said = refused(fhir, f'{{ BasicList(code: "{stem}") {{ id }} }}', status=422)
    assert said.startswith("BasicList has more than 1,000 resources here; search for fewer, or page with BasicConnection")
    assert len(ask(fhir, f'{{ BasicList(code: "{stem}", _count: 5) {{ id }} }}')["BasicList"]) == 5
