"""`migrate`, `load` and `export`: the database and what is in it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fhir_server.settings import SetupError

from .common import data_option, settings_of, with_database

if TYPE_CHECKING:
    from rich.progress import Progress

    from fhir_server.operations.load import Loaded
    from fhir_server.settings import Settings
    from fhir_server.store import Store

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


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@data_option
def export(folder: Path, data: Path) -> None:
    """Write every resource to DIR as NDJSON, one file per type.

    All files show the same moment, also while the server works. They hold current versions only: no history, nothing deleted.
    DIR is made if it is not there, and has to be empty. `fhir-server load DIR` brings everything into another server.
    """
    from fhir_server.operations import export as everything

    start = time.monotonic()
    chosen = settings_of(data)
    if chosen.database_url is None and not (chosen.data / "postgres").exists():
        raise SetupError(f"there is no database in {data}; name the data directory of a server with --data")
    with with_database(chosen) as settings, _store(settings) as store, _progress("resources") as bar:
        task = bar.add_task("", total=None)
        try:
            written = everything(store, folder, lambda name, done, total: bar.update(task, completed=done, total=total, description=name))
        except OSError as error:
            hint = (
                "name a folder that is empty or not there yet" if isinstance(error, FileExistsError | NotADirectoryError) else "nothing was exported"
            )
            raise SetupError(f"cannot write to {folder} ({error.strerror or error}); {hint}") from None
    seconds = time.monotonic() - start
    click.echo(f"{sum(written.values())} resources of {len(written)} types in {seconds:.1f} s")


def _load(settings: Settings, paths: tuple[Path, ...]) -> Loaded:
    from fhir_server import process
    from fhir_server.interactions import Engine
    from fhir_server.operations.load import files_of, load_paths

    with _store(settings) as store, _progress("files") as bar:
        task = bar.add_task("", total=sum(1 for _ in files_of(paths)))

        def progress(path: Path, loaded: Loaded) -> None:
            rate = loaded.resources / loaded.seconds if loaded.seconds else 0.0
            bar.update(task, completed=loaded.files, description=f"{loaded.resources} resources, {rate:.0f}/s  {path.name}")

        engine = Engine.build(store, settings)
        process.settle()
        return load_paths(engine, paths, progress)


@contextmanager
def _store(settings: Settings) -> Iterator[Store]:
    from fhir_server.store import Store

    store = Store(str(settings.database_url), zone=settings.clinic_timezone, connections=2, referential_integrity=settings.reference_integrity)
    try:
        yield store
    finally:
        store.close()


def _progress(unit: str) -> Progress:
    import rich.console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn(), TextColumn("{task.description}"))
    console = rich.console.Console(stderr=True)
    # Without a terminal nobody watches, and stderr is for faults.
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


COMMANDS = (migrate, load, export)
