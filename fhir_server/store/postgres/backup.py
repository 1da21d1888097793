"""A backup of everything in one file, and its way back.

The file is a ZIP archive: `backup.json` says what it is, `database.dump` is what pg_dump writes, and beside them are the files of the data directory
without which the database cannot be read as it was: the keys, and the demo clinic's sign-ins. It is as secret as they are, and has mode 0600.

https://www.postgresql.org/docs/18/app-pgdump.html, https://www.postgresql.org/docs/18/app-pgrestore.html
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import zipfile
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from fhir_server.settings import SetupError
from fhir_server.store.index.dictionary import schema_version
from fhir_server.store.session import Session

from .cluster import program, unreachable
from .migrate import knows

KEPT: Final = ("data-key", "jwt-secret", "demo-accounts.json")
"""The files of the data directory that belong to its database."""

Progress = Callable[[int], None]

_FORMAT: Final = 1
_ABOUT: Final = "backup.json"
_DUMP: Final = "database.dump"
# Bulk exports, which are copies of the record that their callers fetch within a day.
_PASSING: Final = ("bulk_export", "bulk_file")
_CHUNK: Final = 1024 * 1024
_MOST: Final = 64 * 1024  # Bytes of any file but the dump; they have some hundred.
_TABLES: Final = "SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"


@dataclass(frozen=True, slots=True)
class About:
    """What a backup tells of itself: when it was made, by which version of the program, with which schema, and by which role of the database."""

    created: str
    program: str
    schema: str
    role: str
    format: int = _FORMAT


def write(url: str, data: Path, file: Path, created: str, progress: Progress = lambda _done: None) -> int:
    """Writes a backup of the database at `url`, and of the keys in `data`, to `file`; the size in bytes. `created` is the moment, as an instant.

    It shows one moment, also while others write. What was at `file` stays until the new one is whole. `progress` is told the bytes so far.
    Raises SetupError where the database cannot be reached or read, OSError where the file cannot be written.
    """
    about = _about(url, created)
    draft = file.with_name(f".{file.name}.part")
    # One that was left by a backup which was killed, or laid there by somebody else, would keep its owner and its mode, or lead elsewhere.
    draft.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
                archive.writestr(_ABOUT, json.dumps(asdict(about)))
                for path in (data / name for name in KEPT):
                    if path.exists():
                        archive.write(path, path.name)
                with archive.open(_DUMP, "w", force_zip64=True) as target:
                    _dump(url, target, progress)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
    return file.stat().st_size


class Backup:
    """A backup that was found whole: every byte of it has been read."""

    def __init__(self, file: Path, progress: Progress = lambda _done: None) -> None:
        """Reads `file` through. Raises SetupError for what is no backup, is damaged, or comes from a newer version of the program; OSError."""
        self._file = file
        try:
            with zipfile.ZipFile(file) as archive:
                self.about = About(**json.loads(_small(archive, _ABOUT)))
                self.kept = {name: _small(archive, name) for name in KEPT if name in archive.namelist()}
                done = 0
                # A wrong checksum is told at the last byte.
                with archive.open(_DUMP) as source:
                    while chunk := source.read(_CHUNK):
                        progress(done := done + len(chunk))
        except (zipfile.BadZipFile, zlib.error, KeyError, TypeError, ValueError, EOFError, RuntimeError) as error:
            raise SetupError(f"{file} is no backup, or is damaged ({_first(str(error))}); name a file that `fhir-server backup` has made") from None
        if self.about.format != _FORMAT or not knows(self.about.schema):
            raise SetupError(f"{file} was made by a newer version of this program ({self.about.program}); restore it with that one")

    def refill(self, url: str, progress: Progress = lambda _done: None) -> None:
        """Fills the empty database at `url`, whole or not at all, with the schema of the backup. Raises SetupError, also where something is in it."""
        try:
            with psycopg.connect(url, connect_timeout=5) as connection:
                role, tables = connection.info.user, (connection.execute(_TABLES).fetchone() or (0,))[0]
        except psycopg.Error as error:
            raise unreachable(error) from None
        if tables:
            raise SetupError("there is something in the database already; a backup is restored into an empty one")
        # The trail's tables are closed to changes by their owner's own rights, which are named after the role.
        options = [
            "--no-owner",
            "--no-comments",
            "--exit-on-error",
            "--single-transaction",
            *(["--no-privileges"] if role != self.about.role else []),
        ]
        target, environ = _connection(url)
        with (
            zipfile.ZipFile(self._file) as archive,
            archive.open(_DUMP) as source,
            _run("pg_restore", [*options, f"--dbname={target}"], environ, stdin=subprocess.PIPE) as process,
        ):
            with suppress(BrokenPipeError):  # It has ended, and says why.
                _copy(source, process.stdin, progress)
            _finish(process, "restored")


def _about(url: str, created: str) -> About:
    try:
        with Session.connect(url, autocommit=True, connect_timeout=5) as connection:
            return About(created, version("fhir-server"), schema_version(connection) or "", connection.info.user)
    except psycopg.Error as error:
        raise unreachable(error) from None


def _dump(url: str, target: IO[bytes], progress: Progress) -> None:
    source, environ = _connection(url)
    left = [f"--exclude-table-data={table}" for table in _PASSING]
    with _run("pg_dump", ["--format=custom", *left, f"--dbname={source}"], environ, stdout=subprocess.PIPE) as process:
        _copy(process.stdout, target, progress)
        _finish(process, "read")


def _connection(url: str) -> tuple[str, dict[str, str]]:
    """Where to connect, and the environment of the program that does: a password on its command line could be read by everybody on the machine."""
    parts = conninfo_to_dict(url)
    secret = parts.pop("password", None)
    ours = {name: value for name, value in os.environ.items() if name.startswith("PG") or name in {"HOME", "PATH"}}
    return make_conninfo("", **parts), {"LC_ALL": "C", **ours, **({"PGPASSWORD": str(secret)} if secret else {})}


def _run(name: str, arguments: list[str], environ: Mapping[str, str], **streams: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([_tool(name), *arguments], env=environ, stderr=subprocess.PIPE, **streams)  # type: ignore[call-overload,no-any-return]  # noqa: S603 - PostgreSQL's own program


def _tool(name: str) -> str:
    try:
        return str(program(name))
    except SetupError:
        found = shutil.which(name)
        if found is None:
            raise SetupError(f"{name} is needed and not there; install PostgreSQL's client programs") from None
        return found


def _copy(source: Any, target: Any, progress: Progress) -> None:
    done = 0
    while chunk := source.read(_CHUNK):
        target.write(chunk)
        progress(done := done + len(chunk))


def _finish(process: subprocess.Popen[bytes], done: str) -> None:
    """Waits for the program. What it says fits into a pipe, as it ends with the first error."""
    _, said = process.communicate()
    if process.returncode:
        raise SetupError(f"the database cannot be {done}: {_first(said.decode(errors='replace')) or f'exit code {process.returncode}'}")


def _small(archive: zipfile.ZipFile, name: str) -> bytes:
    with archive.open(name) as stream:
        content = stream.read(_MOST + 1)
    if len(content) > _MOST:
        raise ValueError(f"{name} is too long")
    return content


def _first(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")[:300]
