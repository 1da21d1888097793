"""History of a resource, a type and everything. https://hl7.org/fhir/R4/http.html#history"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest

from tests.interactions.conftest import BASE, Fhir, Json, MakeFhir, issues, patient, unique


@pytest.fixture(scope="module")
def alone(make_fhir: MakeFhir, fresh_database: Callable[[], str]) -> Iterator[Fhir]:
    """A server whose system history no other module writes."""
    made = make_fhir(fresh_database())
    yield made
    made.close()


def versions(pages: Any) -> list[tuple[str, str]]:
    """Address and version of each entry on all pages."""
    return [(each["fullUrl"].removeprefix(BASE + "/"), each["response"]["etag"]) for page in pages for each in page.get("entry", ())]


def three_lives(fhir: Fhir) -> str:
    """A Patient created, patched, deleted, brought back."""
    identity: str = fhir.post("Patient", patient())["id"]
    path = f"Patient/{identity}"
    assert fhir("PATCH", path, [{"op": "add", "path": "/gender", "value": "female"}]).status_code == 200
    assert fhir("DELETE", path).status_code == 204
    fhir.put(path, patient(id=identity), 201)
    return path


def test_history_of_a_resource_tells_what_happened(fhir: Fhir) -> None:
    path = three_lives(fhir)
    bundle = fhir.get(f"{path}/_history")
    assert (bundle["resourceType"], bundle["type"], bundle["total"]) == ("Bundle", "history", 4)
    assert [each["request"] for each in bundle["entry"]] == [
        {"method": "PUT", "url": path},
        {"method": "DELETE", "url": path},
        {"method": "PATCH", "url": path},
        {"method": "POST", "url": "Patient"},
    ]
    assert [each["response"]["etag"] for each in bundle["entry"]] == ['W/"4"', 'W/"3"', 'W/"2"', 'W/"1"']
    assert [each["response"]["status"][:3] for each in bundle["entry"]] == ["201", "204", "200", "201"]
    fhir.put(path, patient(id=path.partition("/")[2]))
    newest = fhir.get(f"{path}/_history?_count=2")["entry"]
    assert [each["response"]["status"][:3] for each in newest] == ["200", "201"]  # What the second one followed is on the next page.
    assert ["resource" in each for each in bundle["entry"]] == [True, False, True, True]
    assert all(each["fullUrl"] == f"{BASE}/{path}" for each in bundle["entry"])
    assert "gender" not in bundle["entry"][3]["resource"]
    assert bundle["entry"][2]["resource"]["gender"] == "female"
    times = [datetime.fromisoformat(each["response"]["lastModified"]) for each in bundle["entry"]]
    assert times == sorted(times, reverse=True)
    assert len(set(times)) == 4


def test_history_of_nothing(fhir: Fhir) -> None:
    issues(fhir.get("Patient/never-was/_history", 404))
    assert fhir("GET", "Nonsense/_history").status_code == 404


def test_pages_of_history_are_complete_while_others_write(alone: Fhir) -> None:
    paths = [three_lives(alone) for _ in range(6)]
    expected = {(path, f'W/"{n}"') for path in paths for n in range(1, 5)}
    for address in ("_history", "Patient/_history"):

        def write() -> None:
            three_lives(alone)
            alone.put(paths[0], {**alone.get(paths[0]), "active": True})

        found = versions(alone.pages(f"{address}?_count=3", write))
        assert len(found) == len(set(found))
        assert expected <= set(found)


def test_pages_of_one_resource(fhir: Fhir) -> None:
    path = three_lives(fhir)
    pages = list(fhir.pages(f"{path}/_history?_count=1"))
    assert [len(page["entry"]) for page in pages] == [1, 1, 1, 1]
    assert versions(pages) == [(path, f'W/"{n}"') for n in (4, 3, 2, 1)]


def test_history_in_parallel_writes_has_every_version_once(fhir: Fhir) -> None:
    made = fhir.post("Patient", patient())
    path = f"Patient/{made['id']}"
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: fhir("PUT", path, made).status_code, range(16))) == {200}
    assert [etag for _, etag in versions(fhir.pages(f"{path}/_history?_count=5"))] == [f'W/"{n}"' for n in range(17, 0, -1)]


def test_since_and_at(fhir: Fhir) -> None:
    made = fhir.post("Patient", patient())
    path = f"Patient/{made['id']}"
    time.sleep(0.02)
    second = fhir.put(path, {**made, "gender": "female"})
    time.sleep(0.02)
    third = fhir.put(path, {**made, "gender": "male"})
    first_at, second_at, third_at = (each["meta"]["lastUpdated"] for each in (made, second, third))

    def etags(query: str) -> list[str]:
        return [etag[3:-1] for _, etag in versions(fhir.pages(f"{path}/_history?{query}"))]

    assert etags(f"_since={second_at}") == ["3", "2"]
    assert etags(f"_since={third_at}&_count=1") == ["3"]
    between = (datetime.fromisoformat(second_at) + timedelta(milliseconds=5)).isoformat(timespec="milliseconds")
    assert etags(f"_at={quote(between)}") == ["2"]
    # A plus sign that nobody escaped arrives as a space.
    assert etags(f"_at={between}") == ["2"]
    before = (datetime.fromisoformat(first_at) - timedelta(minutes=1)).isoformat()
    assert etags(f"_at={quote(before)}") == []
    assert etags(f"_since={first_at[:10]}") == ["3", "2", "1"]
    assert etags("_since=2999-01-01T00:00:00Z") == []
    entries = fhir.get(f"Patient/_history?_since={second_at}&_count=1000")["entry"]
    assert {made["id"]} <= {each["fullUrl"].rpartition("/")[2] for each in entries}


def test_count_of_history(fhir: Fhir) -> None:
    path = three_lives(fhir)
    assert fhir.get(f"{path}/_history?_count=0") == {
        "resourceType": "Bundle",
        "type": "history",
        "total": 4,
        "link": [{"relation": "self", "url": f"{BASE}/{path}/_history?_count=0"}],
    }
    assert len(fhir.get(f"{path}/_history?_count=999999999")["entry"]) == 4
    counted = fhir.get(f"{path}/_history?_summary=count")
    assert (counted["total"], "entry" in counted) == (4, False)


@pytest.mark.parametrize(
    "query",
    [
        "_count=-1",
        "_count=x",
        "_count=1.5",
        "_count=",
        "_count=99999999999",
        "_since=x",
        "_since=2020-02-30",
        "_at=2020-13-01",
        "_nope=1",
        "_count=1&_count=2",
        "_cursor=x",
        "_cursor=" + "A" * 500,
        "_since=%00",
        "_at=%ff",
        "_since=99999-01-01",
    ],
)
def test_bad_parameters_of_history(fhir: Fhir, query: str) -> None:
    path = three_lives(fhir)
    for address in (f"{path}/_history", "Patient/_history", "_history"):
        issues(fhir.get(f"{address}?{query}", 400))


def test_unknown_parameters_of_history_are_let_pass_leniently(fhir: Fhir) -> None:
    path = three_lives(fhir)
    assert fhir.get(f"{path}/_history?_nope=1", headers={"Prefer": "handling=lenient"})["total"] == 4


def test_history_links_are_bound_to_address_and_caller(fhir: Fhir) -> None:
    path, other = three_lives(fhir), three_lives(fhir)
    link = next(each["url"] for each in fhir.get(f"{path}/_history?_count=1")["link"] if each["relation"] == "next")
    fhir.get(link)
    fhir.get(link.replace(path, other), 400)
    fhir.get(link[:-1] + ("A" if link[-1] != "A" else "B"), 400)
    fhir.other(user="somebody-else").get(link, 400)


def test_history_shows_only_what_the_token_opens(alone: Fhir) -> None:
    three_lives(alone)
    alone.post("Organization", {"resourceType": "Organization", "name": unique()})
    narrow = alone.other(scope="system/Organization.rs")
    kinds = {address.partition("/")[0] for address, _ in versions(narrow.pages("_history"))}
    assert kinds == {"Organization"}
    narrow.get("Patient/_history", 403)


def test_every_history_bundle_is_valid_fhir(fhir: Fhir) -> None:
    path = three_lives(fhir)
    bundle: Json = fhir.get(f"{path}/_history")
    outcome = fhir.post("Bundle/$validate", bundle, 200)
    assert [issue for issue in outcome["issue"] if issue["severity"] == "error"] == []
