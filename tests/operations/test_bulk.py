from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fhir_server.app import build_app
from fhir_server.interactions import Engine
from fhir_server.operations import names
from fhir_server.operations.bulk import Maker
from fhir_server.search import SYSTEM
from fhir_server.settings import Settings
from fhir_server.store import Store, exports
from fhir_server.store.ops import Put
from tests.interactions.conftest import SECRET, ZONE, Fhir, Json, MakeFhir, issues, made, observation, patient


class _Raising:
    """A bound that is a fault."""

    def __le__(self, other: object) -> bool:
        raise ZeroDivisionError


KICK = {"Prefer": "respond-async", "Accept": "application/fhir+json"}


@pytest.fixture(scope="module")
def house(make_fhir: MakeFhir, fresh_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A server with two patients, an observation of each, an organization, a group of the first patient, and who makes exports."""
    url = fresh_database()
    fhir = make_fhir(url)
    ann, bob = made(fhir, patient()), made(fhir, patient())
    weights = [made(fhir, observation(subject={"reference": f"Patient/{each}"})) for each in (ann, bob)]
    organization = made(fhir, {"resourceType": "Organization", "name": "Hillside"})
    group = made(fhir, {"resourceType": "Group", "type": "person", "actual": True, "member": [{"entity": {"reference": f"Patient/{ann}"}}]})
    store = Store(url, zone=ZONE, connections=6)
    settings = Settings(tmp_path_factory.mktemp("maker"), SECRET, clinic_timezone=ZONE)
    engine = Engine.build(store, settings, names())
    maker, beside = Maker(engine), Fhir(build_app(engine, settings), fhir.token)
    yield SimpleNamespace(
        fhir=fhir, beside=beside, store=store, engine=engine, maker=maker, ann=ann, bob=bob, weights=weights, organization=organization, group=group
    )
    store.close()
    fhir.close()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test writes while its export begins, but the one that says so."""
    monkeypatch.setattr("fhir_server.operations.bulk.making._SETTLING", 0)


def kicked(fhir: Fhir, path: str, body: Json | None = None) -> str:
    """The address of the status of a new export."""
    answer = fhir("POST" if body else "GET", path, body, KICK)
    assert (answer.status_code, answer.data) == (202, b"")
    return answer.headers["Content-Location"]


def exported(house: SimpleNamespace, path: str, body: Json | None = None, caller: Fhir | None = None) -> dict[str, list[Json]]:
    """The resources of an export by type."""
    fhir = caller or house.fhir
    status = kicked(fhir, path, body)
    house.maker.run()
    found: dict[str, list[Json]] = {}
    for file in fhir.get(status)["output"]:
        answer = fhir("GET", file["url"], headers={"Accept": "application/fhir+ndjson"})
        assert (answer.status_code, answer.content_type) == (200, "application/fhir+ndjson")
        lines = [json.loads(line) for line in answer.data.splitlines()]
        assert (len(lines), {each["resourceType"] for each in lines}) == (file["count"], {file["type"]})
        found.setdefault(file["type"], []).extend(lines)
    return found


def ids(found: dict[str, list[Json]], name: str) -> list[str]:
    return sorted(each["id"] for each in found.get(name, []))


def test_an_export_is_asked_for_waited_for_and_fetched(house: SimpleNamespace) -> None:
    status = kicked(house.fhir, "$export?_type=Patient")
    waiting = house.fhir("GET", status)
    assert (waiting.status_code, waiting.headers["X-Progress"], waiting.data) == (202, "waiting", b"")
    assert int(waiting.headers["Retry-After"]) > 0
    house.maker.run()
    done = house.fhir("GET", status, headers={"Accept": "application/json"})
    assert (done.status_code, done.content_type) == (200, "application/json")
    assert "Expires" in done.headers
    manifest = json.loads(done.data)
    assert manifest["request"].endswith("/fhir/$export?_type=Patient")
    assert manifest["requiresAccessToken"] is True
    assert [(file["type"], file["count"]) for file in manifest["output"]] == [("Patient", 2)]
    assert (manifest["deleted"], manifest["error"]) == ([], [])
    body = house.fhir("GET", manifest["output"][0]["url"]).data.splitlines()
    assert sorted(json.loads(line)["id"] for line in body) == sorted((house.ann, house.bob))


def test_the_whole_system_is_exported_as_it_is_stored(house: SimpleNamespace) -> None:
    found = exported(house, "$export")
    assert ids(found, "Patient") == sorted((house.ann, house.bob))
    assert ids(found, "Observation") == sorted(house.weights)
    assert ids(found, "Organization") == [house.organization]
    assert found["Patient"][0] == house.fhir.get(f"Patient/{found['Patient'][0]['id']}")


def test_patients_are_exported_with_their_records_alone(house: SimpleNamespace) -> None:
    found = exported(house, "Patient/$export")
    assert ids(found, "Observation") == sorted(house.weights)
    assert "Organization" not in found
    one = exported(
        house,
        "Patient/$export",
        {
            "resourceType": "Parameters",
            "parameter": [
                {"name": "patient", "valueReference": {"reference": f"Patient/{house.bob}"}},
                {"name": "_type", "valueString": "Observation,Patient"},
            ],
        },
    )
    assert (ids(one, "Patient"), ids(one, "Observation")) == ([house.bob], house.weights[1:])


def test_patients_are_exported_with_their_files_each_once(house: SimpleNamespace) -> None:
    subject = {"reference": f"Patient/{house.bob}"}
    files = [made(house.fhir, {"resourceType": "Binary", "contentType": "text/plain", **more}) for more in ({}, {"securityContext": subject}, {})]
    content = [{"attachment": {"url": f"Binary/{each}"}} for each in files[:2]]
    for _ in range(2):
        made(house.fhir, {"resourceType": "DocumentReference", "status": "current", "subject": subject, "content": content})
    assert ids(exported(house, "Patient/$export"), "Binary") == sorted(files[:2])
    assert ids(exported(house, "Patient/$export?_type=DocumentReference,Binary"), "Binary") == sorted(files[:2])
    assert "Binary" not in exported(house, "Patient/$export?_type=DocumentReference")
    assert "Binary" not in exported(house, f"Group/{house.group}/$export")


def test_a_group_is_exported_by_its_members(house: SimpleNamespace) -> None:
    found = exported(house, f"Group/{house.group}/$export?_type=Patient,Observation")
    assert (ids(found, "Patient"), ids(found, "Observation")) == ([house.ann], house.weights[:1])
    assert house.fhir("GET", "Group/nobody/$export", headers=KICK).status_code == 404


def test_since_and_filters_leave_out_what_is_not_meant(house: SimpleNamespace) -> None:
    late = made(house.fhir, observation(subject={"reference": f"Patient/{house.ann}"}, valueString="late"))
    before = house.fhir.get(f"Observation/{house.weights[1]}")["meta"]["lastUpdated"]
    assert late in ids(exported(house, f"$export?_type=Observation&_since={before}"), "Observation")
    assert house.weights[1] not in ids(exported(house, f"$export?_type=Observation&_since={before}"), "Observation")
    assert exported(house, "$export?_since=2100-01-01T00:00:00Z") == {}
    filtered = exported(house, f"$export?_type=Observation,Patient&_typeFilter=Observation%3Fsubject%3D{house.ann}%26code%3D29463-7")
    assert ids(filtered, "Observation") == sorted((house.weights[0], late))
    assert ids(filtered, "Patient") == sorted((house.ann, house.bob))
    house.fhir("DELETE", f"Observation/{late}")


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("$export", {}, 400),
        ("$export?_outputFormat=text/csv", KICK, 400),
        ("$export?_type=Nothing", KICK, 400),
        ("$export?_since=lately", KICK, 400),
        ("$export?_since=2026-01-01T00:00:00Z&_since=2026-01-02T00:00:00Z", KICK, 400),
        ("$export?_typeFilter=Patient%3Fnothing%3D1", KICK, 400),
        ("$export?_type=Patient&_typeFilter=Observation%3Fcode%3D1", KICK, 400),
        ("$export?_typeFilter=Patient", KICK, 202),
        ("$export?_outputFormat=application/fhir+ndjson", KICK, 202),
        ("$export?_outputFormat=application%2Ffhir%2Bndjson", KICK, 202),
        ("$export?_outputFormat=ndjson", KICK, 202),
        ("$export?_typeFilter=Patient%3F_count%3D1", KICK, 400),
        ("$export?_typeFilter=Patient%3F_include:iterate%3D*", KICK, 400),
        ("$export?includeAssociatedData=LatestProvenanceResources", KICK, 400),
        ("$export?organizeOutputBy=Patient", KICK, 400),
        ("$export?organizeOutputBy=Patient", {"Prefer": "respond-async; handling=lenient"}, 202),
        ("$export?patient=Patient/1", KICK, 400),
        ("Patient/$export?_type=Organization", KICK, 400),
        ("$export-status", {}, 404),
        ("$export-status?id=1", {}, 404),
        ("$export-file?id=1&file=1", {}, 404),
        ("$export-file", {}, 404),
    ],
)
def test_what_is_not_understood_is_refused_and_helps(house: SimpleNamespace, path: str, headers: dict[str, str], status: int) -> None:
    answer = house.fhir("GET", path, headers=headers)
    assert answer.status_code == status
    if status == 202:
        house.fhir("DELETE", answer.headers["Content-Location"])
    else:
        issues(json.loads(answer.data))


