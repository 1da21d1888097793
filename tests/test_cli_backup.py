from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import psycopg
import pytest

from fhir_server.settings import SetupError
from fhir_server.store.postgres.backup import About, Backup, write

PROGRAM = Path(sys.executable).with_name("fhir-server")
EXAMPLES = Path(__file__).parents[1] / "examples"


def call(*arguments: object, **settings: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "JWT_SECRET", "DATA_KEY"}} | settings
    command = [str(PROGRAM), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environ)


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with patients in it, one of them changed and one deleted, an account and a trail."""
    data = tmp_path_factory.mktemp("clinic") / "data"
    assert call("load", EXAMPLES, "--data", data).returncode == 0
    assert call("user", "add", "desk@example.org", "--role", "staff", "--email", "desk@example.org", "--data", data).returncode == 0
    return data


@pytest.fixture(scope="module")
def saved(clinic: Path) -> Path:
    file = clinic.parent / "clinic.backup"
    done = call("backup", file, "--data", clinic)
    assert (done.returncode, done.stderr) == (0, "")
    return file


@pytest.fixture
def broken(saved: Path, tmp_path: Path) -> Iterator[Path]:
    """A backup of which one byte is another, in the middle of the dump."""
    content = bytearray(saved.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file = tmp_path / "broken.backup"
    file.write_bytes(content)
    yield file
    assert [path.name for path in tmp_path.iterdir()] == ["broken.backup"]


def test_a_backup_is_for_its_owner_alone_and_leaves_nothing_beside_it(saved: Path) -> None:
    assert saved.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in saved.parent.iterdir()) == ["clinic.backup", "data"]


def test_what_is_restored_is_what_was_there(clinic: Path, saved: Path, tmp_path: Path) -> None:
    data = tmp_path / "new"
    done = call("restore", saved, "--data", data)
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("data-key", "jwt-secret"):
        assert (data / name).read_bytes() == (clinic / name).read_bytes()
        assert (data / name).stat().st_mode & 0o777 == 0o600
    folders = [tmp_path / "before", tmp_path / "after"]
    for folder, source in zip(folders, (clinic, data), strict=True):
        assert call("export", folder, "--data", source).returncode == 0
    files = [{path.name: sorted(path.read_text().splitlines()) for path in folder.iterdir()} for folder in folders]
    assert files[0] == files[1]
    assert "desk@example.org" in call("user", "list", "--data", data).stdout
    heads = [call("audit", "verify", "--data", source) for source in (clinic, data)]
    assert [head.returncode for head in heads] == [0, 0]
    again = call("load", EXAMPLES, "--data", data)
    assert again.stdout.startswith("0 resources of 3 files"), again.stdout


def test_bulk_exports_are_left_out(fresh_database: Callable[[], str], tmp_path: Path) -> None:
    url, other = fresh_database(), fresh_database()
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO bulk_export (id, actor, holder, request, state, created) VALUES ('e', 'a', '{}', '{}', 'done', now())")
        connection.execute("INSERT INTO bulk_file (export, number, type, count, content) VALUES ('e', 0, 'Patient', 1, 'x')")
    write(url, tmp_path, tmp_path / "file", "2026-01-01T00:00:00Z")
    with psycopg.connect(other) as connection:
        connection.execute("DROP SCHEMA public, broker CASCADE; CREATE SCHEMA public")
    Backup(tmp_path / "file").refill(other)
    with psycopg.connect(other) as connection:
        assert connection.execute("SELECT (SELECT count(*) FROM bulk_export), (SELECT count(*) FROM bulk_file)").fetchone() == (0, 0)


@pytest.mark.parametrize("left", ["file", "link"])
def test_what_lies_where_a_backup_is_drafted_is_not_written_into(clinic: Path, tmp_path: Path, left: str) -> None:
    draft, other = tmp_path / ".new.backup.part", tmp_path / "other"
    other.write_text("of somebody else")
    if left == "file":
        draft.touch()
        draft.chmod(0o666)
    else:
        draft.symlink_to(other)
    assert call("backup", tmp_path / "new.backup", "--data", clinic).returncode == 0
    made = (tmp_path / "new.backup").lstat()
    assert (stat.S_ISREG(made.st_mode), made.st_mode & 0o777) == (True, 0o600)
    assert other.read_text() == "of somebody else"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.backup", "other"]


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_whichever_bit_of_a_backup_is_another_it_is_read_whole_or_refused(tmp_path: Path, packing: int) -> None:
    file = tmp_path / "file"
    about = About("2026-01-01T00:00:00Z", "1", "0001", "clinic")
    with zipfile.ZipFile(file, "w", packing) as archive:
        archive.writestr("backup.json", json.dumps(asdict(about)))
        archive.writestr("data-key", "k" * 43)
        archive.writestr("database.dump", bytes(range(256)))
    content = file.read_bytes()
    assert Backup(file).about == about
    for bit in range(0, len(content) * 8, 3):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        file.write_bytes(changed)
        with suppress(SetupError, OSError):
            assert Backup(file).about == about


def test_a_directory_with_something_in_it_is_left_alone(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    done = call("restore", saved, "--data", tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"fhir-server: {tmp_path} is not empty; name a directory that is empty or not there yet with --data\n"
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_damaged_backup_is_refused_and_leaves_nothing(broken: Path) -> None:
    done = call("restore", broken, "--data", broken.with_name("new"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "is no backup, or is damaged" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_backup_cut_short_is_refused(saved: Path, tmp_path: Path) -> None:
    short = tmp_path / "short"
    short.write_bytes(saved.read_bytes()[:-100])
    done = call("restore", short, "--data", tmp_path / "new")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert not (tmp_path / "new").exists()


def test_a_backup_of_a_newer_program_is_refused_by_its_name(saved: Path, tmp_path: Path) -> None:
    newer = tmp_path / "newer"
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(newer, "w") as new:
        about = json.loads(old.read("backup.json")) | {"schema": "9999", "program": "9.0"}
        new.writestr("backup.json", json.dumps(about))
        new.writestr("database.dump", old.read("database.dump"))
    done = call("restore", newer, "--data", tmp_path / "new")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "was made by a newer version of this program (9.0)" in done.stderr
    assert not (tmp_path / "new").exists()


def test_a_dump_that_does_not_fit_leaves_nothing(saved: Path, tmp_path: Path) -> None:
    odd = tmp_path / "odd"
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(odd, "w") as new:
        new.writestr("backup.json", old.read("backup.json"))
        new.writestr("database.dump", b"PGDMP and nothing of one")
    done = call("restore", odd, "--data", tmp_path / "new")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "the database cannot be restored" in done.stderr
    assert not (tmp_path / "new").exists()


def test_a_backup_of_nothing_makes_no_database(tmp_path: Path) -> None:
    done = call("backup", tmp_path / "file", "--data", tmp_path / "slip")
    assert done.returncode == 1
    assert "there is no database in" in done.stderr
    assert not (tmp_path / "file").exists()


def test_a_file_that_cannot_be_written_is_told_in_one_line(clinic: Path, tmp_path: Path) -> None:
    done = call("backup", tmp_path / "nowhere" / "file", "--data", clinic)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "no backup was made" in done.stderr


def test_another_server_s_database_is_filled_only_if_it_is_empty(saved: Path, fresh_database: Callable[[], str], tmp_path: Path) -> None:
    url = fresh_database()
    with psycopg.connect(url) as connection:
        connection.execute("DROP SCHEMA public, broker CASCADE; CREATE SCHEMA public")
    done = call("restore", saved, "--data", tmp_path / "first", DATABASE_URL=url)
    assert done.returncode == 0, done.stderr
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM resource").fetchone() == (71,)
    done = call("restore", saved, "--data", tmp_path / "second", DATABASE_URL=url)
    assert done.returncode == 1
    assert "there is something in the database already" in done.stderr
    assert not (tmp_path / "second").exists()
