"""The oldest part of the trail goes to a file that proves itself, and what stays goes on from it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest
from psycopg import errors

from fhir_server.cli import main
from fhir_server.store.trail import Event, append
from fhir_server.store.trail import archive as module
from fhir_server.store.trail.archive import Archived, BrokenChainError, archive, check, is_linked
from fhir_server.store.trail.chain import Sealer
from tests.audit.conftest import Trail

OLD = datetime(2020, 1, 1, tzinfo=UTC)
UNTIL = datetime(2021, 1, 1, tzinfo=UTC)


def written(trail: Trail, count: int, at: datetime = OLD) -> None:
    with trail.store.database.connection() as connection:
        append(connection, [Event("sign-in", f"näher {n}", detail='"\\\n', patients=("a", "b"), recorded=at) for n in range(count)])
    trail.seal()


def moved(trail: Trail, path: Path, until: datetime = UNTIL) -> Archived:
    with path.open("xb") as file:
        return archive(trail.store.database, until, file)


def numbers(trail: Trail) -> tuple[list[int], list[int]]:
    entries, events = (trail.sql(f"SELECT {name} FROM {table} ORDER BY 1") for name, table in (("seq", "audit_chain"), ("id", "audit_event")))
    return [row[0] for row in entries], [row[0] for row in events]


@pytest.mark.parametrize("chunk", [1, 2, 5_000])
def test_what_is_old_goes_and_the_rest_holds_from_there(trail: Trail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(module, "_CHUNK", chunk)
    written(trail, 5)
    early = trail.verify().head
    written(trail, 3, UNTIL)
    head = trail.verify().head
    part = moved(trail, tmp_path / "one")
    assert (part.first, part.last, part.count, part.head) == (1, 5, 5, early)
    assert check(tmp_path / "one", early) == Archived(1, 5, "0" * 64, early, contains=True)
    assert is_linked(trail.store.database, part)
    trail.seal()
    after = trail.verify(head)
    assert (after.fault, after.contains, after.archived, after.unsealed) == (None, True, 5, 0)
    # Three, and the one that tells of the archive.
    assert numbers(trail) == ([6, 7, 8, 9], [6, 7, 8, 9])
    assert trail.sql("SELECT kind, actor, detail FROM audit_event WHERE id = 9")[0][:2] == ("operation", "system")
    assert trail.verify(early).contains
    assert not trail.verify("1" * 64).contains


def test_one_archive_goes_on_from_the_other(trail: Trail, tmp_path: Path) -> None:
    written(trail, 4)
    written(trail, 2, UNTIL)
    first = moved(trail, tmp_path / "one")
    second = moved(trail, tmp_path / "two", datetime.now(UTC) + timedelta(days=1))
    assert (first.last, second.first, second.before) == (4, 5, first.head)
    assert check(tmp_path / "two").first == 5
    assert is_linked(trail.store.database, first)
    assert is_linked(trail.store.database, second)
    assert not is_linked(trail.store.database, Archived(1, 4, first.before, "1" * 64))
    # The last one always stays.
    written(trail, 1)
    assert trail.verify().fault is None
    assert moved(trail, tmp_path / "three").count == 0


def test_nothing_old_is_nothing_done(trail: Trail, tmp_path: Path) -> None:
    assert moved(trail, tmp_path / "empty").count == 0
    written(trail, 3, UNTIL)
    assert moved(trail, tmp_path / "none").count == 0
    assert trail.sql("SELECT count(*) FROM audit_anchor") == [(0,)]
    # What is old, but behind what is not, waits for that.
    written(trail, 3)
    assert moved(trail, tmp_path / "later").count == 0


def test_a_chain_that_is_broken_is_left_as_it_is(trail: Trail, tmp_path: Path) -> None:
    written(trail, 6)
    trail.forge("UPDATE audit_event SET actor = 'somebody else' WHERE id = 3")
    with pytest.raises(BrokenChainError, match="broken at entry 3"):
        moved(trail, tmp_path / "part")
    trail.seal()
    assert check(tmp_path / "part").last == 2
    assert numbers(trail)[0][:4] == [3, 4, 5, 6]
    assert "event 3 (entry 3) was changed" in str(trail.verify().fault)


@pytest.fixture(scope="module")
def part(shared: Trail, tmp_path_factory: pytest.TempPathFactory) -> Path:
    written(shared, 6)
    written(shared, 1, UNTIL)
    path = tmp_path_factory.mktemp("archive") / "part"
    moved(shared, path)
    return path


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda lines: [*lines[:3], lines[3].replace(b"sign-in", b"sign-on"), *lines[4:]], "line 4 "),
        (lambda lines: [*lines[:3], lines[3].replace(b'"settled":0', b'"settled":1'), *lines[4:]], "line 4 "),
        (lambda lines: [*lines[:3], *lines[4:]], "line 4 "),
        (lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]], "line 3 "),
        (lambda lines: [*lines[:2], lines[2].replace(b"{", b"[")], "line 3 .* is no entry"),
        (lambda lines: [lines[0].replace(b'"hash_before":"00', b'"hash_before":"01'), *lines[1:]], "line 2 "),
        (lambda lines: lines[1:], "is no archive"),
        (lambda _: [], "is no archive"),
        (lambda _: [b"\xff\x00"], "is no archive"),
    ],
)
def test_a_file_that_was_changed_does_not_hold(part: Path, tmp_path: Path, change: Callable[[list[bytes]], list[bytes]], told: str) -> None:
    lines = part.read_bytes().splitlines(keepends=True)
    assert len(lines) == 7
    changed = tmp_path / "changed"
    changed.write_bytes(b"".join(change(lines)))
    with pytest.raises(BrokenChainError, match=told):
        check(changed)


def test_a_file_whose_end_was_cut_off_is_not_linked(trail: Trail, tmp_path: Path) -> None:
    written(trail, 6)
    path = tmp_path / "part"
    moved(trail, path)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    assert not is_linked(trail.store.database, check(path))


def test_only_what_was_sealed_goes_by_the_anchor_of_its_own_transaction(trail: Trail, tmp_path: Path) -> None:
    written(trail, 6)
    moved(trail, tmp_path / "part", OLD)
    anchor = "INSERT INTO audit_anchor SELECT seq, settled, {} hash, 0, now() FROM audit_chain WHERE seq = {}"
    for statements in (
        [anchor.format("sha256('x') AS", 3)],
        [anchor.format("", 6)],
        [anchor.format("", 3), "DELETE FROM audit_event WHERE id = 4"],
        [anchor.format("", 3), "DELETE FROM audit_chain WHERE seq = 4"],
        [anchor.format("", 3), "UPDATE audit_event SET actor = 'x' WHERE id = 1"],
        [anchor.format("", 3), "TRUNCATE audit_event"],
        [anchor.format("", 3), "DELETE FROM audit_anchor"],
        ["UPDATE audit_anchor SET seq = 4"],
        ["TRUNCATE audit_anchor"],
    ):
        *allowed, refused = statements
        with psycopg.connect(trail.url) as connection:
            connection.execute("GRANT DELETE, UPDATE, TRUNCATE ON audit_event, audit_chain, audit_anchor TO CURRENT_USER")
            for statement in allowed:
                connection.execute(statement)
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(refused)
            connection.rollback()
    # An anchor from before opens nothing any more.
    moved(trail, tmp_path / "some")
    with psycopg.connect(trail.url) as connection, pytest.raises(errors.InsufficientPrivilege):
        connection.execute("DELETE FROM audit_chain")
    rights = (
        "SELECT acl.privilege_type FROM pg_class c, aclexplode(c.relacl) acl"
        " WHERE c.relname IN ('audit_event', 'audit_chain', 'audit_anchor') AND acl.privilege_type IN ('UPDATE', 'DELETE', 'TRUNCATE')"
    )
    assert trail.sql(rights) == []
    assert trail.verify().fault is None


def test_writers_sealers_and_two_who_archive_leave_one_chain(trail: Trail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", 20)
    written(trail, 200)
    stop = threading.Event()
    done: list[Archived | BrokenChainError] = []

    def write() -> None:
        while not stop.is_set():
            with trail.store.database.connection() as connection:
                append(connection, [Event("read", "writer")] * 3)

    def seal() -> None:
        sealer = Sealer(trail.store.database)
        while not stop.is_set():
            sealer.seal()

    def move(name: str) -> None:
        try:
            done.append(moved(trail, tmp_path / name))
        except BrokenChainError as error:
            done.append(error)

    busy = [threading.Thread(target=write), threading.Thread(target=seal)]
    movers = [threading.Thread(target=move, args=(name,)) for name in ("one", "two")]
    for thread in (*busy, *movers):
        thread.start()
    for thread in movers:
        thread.join()
    stop.set()
    for thread in busy:
        thread.join()
    trail.seal()
    found = trail.verify()
    assert (found.fault, found.unsealed, found.archived) == (None, 0, 200)
    # Together they have every entry, and each file holds.
    parts = sorted((part for part in map(check, (tmp_path / "one", tmp_path / "two")) if part.count), key=lambda part: part.first)
    assert parts[0].first == 1
    assert parts[-1].last == 200
    assert all(one.last + 1 >= other.first for one, other in pairwise(parts))


def test_the_commands_move_and_check(trail: Trail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    written(trail, 5)
    early = trail.verify().head
    written(trail, 2, UNTIL)
    monkeypatch.setenv("DATABASE_URL", trail.url)
    monkeypatch.setenv("JWT_SECRET", "a secret that only the tests know of")

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(["audit", *map(str, arguments), "--data", str(tmp_path / "data")])
        said = capfd.readouterr()
        return int(end.value.code or 0), said.out, said.err

    path = tmp_path / "old"
    assert call("archive", "--before", "2019-01-01", path)[:2] == (0, "no event before 2019-01-01 is sealed; no file was made\n")
    assert not path.exists()
    code, said, _ = call("archive", "--before", "2021-01-01", path)
    assert (code, said) == (0, f"5 events, entries 1 to 5, are in {path}, head {early}\n")
    assert path.stat().st_mode & 0o777 == 0o600
    code, said, _ = call("verify")
    assert code == 0
    assert "; 5 before them are in archives" in said
    assert call("verify", "--archive", path, "--head", early)[0] == 0
    assert call("verify", "--archive", path, "--archive", path)[0] == 1
    for arguments, told in (
        (("archive", "--before", "2021-01-01", path), "name a file that is not there yet"),
        (("archive", "--before", "2999-01-01", tmp_path / "x"), "takes a day that has begun"),
        (("verify", "--archive", tmp_path / "forged"), "the archive is broken: line 3 of"),
    ):
        (tmp_path / "forged").write_bytes(path.read_bytes().replace("näher 1".encode(), b"naher 1"))
        code, said, wrong = call(*arguments)
        assert (code, said) == (1, "")
        assert told in wrong
        assert wrong.count("\n") == 1