def test_an_export_holds_what_its_caller_may_read_and_nobody_else_sees_it(house: SimpleNamespace) -> None:
    narrow = house.fhir.other(scope="system/Patient.rs")
    status = kicked(narrow, "$export")
    house.maker.run()
    output = narrow.get(status)["output"]
    assert [file["type"] for file in output] == ["Patient"]
    assert narrow("GET", "$export?_type=Observation", headers=KICK).status_code == 403
    stranger = house.fhir.other(user="stranger")
    for address in (status, output[0]["url"]):
        assert stranger("GET", address).status_code == 404
    assert stranger("DELETE", status).status_code == 404
    assert house.fhir.other(scope="system/Observation.rs")("GET", output[0]["url"]).status_code == 403
    assert house.fhir.other(scope="patient/*.rs", patient=house.ann)("GET", "$export", headers=KICK).status_code == 403


def test_an_export_that_is_deleted_is_gone_with_its_files(house: SimpleNamespace) -> None:
    status = kicked(house.fhir, "$export?_type=Patient")
    house.maker.run()
    (file,) = house.fhir.get(status)["output"]
    assert house.fhir("DELETE", status).status_code == 202
    for method, address in (("GET", status), ("GET", file["url"]), ("DELETE", status)):
        assert house.fhir(method, address).status_code == 404
    early = kicked(house.fhir, "$export")
    assert house.fhir("DELETE", early).status_code == 202
    house.maker.run()
    assert house.fhir("GET", early).status_code == 404


