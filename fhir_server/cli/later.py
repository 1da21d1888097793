"""The commands of the public contract whose parts are still to come: each says so and exits with 2."""

from __future__ import annotations

import click

_COMING = {
    "package": "FHIR packages",
}


def _command(name: str, brings: str) -> click.Command:
    @click.command(name, help=f"Not available yet: {brings}.", context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
    def command() -> int:
        click.echo(f"fhir-server: not available yet: {name} ({brings})", err=True)
        return 2

    return command


COMMANDS = tuple(_command(name, brings) for name, brings in _COMING.items())
