"""`mllp`: the listener for HL7 v2 alone, and the same as a process of `serve`."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import click

from fhir_server import listening
from fhir_server.settings import Settings

from .common import alone, data_option


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=2575, show_default=True, help="The port for HL7 v2; 0 takes a free one.")
@data_option
def mllp(host: str, port: int, data: Path) -> None:
    """Listen for HL7 v2 by MLLP alone, for several hosts on one database.

    Needs DATABASE_URL, migrated by `fhir-server migrate` under the same CLINIC_TIMEZONE and PUBLIC_URL. Who may connect is said by MLLP_ALLOW and
    MLLP_TLS_CA.
    """
    settings = alone(data, "mllp")
    from fhir_server import telemetry

    telemetry.configure(settings.log_level)
    with listening.listen(host, port) as connections:
        take(connections, host, settings, lambda address: click.echo(f"ready {address}"))


def take(connections: socket.socket, host: str, settings: Settings, ready: Callable[[str], None]) -> None:
    """Takes messages until SIGTERM or SIGINT; `ready` is given the address as `mllp://HOST:PORT`. Raises SetupError, Outcome `unavailable`."""
    from fhir_server import process
    from fhir_server.hl7v2.service import serve

    def begun() -> None:
        process.settle()
        port = connections.getsockname()[1]
        ready(f"{'mllps' if settings.mllp_tls_cert else 'mllp'}://{f'[{host}]' if ':' in host else host}:{port}")

    serve(settings, connections, begun)


COMMANDS = (mllp,)
