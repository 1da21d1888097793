"""`audit`: whether the audit trail is what it was."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fhir_server.settings import SetupError

from .common import data_option, opened, progress_bar, settings_of, with_database

if TYPE_CHECKING:
    from fhir_server.store import Store

_HASH = re.compile(r"[0-9a-f]{64}")


@click.group()
def audit() -> None:
    """The audit trail: who did what, and to whose record."""


@audit.command()
@click.option("--head", metavar="HASH", help="A head that was noted earlier: the trail must still contain it.")
@click.option(
    "--archive",
    "archives",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file of `audit archive` to check besides; may be repeated, oldest first.",
)
@data_option
def verify(head: str | None, archives: tuple[Path, ...], data: Path) -> int:
    """Check the audit chain, also while `serve` works on the same data.

    Prints how many events it has and its head, and exits with 0; with 1 and the first broken record where one was changed, is missing, or was added
    behind the server's back. The end of a chain can be cut off unseen: note the head somewhere else from time to time, and give it by --head.
    """
    from fhir_server.store.trail.chain import verify as walk

    if head is not None and not _HASH.fullmatch(head.lower()):
        raise SetupError("--head takes the 64 hexadecimal digits that `audit verify` prints")
    wanted = head.lower() if head is not None else None
    with _trail(data) as store, progress_bar("events") as bar:
        task = bar.add_task("audit chain", total=None)
        in_archive = _check_archives(store, archives, wanted)
        found = walk(store.database, lambda done, total: bar.update(task, completed=done, total=total), head=wanted)
    if found.fault is not None:
        click.echo(f"fhir-server: the audit chain is broken: {found.fault}; the {found.entries} entries before it hold", err=True)
        return 1
    if not found.contains and not in_archive:
        click.echo(f"fhir-server: the audit chain does not contain the head {head}: its end was cut off, or it is another chain", err=True)
        return 1
    waiting = f"; {found.unsealed} are not sealed yet" if found.unsealed else ""
    before = f"; {found.archived} before them are in archives" if found.archived else ""
    click.echo(f"{found.entries - found.archived} events hold, head {found.head}{before}{waiting}")
    return 0


@audit.command()
@click.option("--before", required=True, type=click.DateTime(["%Y-%m-%d"]), help="The first day whose events stay, in the clinic's time zone.")
@click.argument("file", type=click.Path(path_type=Path))
@data_option
def archive(before: datetime, file: Path, data: Path) -> int:
    """Move the oldest events to FILE, which proves itself, also while `serve` works.

    FILE is new, one JSON object a line, and readable for its owner alone. The chain of what stays goes on from there, which `audit verify --archive`
    checks. There is no way back: keep the file as long as the events have to be kept.
    """
    from fhir_server.store.trail.archive import BrokenChainError
    from fhir_server.store.trail.archive import archive as move

    with _trail(data) as store, progress_bar("events") as bar:
        until = before.replace(tzinfo=store.registry.zone)
        if until > datetime.now(UTC):
            raise SetupError("--before takes a day that has begun")
        task = bar.add_task("audit archive", total=None)
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                found = move(store.database, until, stream, lambda done, total: bar.update(task, completed=done, total=total))
        except OSError as error:
            raise SetupError(f"cannot write {file} ({error.strerror}); name a file that is not there yet") from None
        except BrokenChainError as error:
            raise SetupError(str(error)) from None
    if not found.count:
        file.unlink()
        click.echo(f"no event before {before:%Y-%m-%d} is sealed; no file was made")
        return 0
    click.echo(f"{found.count} events, entries {found.first} to {found.last}, are in {file}, head {found.head}")
    return 0


@contextmanager
def _trail(data: Path) -> Iterator[Store]:
    chosen = settings_of(data)
    if chosen.database_url is None and not (chosen.data / "postgres").exists():
        raise SetupError(f"there is no database in {data}; name the data directory of a server with --data")
    with with_database(chosen) as settings, opened(settings) as store:
        yield store


def _check_archives(store: Store, files: tuple[Path, ...], head: str | None) -> bool:
    """Whether one of them contains the head. Raises SetupError where one does not hold, or does not go on from the one before."""
    from fhir_server.store.trail.archive import BrokenChainError, check, is_linked

    contains, end = False, None
    for file in files:
        try:
            found = check(file, head)
        except BrokenChainError as error:
            raise SetupError(f"the archive is broken: {error}") from None
        if not is_linked(store.database, found) or end not in (None, found.before):
            raise SetupError(f"{file} is not the part of this audit chain that comes next")
        contains, end = contains or found.contains, found.head
    return contains


COMMANDS = (audit,)
