"""`migrate` and `load`: the database and what is in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .common import data_option, settings_of, with_database

if TYPE_CHECKING:
    from fhir_server.operations.load import Loaded
    from fhir_server.settings import Settings

_SHOWN = 1000


@click.command()
@data_option
def migrate(data: Path) -> None:
    """Bring the database to the newest schema; safe to repeat."""
    with with_database(settings_of(data)):
        click.echo("the database is at the newest schema", err=True)


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path), metavar="PATH...")
@data_option
def load(paths: tuple[Path, ...], data: Path) -> int:
    """Load Bundles and NDJSON, files or folders.

    Reads .json and .ndjson, also .gz and .bz2. A transaction Bundle is loaded whole or not at all; what was loaded before is left alone.
    Prints each refusal with its file, and exits with 1 if there is any.
    """
    with with_database(settings_of(data)) as settings:
        loaded = _load(settings, paths)
    for refusal in loaded.refused[:_SHOWN]:
        click.echo(refusal, err=True)
    if len(loaded.refused) > _SHOWN:
        click.echo(f"and {len(loaded.refused) - _SHOWN} more", err=True)
    rate = loaded.resources / loaded.seconds if loaded.seconds else 0.0
    click.echo(
        f"{loaded.resources} resources of {loaded.files} files in {loaded.seconds:.1f} s ({rate:.0f}/s); "
        f"{loaded.repeated} had been loaded before; {len(loaded.refused)} refused"
    )
    return 1 if loaded.refused else 0


def _load(settings: Settings, paths: tuple[Path, ...]) -> Loaded:
    import rich.console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from fhir_server.interactions import Engine
    from fhir_server.operations.load import files_of, load_paths
    from fhir_server.store import Store

    store = Store(str(settings.database_url), zone=settings.clinic_timezone, connections=2, referential_integrity=settings.reference_integrity)
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("files"), TimeRemainingColumn(), TextColumn("{task.description}"))
    try:
        with Progress(*columns, console=rich.console.Console(stderr=True), transient=True) as bar:
            task = bar.add_task("", total=sum(1 for _ in files_of(paths)))

            def progress(path: Path, loaded: Loaded) -> None:
                rate = loaded.resources / loaded.seconds if loaded.seconds else 0.0
                bar.update(task, completed=loaded.files, description=f"{loaded.resources} resources, {rate:.0f}/s  {path.name}")

            return load_paths(Engine.build(store, settings), paths, progress)
    finally:
        store.close()


COMMANDS = (migrate, load)
