"""`migrate`, `load`, `export` and `reindex`: the database and what is in it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fhir_server.settings import SetupError

from .common import data_option, fit, install, opened, progress_bar, settings_of, tell_reindexed, with_database

if TYPE_CHECKING:
    from fhir_server.operations.load import Loaded
    from fhir_server.settings import Settings

_SHOWN = 1000


@click.command()
@data_option
def migrate(data: Path) -> None:
    """Bring the database to the newest schema, and its search rows to the settings; safe to repeat."""
    with with_database(settings_of(data)) as settings:
        fit(settings)
        with opened(settings) as store:
            install(store)
            store.index_now()
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
        fit(settings, change=False)
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
    from fhir_server.access.audit import Event, record
    from fhir_server.operations import export as everything

    start = time.monotonic()
    chosen = settings_of(data)
    if chosen.database_url is None and not (chosen.data / "postgres").exists():
        raise SetupError(f"there is no database in {data}; name the data directory of a server with --data")
    with with_database(chosen) as settings, opened(settings) as store, progress_bar("resources") as bar:
        task = bar.add_task("", total=None)
        # Before anything leaves: an export that breaks off has shown what it has written.
        record(store, Event("export", "operator", detail=f"to {folder.absolute()}"))
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

    with opened(settings) as store, progress_bar("files") as bar:
        task = bar.add_task("", total=sum(1 for _ in files_of(paths)))

        def progress(path: Path, loaded: Loaded) -> None:
            rate = loaded.resources / loaded.seconds if loaded.seconds else 0.0
            bar.update(task, completed=loaded.files, description=f"{loaded.resources} resources, {rate:.0f}/s  {path.name}")

        engine = Engine.build(store, settings)
        process.settle()
        return load_paths(engine, paths, progress)


@click.command()
@click.option("--type", "resource_type", metavar="TYPE", help="Only those of one resource type.")
@click.option("--param", "code", metavar="CODE", help="Only those of one search parameter, of the type or of all that have it.")
@data_option
def reindex(resource_type: str | None, code: str | None, data: Path) -> None:
    """Make search rows anew, also while `serve` works on the same data.

    This is never needed after a change of settings or program, nor for a new search parameter: the server sees to that. Searches and writes go on;
    each resource is found by its old rows until it has the new ones. It may be interrupted, and repeated.
    """
    with with_database(settings_of(data)) as settings:
        if fit(settings):
            return
        start = time.monotonic()
        with opened(settings) as store, progress_bar("resources") as bar:
            task = bar.add_task("search rows", total=None)
            count = store.reindex(
                lambda done, total: bar.update(task, completed=done, total=total, description="search rows"), resource_type=resource_type, code=code
            )
            store.index_now()
        tell_reindexed(count, time.monotonic() - start)


COMMANDS = (migrate, load, export, reindex)
