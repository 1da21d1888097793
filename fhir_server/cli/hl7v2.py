"""`hl7v2`: what messages would become, without storing anything, and how long those that came are kept."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fhir_server.settings import SetupError

from .common import data_option, opened, settings_of, with_database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fhir_server.hl7v2.mapping import Converted

_AT_ONCE = 1_000


@click.group()
def hl7v2() -> None:
    """Messages of HL7 v2 and the maps that make FHIR of them."""


@hl7v2.command("map")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@data_option
def map_file(file: Path, data: Path) -> int:
    """Show what the messages of FILE (`-` for standard input) would become, as a Bundle on stdout for each.

    Nothing is stored, and no database is looked into: references are between the resources of a message. What could not be taken over is told on
    stderr, with its segment and field, as are segments and fields that no map has a use for. Exits with 1 where a message would be refused.
    """
    from fhir_server import fhirjson
    from fhir_server.hl7v2.service import open_converter
    from fhir_server.hl7v2.text.batch import split
    from fhir_server.hl7v2.text.message import read
    from fhir_server.hl7v2.text.unreadable import Unreadable

    settings = settings_of(data)
    converter = open_converter(settings)
    raw = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    batch = split(raw)
    refused = not batch.messages
    if refused:
        click.echo("there is no message in it: none of its lines begins with MSH", err=True)
    for number, each in enumerate(batch.messages, 1):
        where = f"message {number}" if len(batch.messages) > 1 else "message"
        try:
            message = read(each)
        except Unreadable as unreadable:
            click.echo(f"{where}: {unreadable}", err=True)
            refused = True
            continue
        if converter.structure_of(message) is None:
            click.echo(f"{where}: {message.header.type}^{message.header.event} is not taken", err=True)
            refused = True
            continue
        converted = converter.convert(message, settings.clinic_timezone)
        faults = list(_faults(converted))
        refused = refused or any(is_error for is_error, _ in faults)
        for _, text in faults:
            click.echo(f"{where}: {text}", err=True)
        if unread := converter.unread(message):
            click.echo(f"{where}: nothing is made of {', '.join(unread)}", err=True)
        bundle = {
            "resourceType": "Bundle",
            "type": "collection",
            "entry": [{"fullUrl": made.urn, "resource": made.resource} for made in converted.made],
        }
        click.echo(fhirjson.dumps(bundle))
    return int(refused)


@hl7v2.command()
@click.option(
    "--before", required=True, type=click.DateTime(["%Y-%m-%d"]), help="The first day whose messages keep their text, in the clinic's time zone."
)
@data_option
def prune(before: datetime, data: Path) -> int:
    """Remove the text of old messages that have become resources, also while `serve` works.

    What came of them stays known, also that the same message has come already. Messages that wait in the inbox, or were refused, are left as they
    are. There is no way back.
    """
    from fhir_server.hl7v2.intake.stored import prune as remove
    from fhir_server.store.trail import Event, append

    chosen = settings_of(data)
    if chosen.database_url is None and not (chosen.data / "postgres").exists():
        raise SetupError(f"there is no database in {data}; name the data directory of a server with --data")
    with with_database(chosen) as settings, opened(settings) as store:
        until, count = before.replace(tzinfo=settings.clinic_timezone), 0
        if until > datetime.now(UTC):
            raise SetupError("--before takes a day that has begun")
        with store.database.connection() as connection:
            while removed := remove(connection, until, _AT_ONCE):
                count += removed
            told = f"text of {count} messages before {before:%Y-%m-%d}"
            append(connection, [Event("delete", "fhir-server hl7v2 prune", type="hl7v2-message", detail=told)])
    click.echo(f"the text of {count} messages is removed")
    return 0


def _faults(converted: Converted) -> Iterator[tuple[bool, str]]:
    from fhir_server.hl7v2.mapping import KNOWN
    from fhir_server.outcome import Outcome
    from fhir_server.spec import r4
    from fhir_server.validation import Validator

    validator = Validator(r4())
    for fault in converted.faults:
        place = f"{fault.segment}[{fault.sequence}]" + (f"-{fault.field}" if fault.field else "")
        yield fault.severity == "E", f"{place}: {fault.text}"
    for segment in converted.unhandled:
        yield False, f"{segment.name}[{segment.sequence}]: nothing is made of it"
    for made in converted.made:
        if made.key == KNOWN:
            # What is only mentioned is never made.
            continue
        try:
            validator.require(made.resource)
        except Outcome as outcome:
            for issue in outcome.issues:
                yield True, f"{made.label}: {issue.diagnostics} ({', '.join(issue.expression)})"


COMMANDS = (hl7v2,)
