"""`audit`: whether the audit trail is what it was."""

from __future__ import annotations

import re
from pathlib import Path

import click

from fhir_server.settings import SetupError

from .common import data_option, opened, progress_bar, settings_of, with_database

_HASH = re.compile(r"[0-9a-f]{64}")


@click.group()
def audit() -> None:
    """The audit trail: who did what, and to whose record."""


@audit.command()
@click.option("--head", metavar="HASH", help="A head that was noted earlier: the trail must still contain it.")
@data_option
def verify(head: str | None, data: Path) -> int:
    """Check the audit chain, also while `serve` works on the same data.

    Prints how many events it has and its head, and exits with 0; with 1 and the first broken record where one was changed, is missing, or was added
    behind the server's back. The end of a chain can be cut off unseen: note the head somewhere else from time to time, and give it by --head.
    """
    from fhir_server.store.chain import verify as walk

    if head is not None and not _HASH.fullmatch(head.lower()):
        raise SetupError("--head takes the 64 hexadecimal digits that `audit verify` prints")
    chosen = settings_of(data)
    if chosen.database_url is None and not (chosen.data / "postgres").exists():
        raise SetupError(f"there is no database in {data}; name the data directory of a server with --data")
    with with_database(chosen) as settings, opened(settings) as store, progress_bar("events") as bar:
        task = bar.add_task("audit chain", total=None)
        found = walk(store.database, lambda done, total: bar.update(task, completed=done, total=total), head=head.lower() if head else None)
    if found.fault is not None:
        click.echo(f"fhir-server: the audit chain is broken: {found.fault}; the {found.entries} entries before it hold", err=True)
        return 1
    if not found.contains:
        click.echo(f"fhir-server: the audit chain does not contain the head {head}: its end was cut off, or it is another chain", err=True)
        return 1
    waiting = f"; {found.unsealed} are not sealed yet" if found.unsealed else ""
    click.echo(f"{found.entries} events hold, head {found.head}{waiting}")
    return 0


COMMANDS = (audit,)
