"""Plain HTTP: what a script without a FHIR library does."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
import requests


@pytest.fixture
def session(live: SimpleNamespace) -> requests.Session:
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {live.token}"
    return session


def test_writers_that_send_back_the_etag_lose_nothing(session: requests.Session, live: SimpleNamespace) -> None:
    created = session.post(f"{live.base}/Patient", json={"resourceType": "Patient", "name": [{"given": ["0"]}]}, timeout=30)
    url = f"{live.base}/Patient/{created.json()['id']}"
    headers = {"Authorization": f"Bearer {live.token}"}

    def add(word: str) -> int:
        for tries in range(1, 200):
            current = requests.get(url, headers=headers, timeout=30)
            patient: dict[str, Any] = current.json()
            patient["name"][0]["given"].append(word)
            answer = requests.put(url, json=patient, headers={**headers, "If-Match": current.headers["ETag"]}, timeout=30)
            if answer.status_code == 200:
                return tries
            assert answer.status_code in {409, 412}, answer.text
            assert answer.json()["resourceType"] == "OperationOutcome"
        raise AssertionError("never got through")

    words = [str(number) for number in range(1, 13)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, words))
    final = session.get(url, timeout=30)
    assert sorted(final.json()["name"][0]["given"]) == sorted(["0", *words])
    assert final.headers["ETag"] == 'W/"13"'


def test_an_etag_saves_the_body(session: requests.Session, live: SimpleNamespace) -> None:
    url = f"{live.base}/Patient/ana-rivera"
    first = session.get(url, timeout=30)
    by_tag = session.get(url, headers={"If-None-Match": first.headers["ETag"]}, timeout=30)
    by_date = session.get(url, headers={"If-Modified-Since": first.headers["Last-Modified"]}, timeout=30)
    assert (by_tag.status_code, by_tag.content) == (304, b"")
    assert (by_date.status_code, by_date.content) == (304, b"")


def test_the_location_of_a_create_can_be_read(session: requests.Session, live: SimpleNamespace) -> None:
    created = session.post(f"{live.base}/Basic", json={"resourceType": "Basic", "code": {"text": "x"}}, timeout=30)
    assert created.status_code == 201
    assert session.get(created.headers["Location"], timeout=30).json() == created.json()


def test_large_answers_are_compressed_for_who_takes_it(session: requests.Session, live: SimpleNamespace) -> None:
    url = f"{live.base}/Observation?patient=ana-rivera&_count=100&_sort=_id"
    packed = session.get(url, timeout=30)
    plain = session.get(url, headers={"Accept-Encoding": "identity"}, timeout=30)
    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers
    assert packed.json()["entry"] == plain.json()["entry"]


def test_numbers_keep_their_digits_over_the_wire(session: requests.Session, live: SimpleNamespace) -> None:
    sent = (
        b'{"resourceType":"Observation","status":"final","code":{"text":"x"},'
        b'"valueQuantity":{"value":1.10},"referenceRange":[{"low":{"value":1e3},"high":{"value":1200.000}}]}'
    )
    created = session.post(f"{live.base}/Observation", data=sent, headers={"Content-Type": "application/fhir+json"}, timeout=30)
    text = session.get(created.headers["Location"], timeout=30).text
    assert '"value":1.10}' in text
    assert '"value":1e3}' in text
    assert '"value":1200.000}' in text
