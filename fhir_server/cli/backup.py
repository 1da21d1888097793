"""`backup` and `restore`: everything in one file, and back."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import click

from fhir_server.settings import SetupError, environment, make_data_directory

from .common import UNFINISHED, data_option, opened, progress_bar, refuse_unfinished, settings_of, with_database

if TYPE_CHECKING:
    from fhir_server.store.postgres.backup import Backup


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@data_option
def backup(file: Path, data: Path) -> None:
    """Write everything to FILE, also while the server works.

    All of it shows the same moment: every version, what was deleted, accounts, bills, messages, the audit trail, and the keys that the data directory
    holds. FILE is readable for its owner alone: keep it as safe as the server itself. One that is there is replaced once the new one is whole.
    """
    from fhir_server.access.audit import Event, record
    from fhir_server.store.postgres.backup import write

    start = time.monotonic()
    chosen = settings_of(data)
    if chosen.database_url is None and not (chosen.data / "postgres").exists():
        raise SetupError(f"there is no database in {data}; name the data directory of a server with --data")
    with with_database(chosen) as settings, progress_bar("MB") as bar:
        with opened(settings) as store:
            record(store, Event("export", "operator", detail=f"backup to {file.absolute()}"))
        task = bar.add_task("backup", total=None)
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        try:
            size = write(str(settings.database_url), chosen.data, file, now, lambda done: bar.update(task, completed=done // 1024**2))
        except OSError as error:
            raise SetupError(f"cannot write {file} ({error.strerror or error}); no backup was made") from None
    click.echo(f"{size / 1024**2:.1f} MB in {time.monotonic() - start:.1f} s; `fhir-server restore {quote(str(file))} --data DIR` brings it back")


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@data_option
def restore(file: Path, data: Path) -> None:
    """Bring the backup in FILE back, into an empty data directory.

    The directory is made if it is not there. With DATABASE_URL the database there has to be empty too. FILE is read through before anything is done,
    and what fails leaves nothing behind. Then start `serve` on the directory: accounts, sessions and numbers go on from where they were.
    """
    from fhir_server.store.postgres.backup import Backup

    start = time.monotonic()
    refuse_unfinished(data)
    if data.exists() and any(data.iterdir()):
        raise SetupError(f"{data} is not empty; name a directory that is empty or not there yet with --data")
    with progress_bar("MB") as bar:
        task = bar.add_task("check", total=None)
        try:
            found = Backup(file, lambda done: bar.update(task, completed=done // 1024**2))
        except OSError as error:
            raise SetupError(f"cannot read {file} ({error.strerror or error}); nothing was restored") from None
        with _all_or_nothing(data):
            _keep(found, data)
            with with_database(settings_of(data, restoring=True), migrated=False) as settings:
                task = bar.add_task("restore", total=None)
                found.refill(str(settings.database_url), lambda done: bar.update(task, completed=done // 1024**2))
                with with_database(settings):
                    pass
            (data / UNFINISHED).unlink()
    given = environment(Path.cwd())
    for name, setting in (("data-key", "DATA_KEY"), ("jwt-secret", "JWT_SECRET")):
        if name not in found.kept and setting not in given:
            click.echo(f"the backup holds no {name}, since it was set: set {setting} as it was there before you start the server", err=True)
    seconds, command = time.monotonic() - start, f"`fhir-server serve --data {quote(str(data))}`"
    click.echo(f"the backup of {found.about.created} is in {data} after {seconds:.1f} s; {command} starts it")


def _keep(found: Backup, data: Path) -> None:
    make_data_directory(data)
    (data / UNFINISHED).touch()
    for name, content in found.kept.items():
        with os.fdopen(os.open(data / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(content)


@contextmanager
def _all_or_nothing(data: Path) -> Iterator[None]:
    """Takes away what is in the directory, and the directory if it was not there, when the block fails."""
    was_there = data.exists()
    try:
        yield
    except BaseException:
        for path in data.iterdir() if data.exists() else ():
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        if not was_there:
            shutil.rmtree(data, ignore_errors=True)
        raise


COMMANDS = (backup, restore)
