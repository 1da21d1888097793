"""`package`: FHIR packages, with profiles, value sets and search parameters."""

from __future__ import annotations

from pathlib import Path

import click

from fhir_server.settings import SetupError

from .common import data_option, fit, opened, progress_bar, settings_of, with_database

_SHOWN = 100


@click.group()
def package() -> None:
    """FHIR packages: profiles, value sets, search parameters and other definitions."""


@package.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE.tgz")
@data_option
def install(file: Path, data: Path) -> None:
    """Write the definitions of a package as resources, also while `serve` works on the same data.

    FILE is as registries of FHIR packages give it. Examples are left aside. Doing it again changes nothing; another version of the package takes the
    place of the one before. What cannot be taken in is told on stderr, a line each.
    """
    from fhir_server.interactions import Engine
    from fhir_server.operations import packages

    try:
        found = packages.read(file)
    except OSError as error:
        raise SetupError(f"{file} cannot be read ({error.strerror or error})") from None
    with with_database(settings_of(data)) as settings:
        fit(settings, change=False)
        with opened(settings) as store, progress_bar("resources") as bar:
            task = bar.add_task(found.name, total=len(found.resources))
            done = packages.install(Engine.build(store, settings), found, lambda count, total: bar.update(task, completed=count, total=total))
            present = {f"{name}#{version}" for name, version, _ in packages.listed(store)}
    for line in done.left_out[:_SHOWN]:
        click.echo(line, err=True)
    if len(done.left_out) > _SHOWN:
        click.echo(f"and {len(done.left_out) - _SHOWN} more", err=True)
    click.echo(f"{found.name} {found.version} is installed: {done.resources} resources, {len(done.left_out)} left out")
    if missing := [name for name in found.needs if name not in present and not name.startswith("hl7.fhir.r4.core#")]:
        click.echo(f"it builds on packages that are not installed: {', '.join(missing)}")


@package.command(name="list")
@data_option
def list_(data: Path) -> None:
    """Print the packages that are installed: name, version and title, separated by tabs."""
    from fhir_server.operations import packages

    with with_database(settings_of(data)) as settings, opened(settings) as store:
        for row in packages.listed(store):
            click.echo("\t".join(row))


COMMANDS = (package,)
