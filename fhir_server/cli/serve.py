"""`serve` and `api`: the whole system in the foreground, and its HTTP part alone."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import click

from fhir_server import listening
from fhir_server.settings import Settings

from .background import background
from .common import alone, data_option, end_on_signals, fit, install, opened, settings_of
from .mllp import take

if TYPE_CHECKING:
    from fhir_server.companions import Companion

_HOST = click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
_PORT = click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="The port for HTTP; 0 takes a free one.")
_PROCESSES = click.option(
    "--processes",
    type=click.IntRange(1, 10),
    show_default="one per core, four at the most",
    help="Processes for HTTP; for HL7 v2 there are as many, two at the most.",
)

_LISTENERS = ("mllp", "mllp 2")
_INDEX_SECONDS = 2
_COMPANION_SECONDS = 20
_BACKGROUND_SECONDS = 6  # What is killed then is done again by the next worker.


@click.command()
@_HOST
@_PORT
@click.option("--mllp-port", type=click.IntRange(0, 65535), default=2575, show_default=True, help="The port for HL7 v2 by MLLP; 0 takes a free one.")
@data_option
@_PROCESSES
@click.option("--demo", is_flag=True, help="With a demo clinic and accounts to sign in to it.")
def serve(host: str, port: int, mllp_port: int, data: Path, processes: int | None, *, demo: bool) -> None:
    """Run everything in the foreground: database, migrations, HTTP, MLLP, background work.

    Prints `ready http://HOST:PORT/fhir` once it answers. The database is an embedded PostgreSQL under the data directory unless DATABASE_URL is set.
    """
    end_on_signals()
    settings = settings_of(data)
    from fhir_server import supervisor
    from fhir_server.companions import Companion

    port = supervisor.reserve(host, port)
    _check_peers(settings)
    # The lock first: a second server on the same directory is told of that rather than of the port.
    with _database(settings) as settings, listening.listen(host, mllp_port, "--mllp-port") as connections:
        _prepare(settings, _addresses(host, port))
        accounts = _demo_accounts(settings) if demo else []
        processes = processes or supervisor.default_processes()
        names = _LISTENERS[:processes]
        listeners = [Companion(name, partial(take, connections, host), settings, seconds=supervisor.STOP_SECONDS + 2) for name in names]
        with_worker = [Companion(name, work, settings, seconds=_BACKGROUND_SECONDS) for name, work in background()]
        _serve(settings, host, port, processes, accounts, listeners[0], [*listeners[1:], *with_worker])


@click.command()
@_HOST
@_PORT
@data_option
@_PROCESSES
def api(host: str, port: int, data: Path, processes: int | None) -> None:
    """Run the HTTP part alone, for several hosts on one database.

    Needs DATABASE_URL, migrated by `fhir-server migrate` under the same CLINIC_TIMEZONE and PUBLIC_URL, and with more than one host the same
    JWT_SECRET on each.
    """
    settings = alone(data, "api")
    from fhir_server import supervisor

    _serve(settings, host, supervisor.reserve(host, port), processes or supervisor.default_processes(), [], None, [])


@contextmanager
def _database(settings: Settings) -> Iterator[Settings]:
    from fhir_server.store import postgres

    if settings.database_url is not None:
        with postgres.locked(settings.data):
            yield settings
        return
    with postgres.embedded(settings.data) as url:
        yield replace(settings, database_url=url)


def _prepare(settings: Settings, addresses: Sequence[str]) -> None:
    """Brings the database to where a server can begin."""
    from fhir_server.store import migrate

    migrate(str(settings.database_url))
    fit(settings, addresses)
    with opened(settings) as store:
        install(store)
        # A small database is ready at once; the rest of a large one goes on in the background.
        store.index_now(seconds=_INDEX_SECONDS)


def _check_peers(settings: Settings) -> None:
    """A listener that cannot start would be started again for ever: what is wrong with its settings is said before."""
    from fhir_server.hl7v2.listener.peers import Peers, tls_context

    Peers.of(settings)
    tls_context(settings)


def _serve(
    settings: Settings,
    host: str,
    port: int,
    processes: int,
    accounts: list[dict[str, str]],
    listener: Companion | None,
    others: Sequence[Companion],
) -> None:
    """Serves; of the `listener` people are told when it is ready, of `others` nothing."""
    from fhir_server import supervisor, telemetry

    telemetry.configure(settings.log_level)
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"

    def ready() -> None:
        click.echo(f"pages       {address}/", err=True)
        click.echo(f"FHIR        {address}/fhir  (open to all: {address}/fhir/metadata)", err=True)
        click.echo(f"token       {_program()} token --data {quote(str(settings.data))}", err=True)
        if listener is not None:
            click.echo(f"{listener.name:12}{listener.wait(_COMPANION_SECONDS) or 'does not start; the log tells why'}", err=True)
        for each in accounts:
            click.echo(f"sign-in     {each['login']:14}password {each['password']}", err=True)
        if accounts and settings.smtp_url is None:
            click.echo(f"code        {_program()} user otp LOGIN --data {quote(str(settings.data))}", err=True)
        click.echo(f"ready {address}/fhir")

    supervisor.run(settings, host, port, processes, ready, [listener] if listener is not None else [], others)
    # The stop goes on with the database; asking once more does not hurry it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _demo_accounts(settings: Settings) -> list[dict[str, str]]:
    from . import demo

    with opened(settings) as store:
        return demo.prepare(store, settings)


def _addresses(host: str, port: int) -> tuple[str, ...]:
    """The FHIR bases that clients on this machine know the server by: references below these are references to its own resources."""
    named = f"[{host}]" if ":" in host else host
    return tuple(dict.fromkeys(f"http://{name}:{port}/fhir" for name in (named, "localhost", "127.0.0.1")))


def _program() -> str:
    """How this program was called, so that a hint can be copied: it need not be on the PATH."""
    return sys.argv[0] if Path(sys.argv[0]).name == "fhir-server" else "fhir-server"


COMMANDS = (serve, api)
