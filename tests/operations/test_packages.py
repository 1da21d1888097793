from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from fhir_server import fhirjson
from fhir_server.cli import main
from fhir_server.interactions import Engine
from fhir_server.operations import packages
from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM
from fhir_server.settings import Settings
from fhir_server.store import Store

Json = dict[str, Any]

ABOUT: Json = {"name": "example.ward", "version": "1.2.0", "title": "The Ward", "canonical": "https://ward.example", "fhirVersions": ["4.0.1"]}
CODES: Json = {
    "resourceType": "CodeSystem",
    "id": "beds",
    "url": "https://ward.example/CodeSystem/beds",
    "status": "active",
    "content": "complete",
    "concept": [{"code": "window"}, {"code": "door"}],
}
VALUES: Json = {
    "resourceType": "ValueSet",
    "id": "beds",
    "url": "https://ward.example/ValueSet/beds",
    "status": "active",
    "compose": {"include": [{"system": CODES["url"]}]},
}
SEARCH: Json = {
    "resourceType": "SearchParameter",
    "id": "ward-nickname",
    "url": "https://ward.example/SearchParameter/nickname",
    "name": "nickname",
    "status": "active",
    "description": "A nickname",
    "code": "nickname",
    "base": ["Patient"],
    "type": "string",
    "expression": "Patient.name.where(use = 'nickname').given",
}
AGAIN: Json = SEARCH | {
    "id": "ward-patient",
    "url": "https://ward.example/SearchParameter/patient",
    "name": "patient",
    "code": "patient",
    "base": ["Condition"],
    "type": "reference",
    "expression": "Condition.subject",
    "target": ["Patient"],
    "derivedFrom": "http://hl7.org/fhir/SearchParameter/clinical-patient",
}


def packed(file: Path, *resources: Json, about: Json | bytes = ABOUT, folder: str = "package") -> Path:
    """A package as registries have it, with an example and a file that wants to be somewhere else."""
    named = {f"{folder}/{each['resourceType']}-{each['id']}.json": json.dumps(each).encode() for each in resources}
    contents = {
        f"{folder}/package.json": about if isinstance(about, bytes) else json.dumps(about).encode(),
        f"{folder}/.index.json": b'{"index-version": 1}',
        **named,
        "package/example/Patient-one.json": b'{"resourceType": "Patient", "id": "one"}',
        "../../package/escape.json": b'{"resourceType": "ValueSet", "id": "escape", "url": "https://ward.example/escape", "status": "active"}',
    }
    with tarfile.open(file, "w:gz") as archive:
        for name, data in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return file


