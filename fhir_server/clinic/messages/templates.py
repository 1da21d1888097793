"""The texts of messages: those of the program, and versions that administrators write in their place, by event, channel and language."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any, Final

from fhir_server.outcome import Outcome
from fhir_server.store.database import Connection, scalar
from fhir_server.store.trail import Event, append

from .events import CHANNELS, EVENTS, Channel
from .rendering import MAX_SEGMENTS, check, render, size_of

STATES: Final = ("draft", "active", "retired")
BUILT_IN: Final = ("en", "de")
"""Languages that the program has texts in; the first counts where there is nothing better."""
_LOCK: Final = 0x46484960
_SUBJECT: Final = 200


@dataclass(frozen=True, slots=True)
class Template:
    """One version of a text. `id` is None and `version` 0 for that of the program; an SMS has no `subject`."""

    id: int | None
    event: str
    channel: Channel
    language: str
    version: int
    state: str
    subject: str | None
    text: str
    created: datetime | None = None
    created_by: str | None = None
    activated: datetime | None = None
    retired: datetime | None = None


_COLUMNS: Final = ", ".join(each.name for each in fields(Template))


@dataclass(frozen=True, slots=True)
class Rendered:
    """What somebody is sent: a subject, None for an SMS, and a text."""

    subject: str | None
    text: str


def chosen(connection: Connection, event: str, channel: Channel, languages: tuple[str, ...]) -> Template:
    """The text for an event in the first of these languages that there is one in: `pt-BR` is served by `pt`, before the next is tried."""
    statement = f"SELECT {_COLUMNS} FROM message_template WHERE event = %s AND channel = %s AND state = 'active'"  # noqa: S608 - our names
    active = {row[3]: Template(*row) for row in connection.execute(statement, (event, channel)).fetchall()}
    for language in (*languages, *BUILT_IN):
        for name in dict.fromkeys((language.lower(), language.lower().partition("-")[0])):
            if name in active:
                return active[name]
            if name in BUILT_IN:
                return built_in(event, channel, name)
    raise AssertionError("the program has texts in its own languages")


def rendered(template: Template, values: Mapping[str, str | bool]) -> Rendered:
    """The text with its gaps filled; at its end the link that stops such messages, where the text does not name it. Raises Outcome `invalid`."""
    words = _words(template.language)
    filled = {"clinic": words["clinic"], **{name: value for name, value in values.items() if value or name != "clinic"}}
    text = render(template.text, filled)
    stop = str(filled.get("stop", ""))
    if stop and stop not in text:
        text += f"\n\n-- \n{words['email_stop']}{stop}" if template.channel == "email" else f"\n{words['sms_stop']}{stop}"
    subject = " ".join(render(template.subject, filled).split())[:_SUBJECT] if template.subject is not None else None
    return Rendered(subject, text)


def built_in(event: str, channel: Channel, language: str) -> Template:
    """The program's own text."""
    found = _words(language)[channel][event]
    return Template(None, event, channel, language, 0, "active", found.get("subject"), found["text"])


def page(connection: Connection, wanted: Mapping[str, str], after: int | None, limit: int) -> list[Template]:
    """So many versions that administrators wrote, the newest first, before that of a number; `wanted` as the columns are called."""
    conditions = [f"{name} = %({name})s" for name in ("event", "channel", "language", "state") if name in wanted]
    conditions += ["id < %(after)s"] if after is not None else []
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    statement = f"SELECT {_COLUMNS} FROM message_template {where} ORDER BY id DESC LIMIT %(limit)s"  # noqa: S608 - our names
    return [Template(*row) for row in connection.execute(statement, {**wanted, "after": after, "limit": limit}).fetchall()]


def get(connection: Connection, identity: int, *, lock: bool = False) -> Template | None:
    """The version of a number."""
    statement = f"SELECT {_COLUMNS} FROM message_template WHERE id = %s{' FOR UPDATE' if lock else ''}"  # noqa: S608 - our names
    row = connection.execute(statement, (identity,)).fetchone()
    return None if row is None else Template(*row)