def test_nobody_has_more_than_five_at_once(house: SimpleNamespace) -> None:
    eager = house.fhir.other(user="eager")
    asked = [kicked(eager, "$export?_type=Basic") for _ in range(5)]
    refused = eager("GET", "$export", headers=KICK)
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "60")
    for each in asked:
        eager("DELETE", each)


def test_several_makers_make_each_export_once(house: SimpleNamespace) -> None:
    asked = [kicked(house.fhir, "$export?_type=Patient") for _ in range(4)]
    threads = [threading.Thread(target=house.maker.run) for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    house.maker.run()
    for status in asked:
        assert [file["count"] for file in house.fhir.get(status)["output"]] == [2]
        house.fhir("DELETE", status)


def test_one_whose_maker_was_killed_is_made_anew(house: SimpleNamespace) -> None:
    status = kicked(house.fhir, "$export?_type=Patient")
    identity = status.rpartition("=")[2]
    with house.store.database.connection() as connection:
        connection.execute("UPDATE bulk_export SET state = 'running', done = 7 WHERE id = %s", (identity,))
        connection.execute("INSERT INTO bulk_file (export, number, type, count, content) VALUES (%s, 0, 'Patient', 7, ''::bytea)", (identity,))
    assert house.fhir("GET", status).headers["X-Progress"] == "7 resources so far"
    house.maker.run()
    assert [file["count"] for file in house.fhir.get(status)["output"]] == [2]


def test_one_that_fails_by_our_fault_is_over_and_keeps_nobody_waiting(house: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [kicked(house.fhir, "$export?_type=Patient") for _ in range(2)]
    with monkeypatch.context() as patched:
        patched.setattr("fhir_server.operations.bulk.making._FILE", _Raising())
        with pytest.raises(ZeroDivisionError):
            house.maker.run()
    house.maker.run()
    done, failed = sorted((house.fhir("GET", each) for each in asked), key=lambda answer: answer.status_code)
    assert (done.status_code, failed.status_code) == (200, 500)
    assert "the server's log tells what" in issues(json.loads(failed.data))


def test_one_that_has_ended_its_worker_comes_after_those_that_wait(house: SimpleNamespace) -> None:
    deadly, next_ = kicked(house.fhir, "$export?_type=Patient"), kicked(house.fhir, "$export?_type=Patient")
    made_first = []
    with house.store.database.connection() as connection:
        connection.execute("UPDATE bulk_export SET state = 'running' WHERE id = %s", (deadly.rpartition("=")[2],))

        def make(current: exports.Export) -> datetime:
            made_first.append(current.id)
            raise exports.Dropped

        assert exports.run_next(connection, make, house.store.clock)
    assert made_first == [next_.rpartition("=")[2]]
    for each in (deadly, next_):
        house.fhir("DELETE", each)


def test_a_token_that_opens_less_fetches_no_file_that_was_made_for_one_that_opens_more(house: SimpleNamespace) -> None:
    status = kicked(house.fhir, "$export?_type=Observation")
    house.maker.run()
    (file,) = house.fhir.get(status)["output"]
    for less in (
        house.fhir.other(scope="system/Observation.rs?category=laboratory"),
        house.fhir.other(scope="patient/Observation.rs", patient=house.ann),
    ):
        assert less("GET", file["url"]).status_code == 403
    assert house.fhir("GET", file["url"]).status_code == 200
    house.fhir("DELETE", status)


def test_the_trail_names_the_patients_whose_record_a_file_has(house: SimpleNamespace) -> None:
    status = kicked(house.fhir, "$export?_type=Observation,Patient")
    house.maker.run()
    for file in house.fhir.get(status)["output"]:
        assert house.beside("GET", file["url"]).status_code == 200
        house.store.flush_notes()
        with house.store.database.connection() as connection:
            row = connection.execute("SELECT patients FROM audit_event ORDER BY id DESC LIMIT 1").fetchone()
        assert row is not None
        assert set(row[0]) == {house.ann, house.bob}
    house.fhir("DELETE", status)


def test_a_filter_may_have_commas_of_its_own(house: SimpleNamespace) -> None:
    either = f"Observation%3Fsubject%3D{house.ann},{house.bob}"
    found = exported(house, f"$export?_type=Observation,Patient&_typeFilter={either},Patient%3F_id%3D{house.bob}")
    assert (ids(found, "Observation"), ids(found, "Patient")) == (sorted(house.weights), [house.bob])


def test_exports_are_forgotten_a_day_after_they_have_ended(house: SimpleNamespace, tmp_path: Path) -> None:
    status = kicked(house.fhir, "$export?_type=Patient")
    house.maker.run()
    later = house.store.by(lambda: house.store.clock() + timedelta(days=1, minutes=1))
    settings = Settings(tmp_path, SECRET, clinic_timezone=ZONE)
    Maker(replace(Engine.build(house.store, settings), store=later)).run()
    assert house.fhir("GET", status).status_code == 404


def test_a_large_export_is_in_several_files(house: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fhir_server.operations.bulk.making._FILE", 300)
    status = kicked(house.fhir, "$export?_type=Patient")
    house.maker.run()
    files: list[Any] = house.fhir.get(status)["output"]
    assert sum(file["count"] for file in files) == 2
    assert len({file["url"] for file in files}) == len(files)


def test_a_status_is_asked_for_and_deleted_alone(house: SimpleNamespace) -> None:
    answer = house.fhir("POST", "$export-status?id=1", {"resourceType": "Parameters"})
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD, DELETE, OPTIONS")


def parts(house: SimpleNamespace, path: str, caller: Fhir | None = None) -> Json:
    """The manifest of an export, and under `gone` what it tells that was deleted."""
    fhir = caller or house.fhir
    status = kicked(fhir, path)
    house.maker.run()
    manifest: Json = fhir.get(status)
    manifest["gone"] = []
    for file in manifest["deleted"]:
        assert file["type"] == "Bundle"
        lines = [json.loads(line) for line in fhir("GET", file["url"]).data.splitlines()]
        assert (len(lines), {(each["resourceType"], each["type"]) for each in lines}) == (file["count"], {("Bundle", "transaction")})
        requests = [each["request"] for bundle in lines for each in bundle["entry"]]
        assert {each["method"] for each in requests} == {"DELETE"}
        manifest["gone"] += [each["url"] for each in requests]
    fhir("DELETE", status)
    return manifest


def test_an_export_since_another_tells_what_was_deleted(house: SimpleNamespace) -> None:
    weight = made(house.fhir, observation(subject={"reference": f"Patient/{house.ann}"}))
    place = made(house.fhir, {"resourceType": "Location"})
    since = parts(house, "$export?_type=Observation")["transactionTime"]
    for path in (f"Observation/{weight}", f"Location/{place}"):
        assert house.fhir("DELETE", path).status_code == 204
    assert sorted(parts(house, f"$export?_since={since}")["gone"]) == sorted((f"Observation/{weight}", f"Location/{place}"))
    assert parts(house, f"$export?_since={since}&_type=Location")["gone"] == [f"Location/{place}"]
    assert parts(house, f"Patient/$export?_since={since}")["gone"] == [f"Observation/{weight}"]
    assert parts(house, f"Patient/$export?_since={since}&patient={house.bob}")["gone"] == []
    assert parts(house, f"Group/{house.group}/$export?_since={since}")["gone"] == [f"Observation/{weight}"]
    assert parts(house, "$export")["gone"] == []
    assert parts(house, f"$export?_since={parts(house, '$export')['transactionTime']}")["gone"] == []


def test_deletions_are_told_to_whom_all_of_a_type_is_open(house: SimpleNamespace) -> None:
    since = parts(house, "$export?_type=Location")["transactionTime"]
    weight = made(house.fhir, observation(subject={"reference": f"Patient/{house.ann}"}))
    house.fhir("DELETE", f"Observation/{weight}")
    some = house.fhir.other(scope="system/Observation.rs?status=final")
    assert parts(house, f"$export?_since={since}", some)["gone"] == []
    assert parts(house, f"$export?_since={since}", house.fhir.other(scope="system/Patient.rs"))["gone"] == []
    assert parts(house, f"$export?_since={since}", house.fhir.other(scope="system/Observation.rs"))["gone"] == [f"Observation/{weight}"]


def test_what_comes_back_is_not_told_as_deleted(house: SimpleNamespace) -> None:
    since = parts(house, "$export?_type=Location")["transactionTime"]
    place = made(house.fhir, {"resourceType": "Location"})
    house.fhir("DELETE", f"Location/{place}")
    house.fhir.put(f"Location/{place}", {"resourceType": "Location", "id": place}, 201)
    assert parts(house, f"$export?_since={since}")["gone"] == []
    assert ids(exported(house, f"$export?_since={since}"), "Location") == [place]
    house.fhir("DELETE", f"Location/{place}")


def test_parts_of_resources_are_exported(house: SimpleNamespace) -> None:
    found = exported(house, "$export?_type=Patient,Observation,Organization&_elements=Patient.name,Observation.status")
    assert {frozenset(each) for each in found["Patient"]} == {frozenset(("resourceType", "id", "meta", "name"))}
    assert {frozenset(each) for each in found["Observation"]} == {frozenset(("resourceType", "id", "meta", "status", "code"))}
    assert "SUBSETTED" in json.dumps(found["Patient"][0]["meta"]["tag"])
    assert "tag" not in found["Organization"][0]["meta"]
    assert set(exported(house, "$export?_type=Organization&_elements=id")["Organization"][0]) == {"resourceType", "id", "meta"}


def test_a_write_that_is_under_way_comes_with_the_next_export(house: SimpleNamespace) -> None:
    begun, finish = threading.Event(), threading.Event()
    place = {"resourceType": "Location", "id": "slow"}

    def wait(_db: object) -> None:
        begun.set()
        finish.wait(20)

    write = threading.Thread(target=lambda: house.store.transact([Put(place, "slow")], SYSTEM, then=wait))
    write.start()
    assert begun.wait(20)
    first = parts(house, "$export?_type=Location")
    finish.set()
    write.join(20)
    assert first["output"] == []
    assert ids(exported(house, f"$export?_type=Location&_since={first['transactionTime']}"), "Location") == ["slow"]
    house.fhir("DELETE", "Location/slow")


def test_exports_that_are_kept_stay_within_their_room(house: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = kicked(house.fhir, "$export?_type=Patient")
    house.maker.run()
    with house.store.database.connection() as connection:
        held = exports.held(connection)
    assert held > 0
    status = kicked(house.fhir, "$export?_type=Patient")
    monkeypatch.setattr(Settings, "max_exports", held)
    Maker(house.engine).run()
    answer = house.fhir("GET", status)
    assert answer.status_code == 500
    assert "does not fit" in issues(json.loads(answer.data))
    with house.store.database.connection() as connection:
        assert exports.held(connection) == held
    refused = house.fhir("GET", "$export?_type=Patient", headers=KICK)
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "600")
    for each in (kept, status):
        assert house.fhir("DELETE", each).status_code == 202