@pytest.fixture(scope="module")
def ward(fresh_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """An engine and its store, in which the package was installed."""
    folder = tmp_path_factory.mktemp("packages")
    store = Store(fresh_database(), zone=ZoneInfo("UTC"), connections=3)
    engine = Engine.build(store, Settings(folder, "x" * 32))
    package = packages.read(packed(folder / "ward.tgz", CODES, VALUES, SEARCH, AGAIN))
    made = SimpleNamespace(store=store, engine=engine, package=package, installed=packages.install(engine, package), folder=folder)
    yield made
    store.close()


def stored(ward: SimpleNamespace, name: str, identity: str) -> tuple[int, Json] | None:
    with ward.store.snapshot(SYSTEM) as db:
        found = db.read(name, identity)
        return None if found is None or found.body is None else (found.version, fhirjson.loads(found.body))


def test_definitions_become_resources_that_say_where_they_come_from(ward: SimpleNamespace) -> None:
    assert (ward.installed.resources, ward.installed.left_out) == (5, [])
    version, found = stored(ward, "ValueSet", "beds") or (0, {})
    assert version == 1
    assert found.pop("meta")["source"] == "urn:fhir-package:example.ward:1.2.0"
    assert found == VALUES
    assert stored(ward, "Patient", "one") is None
    assert stored(ward, "ValueSet", "escape") is None


def test_an_installed_package_is_listed(ward: SimpleNamespace) -> None:
    assert packages.listed(ward.store) == [("example.ward", "1.2.0", "The Ward")]


def test_a_second_time_changes_nothing(ward: SimpleNamespace) -> None:
    again = packages.install(ward.engine, ward.package)
    assert (again.resources, again.left_out) == (5, [])
    assert (stored(ward, "CodeSystem", "beds") or (0,))[0] == 1


def test_its_search_parameters_can_be_searched_by(ward: SimpleNamespace) -> None:
    ward.store.index_now()
    assert "nickname" in {param.code for param in ward.engine.registry.params("Patient").values()}


def test_a_parameter_derived_from_that_of_the_specification_is_that_one(ward: SimpleNamespace) -> None:
    assert (stored(ward, "SearchParameter", "ward-patient") or (0,))[0] == 1
    assert ward.engine.registry.params("Condition")["patient"].url == "http://hl7.org/fhir/SearchParameter/clinical-patient"


def test_an_id_that_another_definition_has_is_left_to_it(ward: SimpleNamespace) -> None:
    other = VALUES | {"url": "https://other.example/ValueSet/beds"}
    about = ABOUT | {"name": "example.other", "canonical": "https://other.example"}
    package = packages.read(packed(ward.folder / "other.tgz", other, about=about))
    for _ in range(2):
        assert packages.install(ward.engine, package).left_out == []
    assert (stored(ward, "ValueSet", "beds") or (0, VALUES))[1]["url"] == VALUES["url"]
    with ward.store.snapshot(SYSTEM) as db:
        urls = sorted(fhirjson.loads(body)["url"] for body in db.export("ValueSet"))
    assert urls == [other["url"], VALUES["url"]]


def test_what_is_not_valid_is_left_out_alone(ward: SimpleNamespace) -> None:
    wrong = VALUES | {"id": "wrong", "url": "https://ward.example/ValueSet/wrong", "status": "perhaps"}
    fine = VALUES | {"id": "fine", "url": "https://ward.example/ValueSet/fine"}
    about = ABOUT | {"name": "example.third", "canonical": "https://third.example"}
    done = packages.install(ward.engine, packages.read(packed(ward.folder / "third.tgz", wrong, fine, about=about)))
    assert done.resources == 2
    assert [line.partition(":")[0] for line in done.left_out] == ["ValueSet/wrong"]


@pytest.mark.parametrize(
    ("about", "folder", "said"),
    [
        (ABOUT, "elsewhere", "has no package/package.json"),
        ({"name": "x y", "version": "1"}, "package", "has no name and version"),
        ({"name": "example.new", "version": "1", "fhirVersions": ["5.0.0"]}, "package", "is for FHIR 5.0.0"),
        ([], "package", "has no package/package.json"),
        (b"{", "package", "not valid JSON"),
    ],
)
def test_what_is_no_package_of_this_version_is_refused(tmp_path: Path, about: Any, folder: str, said: str) -> None:
    file = packed(tmp_path / "odd.tgz", CODES, about=about, folder=folder)
    with pytest.raises(Outcome, match=said):
        packages.read(file)


@pytest.mark.parametrize("cut", [0, 1, 40, 400])
def test_a_file_that_is_damaged_is_refused(tmp_path: Path, cut: int) -> None:
    file = packed(tmp_path / "ward.tgz", CODES)
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(Outcome, match="is no FHIR package"):
        packages.read(file)


def test_what_an_archive_says_of_its_files_is_bounded_too(tmp_path: Path) -> None:
    member = tarfile.TarInfo("package/x.json")
    member.type, member.size = tarfile.XHDTYPE, 100 * 1024**2
    file = tmp_path / "bomb.tgz"
    with gzip.open(file, "wb", 1) as stream:
        stream.write(member.tobuf(tarfile.USTAR_FORMAT))
        for _ in range(100):
            stream.write(bytes(1024**2))
    with pytest.raises(Outcome, match="has more than a package may have"):
        packages.read(file)


def test_the_commands_install_and_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fresh_database: Callable[[], str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", fresh_database())
    monkeypatch.setenv("DATA_KEY", "k" * 43)
    file = packed(tmp_path / "ward.tgz", CODES, about=ABOUT | {"dependencies": {"example.base": "3.1"}})
    said = []
    for arguments in (["package", "install", str(file)], ["package", "list"], ["package", "install", str(tmp_path / "none")]):
        with pytest.raises(SystemExit) as end:
            main([*arguments, "--data", str(tmp_path / "data")])
        said.append((end.value.code, *capsys.readouterr()))
    assert said[0][:2] == (
        0,
        "example.ward 1.2.0 is installed: 2 resources, 0 left out\nit builds on packages that are not installed: example.base#3.1\n",
    )
    assert said[1][:2] == (0, "example.ward\t1.2.0\tThe Ward\n")
    assert said[2][0] == 2