def add(connection: Connection, new: Template, by: str, now: datetime) -> Template:
    """A draft, the next version of its text, within the caller's transaction. Raises Outcome `invalid`."""
    examine(new)
    connection.execute("SELECT pg_advisory_xact_lock(%s, 0)", (_LOCK,))
    values = (new.event, new.channel, new.language)
    statement = "SELECT coalesce(max(version), 0) + 1 FROM message_template WHERE event = %s AND channel = %s AND language = %s"
    version = scalar(connection, statement, *values)
    row = connection.execute(
        "INSERT INTO message_template (event, channel, language, version, state, subject, text, created, created_by)"  # noqa: S608 - our names
        f" VALUES (%s, %s, %s, %s, 'draft', %s, %s, %s, %s) RETURNING {_COLUMNS}",
        (*values, version, new.subject, new.text, now, by),
    ).fetchall()[0]
    return Template(*row)


def activate(connection: Connection, template: Template, by: str, now: datetime) -> Template:
    """Puts a draft, or a version from before, in the place of the one that counts. Raises Outcome `invalid` where it would not do any more."""
    examine(template)
    connection.execute("SELECT pg_advisory_xact_lock(%s, 0)", (_LOCK,))
    connection.execute(
        "UPDATE message_template SET state = 'retired', retired = %s WHERE event = %s AND channel = %s AND language = %s AND state = 'active'",
        (now, template.event, template.channel, template.language),
    )
    return _moved(connection, template, "active", "activated", by, now)


def retire(connection: Connection, template: Template, by: str, now: datetime) -> Template:
    """Takes a version out of use: where it counted, the program's own text does again."""
    return _moved(connection, template, "retired", "retired", by, now)


def _moved(connection: Connection, template: Template, state: str, column: str, by: str, now: datetime) -> Template:
    statement = f"UPDATE message_template SET state = %s, {column} = %s WHERE id = %s RETURNING {_COLUMNS}"  # noqa: S608 - our names
    row = connection.execute(statement, (state, now, template.id)).fetchall()[0]
    detail = f"{template.event} by {template.channel} in {template.language}, version {template.version}: {state}"
    append(connection, [Event("policy-change", by, type="message-template", resource=str(template.id), detail=detail)])
    return Template(*row)


def examine(template: Template) -> None:
    """Raises Outcome `invalid` for a text that is none, or that would be too long with values as they usually are."""
    if template.event not in EVENTS or template.channel not in CHANNELS:
        raise Outcome("invalid", f"Events are {', '.join(EVENTS)}, channels {', '.join(CHANNELS)}", expression="event")
    if (template.subject is None) == (template.channel == "email"):
        raise Outcome("invalid", "A mail has a subject, an SMS has none", expression="subject")
    check(template.text, "text")
    if template.subject is not None:
        check(template.subject, "subject")
    made = rendered(template, EXAMPLE)
    if not made.text.strip() or (made.subject is not None and not made.subject):
        raise Outcome("invalid", "The text is empty", expression="text")
    if template.channel == "sms" and size_of(made.text).segments > MAX_SEGMENTS:
        raise Outcome("invalid", f"The SMS would be sent in {size_of(made.text).segments} parts; {MAX_SEGMENTS} are the most", expression="text")


EXAMPLE: Final[Mapping[str, str | bool]] = {
    "clinic": "",
    "name": "Mira",
    "practitioner": "Dr. Adeyemi",
    "day": "2031-03-03",
    "time": "09:20",
    "old_day": "2031-03-01",
    "old_time": "14:00",
    "pending": False,
    "until": "18:00",
    "token": "F-012",
    "room": "Room 4",
    "link": "https://clinic.example.org/",
    "stop": "https://clinic.example.org/messages/stop/0123456789.sms.0123456789012345678901",
}
"""What a preview fills the gaps with."""


@cache
def _words(language: str) -> dict[str, Any]:
    name = language if language in BUILT_IN else BUILT_IN[0]
    found: dict[str, Any] = json.loads(files("fhir_server.clinic.messages").joinpath("data", f"{name}.json").read_text(encoding="utf-8"))
    return found
