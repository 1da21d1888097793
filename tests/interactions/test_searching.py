"""Search as a client meets it: pages, links, handling, includes. https://hl7.org/fhir/R4/search.html"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from tests.interactions.conftest import BASE, Fhir, Json, entry, identified, issues, observation, patient, unique


def load(fhir: Fhir, *resources: Json) -> list[str]:
    """The ids of new resources."""
    answer = fhir.bundle("transaction", *(entry("POST", each["resourceType"], each) for each in resources))
    return [each["response"]["location"].split("/_history/")[0].rpartition("/")[2] for each in answer["entry"]]


def link(bundle: Json, relation: str) -> str | None:
    return next((str(each["url"]) for each in bundle["link"] if each["relation"] == relation), None)


# --- pages ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sort", ["", "&_sort=birthdate", "&_sort=-birthdate", "&_sort=family,-birthdate", "&_sort=_lastUpdated", "&_sort=-_lastUpdated", "&_sort=_id"]
)
def test_pages_under_ties_are_complete_and_without_repeats(fhir: Fhir, sort: str) -> None:
    value = unique()
    made = load(fhir, *(identified(value, **({"birthDate": f"199{n % 3}"} if n % 4 else {})) for n in range(23)))
    found = fhir.ids(f"Patient?identifier={value}&_count=4{sort}")
    assert sorted(found) == sorted(made)
    assert fhir.ids(f"Patient?identifier={value}&_count=23{sort}") == found
    assert fhir.ids(f"Patient?identifier={value}&_count=1{sort}") == found


@pytest.mark.parametrize("sort", ["", "&_sort=birthdate", "&_sort=-birthdate", "&_sort=family,-birthdate"])
def test_pages_stay_complete_while_others_insert_update_and_delete(fhir: Fhir, sort: str) -> None:
    value = unique()
    made = load(fhir, *(identified(value, birthDate=f"19{50 + n % 3}-01-01") for n in range(24)))
    doomed = load(fhir, *(identified(value, birthDate="1950-01-01") for _ in range(6)))

    def meddle() -> None:
        load(fhir, identified(value, birthDate="1951-01-01"))
        touched = fhir.get(f"Patient/{made[0]}")
        fhir.put(f"Patient/{made[0]}", {**touched, "active": not touched.get("active", False)})
        if doomed:
            fhir("DELETE", f"Patient/{doomed.pop()}")

    found = Counter(
        each["resource"]["id"] for page in fhir.pages(f"Patient?identifier={value}&_count=5{sort}", meddle) for each in page.get("entry", ())
    )
    assert max(found.values()) == 1
    assert set(made) <= set(found)


def test_sorting_by_several_keys(fhir: Fhir) -> None:
    value = unique()
    people = [("B", "1990"), ("A", "1990"), ("A", "1991"), ("C", None), ("B", "1980")]
    ids = load(fhir, *(identified(value, name=[{"family": f}], **({"birthDate": d} if d else {})) for f, d in people))

    def order(sort: str) -> list[tuple[str, str | None]]:
        return [people[ids.index(each)] for each in fhir.ids(f"Patient?identifier={value}&_sort={sort}&_count=2")]

    assert order("family,birthdate") == [("A", "1990"), ("A", "1991"), ("B", "1980"), ("B", "1990"), ("C", None)]
    assert order("-family,birthdate") == [("C", None), ("B", "1980"), ("B", "1990"), ("A", "1990"), ("A", "1991")]
    assert order("-birthdate,family")[:3] == [("A", "1991"), ("A", "1990"), ("B", "1990")]
    assert order("-birthdate,family")[4] == ("C", None)


def test_links_tell_the_truth(fhir: Fhir) -> None:
    value = unique()
    load(fhir, *(identified(value, birthDate="1990") for _ in range(3)))
    first = fhir.get(f"Patient?identifier=urn:mrn|{value}&birthdate=ge1990&_count=2&_format=json&_pretty=true")
    own = urlsplit(link(first, "self") or "")
    assert own.geturl().startswith(f"{BASE}/Patient?")
    assert parse_qs(own.query) == {"identifier": [f"urn:mrn|{value}"], "birthdate": ["ge1990"], "_count": ["2"]}
    assert [each["resource"]["id"] for each in fhir.get(own.geturl())["entry"]] == [each["resource"]["id"] for each in first["entry"]]
    following = link(first, "next")
    assert following is not None
    second = fhir.get(following)
    assert link(second, "next") is None
    assert len(second["entry"]) == 1
    assert parse_qs(urlsplit(link(second, "self") or "").query)["_cursor"] == parse_qs(urlsplit(following).query)["_cursor"]


def test_unknown_parameters_strict_and_lenient(fhir: Fhir) -> None:
    value = unique()
    load(fhir, identified(value))
    assert "nope" in issues(fhir.get(f"Patient?identifier={value}&nope=1", 400))
    assert "did you mean" in issues(fhir.get("Patient?brithdate=1990", 400))
    lenient = fhir.get(f"Patient?identifier={value}&nope=1", headers={"Prefer": "handling=lenient"})
    assert "nope" not in str(link(lenient, "self"))
    modes = [each["search"]["mode"] for each in lenient["entry"]]
    assert modes == ["match", "outcome"]
    assert "nope" in issues(lenient["entry"][1]["resource"])
    # What cannot be understood is no less wrong leniently.
    fhir.get("Patient?birthdate=2020-02-30", 400, {"Prefer": "handling=lenient"})


def test_search_by_post_is_the_same_search(fhir: Fhir) -> None:
    value = unique()
    load(fhir, *(identified(value) for _ in range(3)))
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    posted = fhir.post("Patient/_search", f"identifier=urn:mrn%7C{value}&_count=2", 200, form)
    got = fhir.get(f"Patient?identifier=urn:mrn|{value}&_count=2")
    assert [each["fullUrl"] for each in posted["entry"]] == [each["fullUrl"] for each in got["entry"]]
    assert link(posted, "self") == link(got, "self")
    assert len(fhir.get(str(link(posted, "next")))["entry"]) == 1
    both = fhir.post(f"Patient/_search?identifier={value}", "_summary=count", 200, form)
    assert both["total"] == 3
    assert fhir("POST", "Patient/_search", b"{}", {"Content-Type": "application/json"}).status_code == 415
    assert fhir("POST", "Patient/_search", b"name=\xff", form).status_code == 400
    assert fhir("POST", "Patient/_search", b"name=%ff", form).status_code == 400


def test_totals(fhir: Fhir) -> None:
    value = unique()
    load(fhir, *(identified(value) for _ in range(5)))
    query = f"Patient?identifier={value}"
    assert fhir.get(query)["total"] == 5
    assert fhir.get(f"{query}&_count=2&_total=accurate")["total"] == 5
    assert fhir.get(f"{query}&_count=2&_total=estimate")["total"] >= 1
    assert "total" not in fhir.get(f"{query}&_count=2&_total=none")
    for counting in ("_summary=count", "_count=0"):
        bundle = fhir.get(f"{query}&{counting}")
        assert (bundle["total"], "entry" in bundle) == (5, False)
        assert link(bundle, "next") is None
    second = fhir.get(str(link(fhir.get(f"{query}&_count=2&_total=accurate"), "next")))
    assert second["total"] == 5
    nothing = f"Patient?identifier={unique()}"
    assert fhir.get(nothing) == {
        "resourceType": "Bundle",
        "type": "searchset",
        "total": 0,
        "link": [{"relation": "self", "url": f"{BASE}/{nothing}"}],
    }


def test_no_estimate_tells_what_is_beyond_the_rights(fhir: Fhir) -> None:
    mine, other = load(fhir, identified(unique()), identified(unique()))
    load(fhir, *(observation(subject={"reference": f"Patient/{each}"}) for each in [mine] * 7 + [other] * 40))
    narrow = fhir.other(scope="patient/Observation.rs", patient=mine)
    assert narrow.get("Observation?code=29463-7&_count=2&_total=estimate")["total"] == 7


def test_includes_are_complete_and_never_doubled(fhir: Fhir) -> None:
    value = unique()
    org = fhir.post("Organization", {"resourceType": "Organization", "name": value})["id"]
    who = fhir.post("Patient", identified(value, managingOrganization={"reference": f"Organization/{org}"}))["id"]
    load(
        fhir,
        *(
            observation(identifier=[{"value": value}], subject={"reference": f"Patient/{who}"}, performer=[{"reference": f"Patient/{who}"}])
            for _ in range(3)
        ),
        observation(identifier=[{"value": value}], subject={"reference": f"{BASE}/Patient/{who}"}, focus=[{"reference": "Patient/never-was"}]),
    )
    bundle = fhir.get(f"Observation?identifier={value}&_include=Observation:subject&_include=Observation:performer&_include=*")
    modes = Counter((each["search"]["mode"], each["resource"]["resourceType"]) for each in bundle["entry"])
    assert modes == {("match", "Observation"): 4, ("include", "Patient"): 1}
    assert bundle["total"] == 4
    assert len({each["fullUrl"] for each in bundle["entry"]}) == 5
    back = fhir.get(f"Patient?_id={who}&_revinclude=Observation:subject&_revinclude=Observation:performer&_include=Patient:organization")
    modes = Counter((each["search"]["mode"], each["resource"]["resourceType"]) for each in back["entry"])
    assert modes == {("match", "Patient"): 1, ("include", "Observation"): 4, ("include", "Organization"): 1}
    # What matches is not included again.
    both = fhir.put(
        f"Patient/{who}", patient(id=who, identifier=[{"value": value}], link=[{"type": "refer", "other": {"reference": f"Patient/{who}"}}])
    )
    alone = fhir.get(f"Patient?_id={both['id']}&_include=Patient:link&_revinclude=Patient:link")
    assert [each["search"]["mode"] for each in alone["entry"]] == ["match"]
    outcome = fhir.post("Bundle/$validate", bundle, 200)
    assert [issue for issue in outcome["issue"] if issue["severity"] == "error"] == []


def test_includes_show_only_what_the_token_opens(fhir: Fhir) -> None:
    who = fhir.post("Patient", patient())["id"]
    value = unique()
    load(fhir, observation(identifier=[{"value": value}], subject={"reference": f"Patient/{who}"}))
    narrow = fhir.other(scope="system/Observation.rs")
    bundle = narrow.get(f"Observation?identifier={value}&_include=Observation:subject")
    assert [each["search"]["mode"] for each in bundle["entry"]] == ["match"]
    narrow.get(f"Patient?_id={who}", 403)
    assert narrow("GET", f"Patient/{who}").status_code == 403


def test_a_date_without_zone_is_the_clinics(fhir: Fhir) -> None:
    value = unique()
    # Berlin is two hours ahead in July: the first is the second of July there.
    ids = load(
        fhir,
        observation(identifier=[{"value": value}], effectiveDateTime="2020-07-01T22:30:00Z"),
        observation(identifier=[{"value": value}], effectiveDateTime="2020-07-01T21:30:00Z"),
    )
    query = f"Observation?identifier={value}"
    assert fhir.ids(f"{query}&date=2020-07-02") == [ids[0]]
    assert fhir.ids(f"{query}&date=2020-07-01") == [ids[1]]
    assert fhir.ids(f"{query}&date=2020-07-01T22:30:00Z") == [ids[0]]
    assert fhir.ids(f"{query}&date=2020-07-02T00:30:00%2B02:00") == [ids[0]]
    assert fhir.ids(f"{query}&date=2020-07-02T00:30") == [ids[0]]
    assert fhir.ids(f"{query}&date=lt2020-07-02") == [ids[1]]
    assert sorted(fhir.ids(f"{query}&date=ge2020-07-01&date=lt2020-07-03")) == sorted(ids)


def test_escapes(fhir: Fhir) -> None:
    mark = unique()
    ids = load(
        fhir,
        patient(name=[{"family": f"{mark},Smith"}]),
        patient(name=[{"family": mark}]),
        patient(identifier=[{"system": "urn:a", "value": f"{mark}|7"}]),
        patient(identifier=[{"system": "urn:a", "value": f"{mark}\\7"}]),
        patient(identifier=[{"system": "urn:a", "value": f"{mark}$7"}]),
    )
    assert fhir.ids(f"Patient?family:exact={mark}{quote(chr(92))},Smith") == [ids[0]]
    assert sorted(fhir.ids(f"Patient?family:exact={mark},Smith")) == [ids[1]]
    assert fhir.ids(f"Patient?identifier={quote(f'urn:a|{mark}' + chr(92) + '|7')}") == [ids[2]]
    assert fhir.ids(f"Patient?identifier={quote(mark + chr(92) * 2 + '7')}") == [ids[3]]
    assert fhir.ids(f"Patient?identifier={quote(mark + chr(92) + '$7')}") == [ids[4]]


def test_and_or(fhir: Fhir) -> None:
    value = unique()
    ids = load(
        fhir,
        identified(value, gender="female", name=[{"family": "A", "given": ["X", "Y"]}]),
        identified(value, gender="male", name=[{"family": "B", "given": ["X"]}]),
        identified(value, name=[{"family": "C"}]),
    )
    query = f"Patient?identifier={value}"
    assert fhir.ids(f"{query}&gender=female,male&given=X&given=Y") == [ids[0]]
    assert sorted(fhir.ids(f"{query}&gender=female,male")) == sorted(ids[:2])
    assert fhir.ids(f"{query}&gender:missing=true") == [ids[2]]
    assert sorted(fhir.ids(f"{query}&gender:missing=false")) == sorted(ids[:2])
    assert sorted(fhir.ids(f"{query}&gender:not=male")) == sorted([ids[0], ids[2]])
    assert fhir.ids(f"{query}&_id={','.join(ids[1:])}&gender:missing=true") == [ids[2]]


def test_what_is_written_is_found_and_what_is_gone_is_not(fhir: Fhir) -> None:
    value, other = unique(), unique()
    identity = fhir.post("Patient", identified(value))["id"]
    assert fhir.ids(f"Patient?identifier={value}") == [identity]
    fhir.put(f"Patient/{identity}", identified(other, id=identity))
    assert fhir.ids(f"Patient?identifier={value}") == []
    assert fhir.ids(f"Patient?identifier={other}") == [identity]
    fhir("DELETE", f"Patient/{identity}")
    assert fhir.ids(f"Patient?identifier={other}") == []


def test_page_links_serve_one_query_and_one_caller(fhir: Fhir) -> None:
    value = unique()
    load(fhir, *(identified(value) for _ in range(3)))
    following = str(link(fhir.get(f"Patient?identifier={value}&_count=1"), "next"))
    fhir.get(following)
    issues(fhir.other(user="somebody-else").get(following, 400))
    # The total in a link was counted within the rights of the first page.
    issues(fhir.other(scope="system/Patient.rs").get(following, 400))
    issues(fhir.other(scope="patient/Patient.rs", patient="x").get(following, 400))
    fhir.other().get(following)
    issues(fhir.get(following.replace("_count=1", "_count=2"), 400))
    issues(fhir.get(following.replace(value, unique()), 400))
    cursor = parse_qs(urlsplit(following).query)["_cursor"][0]
    for place in range(0, len(cursor), 5):
        changed = cursor[:place] + ("A" if cursor[place] != "A" else "B") + cursor[place + 1 :]
        issues(fhir.get(following.replace(cursor, changed), 400))
    for changed in ("", "x", "=", "%00", cursor * 2, cursor[:-4], quote("é"), "A" * 5_000):
        answer = fhir("GET", following.replace(cursor, changed))
        assert answer.status_code in {200, 400}
        assert answer.status_code == 400 or changed == ""


@pytest.mark.parametrize(
    "query",
    [
        "_count=-1",
        "_count=1.5",
        "_count=x",
        "_count=99999999999",
        "_count=1&_count=2",
        "_summary=foo",
        "_total=foo",
        "_sort=nope",
        "_sort=-",
        "_elements=<",
        "birthdate=2020-02-30",
        "birthdate=2020-13",
        "birthdate=xx2020",
        "birthdate=20",
        "birthdate=0000",
        "birthdate=gt",
        "_lastUpdated=x",
        "_id:exact=1",
        "name:foo=1",
        "birthdate:exact=2020",
        "gender:contains=m",
        "name:missing=maybe",
        "_include=Patient",
        "_include=Nope:x",
        "_include=Patient:name",
        "general-practitioner:Nope=1",
        "identifier=a|b|c",
        "identifier=|",
        "name=%00",
        "name=%ff",
        "%00=1",
        "name=%ed%a0%80",
        "_filter=x",
        "_filter=name eq",
        "_filter=(name eq a",
        "_filter=name like a",
        "_filter=nope eq a",
        '_filter=name eq "a',
        "_filter=" + "not(" * 30 + "name eq a" + ")" * 30,
        "_filter=" + " and ".join(["name eq a"] * 101),
        "_query=x",
        "_list=$current-allergies",
        "_has:Observation:subject=1",
        "_has:Nope:subject:code=1",
        "_has:Observation:code:code=1",
        "_has:Encounter:location:status=x",
        "organization.nope=x",
        "organization:Patient.name=x",
        "name.family=x",
        "&".join(["organization.name=x"] * 21),
        "&".join(["_include=Patient:link"] * 21),
        "_type=Observation",
        "_contained=maybe",
        "_contained=true",
        "_contained=true&organization.name=x",
        "_include:often=Patient:link",
        "gender:in=http://nobody.example/vs",
        "gender:below=male",
        "gender:below=http://nobody.example/cs|male",
        "_text=%20",
        "_maxresults=-1",
        "_score=much",
        "_explain=please",
        "name=" + "a" * 3000,
        "name=" + ",".join(["a"] * 2000),
        "&".join(["name=a"] * 200),
        "&".join(["name=a"] * 2000),
        "_sort=" + ",".join(["name"] * 9),
    ],
)
def test_bad_queries_are_refused(fhir: Fhir, query: str) -> None:
    issues(fhir.get(f"Patient?{query}", 400))


def test_quantities_and_numbers(fhir: Fhir) -> None:
    value = unique()
    ids = load(
        fhir,
        *(
            observation(identifier=[{"value": value}], valueQuantity={"value": v, "unit": "kg", "system": "http://unitsofmeasure.org", "code": "kg"})
            for v in (70, 71, 80)
        ),
    )
    query = f"Observation?identifier={value}"
    assert fhir.ids(f"{query}&value-quantity=70") == [ids[0]]
    assert sorted(fhir.ids(f"{query}&value-quantity=lt75|http://unitsofmeasure.org|kg")) == sorted(ids[:2])
    assert fhir.ids(f"{query}&value-quantity=gt75||kg") == [ids[2]]
    for bad in ("x", "7e400", "1" * 400, "nan", "inf", "1|2", "0x10", "1_0", "--1"):
        issues(fhir.get(f"Observation?value-quantity={bad}", 400))
    for bad in ("x", "7e400", "9" * 400, "nan"):
        issues(fhir.get(f"RiskAssessment?probability={bad}", 400))


def test_readers_among_writers_always_see_whole_transactions(fhir: Fhir) -> None:
    value = unique()

    def write(_: int) -> None:
        load(fhir, *(identified(value) for _ in range(5)))

    def read(_: int) -> int:
        total: int = fhir.get(f"Patient?identifier={value}&_summary=count")["total"]
        return total

    with ThreadPoolExecutor(4) as pool:
        writes = [pool.submit(write, n) for n in range(6)]
        assert {pool.submit(read, n).result() % 5 for n in range(12)} == {0}
        for each in writes:
            each.result()
    assert read(0) == 30
