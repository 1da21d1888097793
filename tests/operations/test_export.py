from __future__ import annotations

import errno
import json
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from fhir_server.interactions import Engine
from fhir_server.operations import export
from fhir_server.operations.load import load_paths
from fhir_server.search import SYSTEM
from fhir_server.settings import Settings
from fhir_server.store import Store
from fhir_server.store.ops import Create, Delete, Put

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def opened(fresh_database: Callable[[], str], tmp_path: Path) -> Iterator[Callable[[], SimpleNamespace]]:
    """Makes an empty server's engine and store at each call."""
    stores: list[Store] = []

    def make() -> SimpleNamespace:
        store = Store(fresh_database(), zone=ZoneInfo("UTC"), connections=3)
        stores.append(store)
        return SimpleNamespace(store=store, engine=Engine.build(store, Settings(tmp_path, "x" * 32)))

    yield make
    for store in stores:
        store.close()


def quiet(*_: Any) -> None:
    pass


def content(folder: Path) -> dict[str, list[dict[str, Any]]]:
    found = {}
    for path in sorted(folder.iterdir()):
        resources = [json.loads(line) for line in path.read_text().splitlines()]
        for resource in resources:
            del resource["meta"]["versionId"], resource["meta"]["lastUpdated"]
        found[path.name] = sorted(resources, key=lambda resource: str(resource["id"]))
    return found


def test_what_is_exported_loads_into_an_empty_server_as_the_same(opened: Callable[[], SimpleNamespace], tmp_path: Path) -> None:
    first, second = opened(), opened()
    assert load_paths(first.engine, [EXAMPLES], quiet).refused == []
    counts = export(first.store, tmp_path / "one", quiet)
    assert counts["Observation"] == 57
    assert counts["Patient"] == 2
    loaded = load_paths(second.engine, [tmp_path / "one"], quiet)
    assert loaded.refused == []
    assert loaded.resources == sum(counts.values())
    assert export(second.store, tmp_path / "two", quiet) == counts
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_only_current_versions_are_exported_byte_by_byte(opened: Callable[[], SimpleNamespace], tmp_path: Path) -> None:
    store = opened().store
    patient = {"resourceType": "Patient", "extension": [{"url": "http://example.org/weight", "valueDecimal": 1}], "name": [{"family": "Ångström\n"}]}
    kept, gone = (store.transact([Create(dict(patient))], SYSTEM).written[0].version for _ in range(2))
    second = store.transact([Put(patient | {"id": kept.id, "active": True}, kept.id)], SYSTEM).written[0].version
    store.transact([Delete("Patient", gone.id)], SYSTEM)
    assert export(store, tmp_path / "out", quiet) == {"Patient": 1}
    assert (tmp_path / "out" / "Patient.ndjson").read_bytes() == second.body + b"\n"


@pytest.mark.parametrize("there", [False, True])
def test_an_export_that_breaks_off_leaves_nothing(opened: Callable[[], SimpleNamespace], tmp_path: Path, *, there: bool) -> None:
    store = opened().store
    store.transact([Create({"resourceType": "Patient"})], SYSTEM)
    folder = tmp_path / "out"
    if there:
        folder.mkdir()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        export(store, folder, full)
    assert list(tmp_path.glob("out/*")) == []
    assert folder.exists() == there
    assert export(store, folder, quiet) == {"Patient": 1}


def test_all_files_are_of_one_moment(opened: Callable[[], SimpleNamespace], tmp_path: Path) -> None:
    store = opened().store
    store.transact([Create({"resourceType": "Basic", "code": {"text": "x"}}), Create({"resourceType": "Patient"})], SYSTEM)

    def write(*_: object) -> None:
        store.transact([Create({"resourceType": "Patient"}), Create({"resourceType": "Person"})], SYSTEM)

    assert export(store, tmp_path / "out", write) == {"Basic": 1, "Patient": 1}
    assert len((tmp_path / "out" / "Patient.ndjson").read_bytes().splitlines()) == 1
    assert not (tmp_path / "out" / "Person.ndjson").exists()


def test_progress_ends_with_everything(opened: Callable[[], SimpleNamespace], tmp_path: Path) -> None:
    store = opened().store
    store.transact([Create({"resourceType": "Patient"}) for _ in range(1_201)], SYSTEM)
    told: list[tuple[str, int, int]] = []
    export(store, tmp_path / "out", lambda *news: told.append(news))
    assert told == [("Patient.ndjson", done, 1_201) for done in (500, 1_000, 1_201)]


def test_the_files_are_closed_to_others(opened: Callable[[], SimpleNamespace], tmp_path: Path) -> None:
    store = opened().store
    store.transact([Create({"resourceType": "Patient"})], SYSTEM)
    export(store, tmp_path / "out", quiet)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "out" / "Patient.ndjson").stat().st_mode) == 0o600


def test_a_folder_with_something_in_it_is_left_alone(opened: Callable[[], SimpleNamespace], tmp_path: Path) -> None:
    store = opened().store
    store.transact([Create({"resourceType": "Patient"})], SYSTEM)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError):
        export(store, tmp_path, quiet)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_what_is_cut_short_has_no_names_that_load_takes(opened: Callable[[], SimpleNamespace], tmp_path: Path) -> None:
    made = opened()
    made.store.transact([Create({"resourceType": "Patient"}), Create({"resourceType": "Person"})], SYSTEM)

    found = []

    def look(name: str, *_: int) -> None:
        if name == "Person.ndjson":
            found.append(load_paths(made.engine, [tmp_path / "out"], quiet).files)

    export(made.store, tmp_path / "out", look)
    assert found == [0]
