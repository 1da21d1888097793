from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(sys.executable).with_name("fhir-server")
EXAMPLES = Path(__file__).parents[1] / "examples"


def call(*arguments: object, zone: str = "UTC") -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "JWT_SECRET"}} | {"CLINIC_TIMEZONE": zone}
    command = [str(PROGRAM), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environ)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("loaded") / "data"
    done = call("load", EXAMPLES, "--data", data)
    assert (done.returncode, done.stderr) == (0, "")
    return data


def test_export_and_load_carry_everything_over(loaded: Path, tmp_path: Path) -> None:
    out = call("export", tmp_path / "out", "--data", loaded)
    assert (out.returncode, out.stderr) == (0, "")
    assert out.stdout.startswith("71 resources of 12 types in ")
    back = call("load", tmp_path / "out", "--data", tmp_path / "data")
    assert back.stdout.startswith("71 resources of 12 files")
    assert call("export", tmp_path / "again", "--data", tmp_path / "data").returncode == 0
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "again").iterdir())
    for name in names:
        ids = [sorted(json.loads(line)["id"] for line in (tmp_path / folder / name).read_text().splitlines()) for folder in ("out", "again")]
        assert ids[0] == ids[1]


def test_export_leaves_a_folder_with_something_in_it_alone(loaded: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    done = call("export", tmp_path, "--data", loaded)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"fhir-server: cannot write to {tmp_path} (it is not empty); name a folder that is empty or not there yet\n"
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_export_makes_no_database(tmp_path: Path) -> None:
    done = call("export", tmp_path / "out", "--data", tmp_path / "slip")
    assert done.returncode == 1
    assert "there is no database in" in done.stderr
    assert not (tmp_path / "slip" / "postgres").exists()
    assert not (tmp_path / "out").exists()


def test_a_token_for_a_directory_that_was_not_there_comes_with_a_word(tmp_path: Path) -> None:
    first, second = (call("token", "--data", tmp_path / "new") for _ in range(2))
    assert (first.returncode, second.returncode) == (0, 0)
    assert first.stdout.count("\n") == second.stdout.count("\n") == 1
    assert first.stderr.startswith("fhir-server: ")
    assert "was not there" in first.stderr
    assert second.stderr == ""


def test_a_change_of_zone_makes_search_rows_anew_on_purpose_only(tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert call("load", EXAMPLES, "--data", data).returncode == 0
    refused = call("load", EXAMPLES, "--data", data, zone="Asia/Tokyo")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "CLINIC_TIMEZONE=UTC there, CLINIC_TIMEZONE=Asia/Tokyo here" in refused.stderr
    assert refused.stderr.count("\n") == 1
    done = call("migrate", "--data", data, zone="Asia/Tokyo")
    assert done.returncode == 0
    assert done.stderr.startswith("search rows made anew for 71 resources in ")
    assert call("load", EXAMPLES, "--data", data, zone="Asia/Tokyo").returncode == 0
    again = call("reindex", "--data", data, zone="Asia/Tokyo")
    assert (again.returncode, again.stdout) == (0, "")
    own = len(list((Path(__file__).parents[1] / "conformance").glob("*.json")))
    assert again.stderr.startswith(f"search rows made anew for {71 + own} resources in ")
    some = call("reindex", "--type", "Patient", "--param", "name", "--data", data, zone="Asia/Tokyo")
    assert some.stderr.startswith("search rows made anew for 2 resources in ")
    none = call("reindex", "--type", "Patient", "--param", "nane", "--data", data, zone="Asia/Tokyo")
    assert (none.returncode, none.stderr) == (1, "fhir-server: There is no search parameter 'nane' of Patient\n")
