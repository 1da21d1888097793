"""The inbox: stored messages as administrators find them, look at them, correct them, link them to patients and have them processed again."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, get_args

from fhir_server import fhirjson
from fhir_server.hl7v2.landing.processing import State
from fhir_server.hl7v2.mapping import Converter
from fhir_server.hl7v2.text.message import LIMIT, read
from fhir_server.hl7v2.text.unreadable import Unreadable
from fhir_server.interactions import Engine
from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM, Statement
from fhir_server.store.database import Connection, scalar
from fhir_server.store.trail import Event, clean

from . import shown, stored
from .intake import Intake
from .stored import LONGEST, Change, Stored

Json = dict[str, Any]
Place = tuple[datetime, str]

_WAITING: Final = ("received", "unmatched", "unmapped", "invalid", "failed")
_EQUAL: Final = ("application", "facility", "control_id", "type", "event", "patient", "peer", "reused")
_LISTED: Final = (
    *("id", "received", "transport", "peer", "address", "application", "facility", "control_id", "type", "event", "version", "state", "attempts"),
    *("settled", "code", "patient", "linked", "reused", "repeats", "replayed", "revision", "faults"),
)
_TESTS: Final = "corrected IS NOT NULL, state IN ('processed', 'warning') AND octet_length(raw) = 0"
_SECONDS: Final = 10.0
_MOST_LEFT: Final = 10_000


class Inbox:
    """The stored messages of one store. Faults are Outcomes; every method may raise `unavailable`."""

    def __init__(self, engine: Engine, converter: Converter, intake: Intake) -> None:
        """`converter` is the one by which the `intake` has messages processed."""
        self._engine = engine
        self._converter = converter
        self._intake = intake

    def page(self, conditions: Mapping[str, Any], after: Place | None, limit: int) -> list[Json]:
        """Messages that fulfil all conditions, the newest first, from behind a place on.

        Conditions: `state`, also `waiting` for all that somebody has to do something about; what the header says (`application`, `facility`,
        `control_id`, `type`, `event`), `peer`, `patient`, `reused`; `since` and `before`, when it came.
        """
        where = _where(conditions)
        if after is not None:
            where = where.and_(Statement("(received, id) < (%s, %s)", after))
        with self._engine.store.database.connection() as connection:
            rows = connection.execute(
                f"SELECT {', '.join(_LISTED)}, {_TESTS} FROM hl7v2_message WHERE {where.text} ORDER BY received DESC, id DESC LIMIT %s",  # noqa: S608
                (*where.params, limit),
            ).fetchall()
        return [_listed(row) for row in rows]

    def message(self, identity: str) -> Json:
        """All of one message: as in a list, and its text, segments, answers, faults, what it became, or else what it would become now.

        Raises Outcome `not-found`.
        """
        with self._engine.store.database.connection() as connection:
            row = connection.execute(
                f"SELECT {', '.join(_LISTED)}, {_TESTS}, raw, corrected, accept, ack, unhandled, written FROM hl7v2_message WHERE id = %s",  # noqa: S608
                (identity,),
            ).fetchone()
        if row is None:
            raise _nothing()
        *first, raw, corrected, accept, ack, unhandled, written = row
        body = _listed(first)
        done = body["state"] in {"processed", "warning"}
        return body | {
            "faults": shown.faults_of(row[len(_LISTED) - 1]),
            "unhandled": unhandled[:LONGEST],
            "unread": shown.unread(self._converter, corrected or raw),
            "written": written,
            "raw": None if body["pruned"] else shown.texts_of(raw),
            "correction": None if corrected is None else shown.texts_of(corrected),
            "accept": _answer(accept),
            "ack": _answer(ack),
            "mapped": None if done else shown.mapped(self._engine, self._converter, corrected or raw),
        }

    def revision(self, identity: str) -> int:
        """A number that is another one after each change of a message. Raises Outcome `not-found`."""
        with self._engine.store.database.connection() as connection:
            return self._stored(connection, identity).revision

    def correct(self, connection: Connection, identity: str, text: str | None, revision: int) -> Json:
        """Stores what a message should have said, None to take that back, without processing it; the message as in a list.

        Raises Outcome `not-found`, `precondition` where it is of another revision, `invalid` for a text that is not the same message corrected,
        `too-large`.
        """
        found = self._stored(connection, identity)
        raw = None if text is None else _bytes_of(text, found)
        if stored.correct(connection, identity, raw, revision) is None:
            raise Outcome("precondition", "The message has changed since it was read; read it again")
        row = connection.execute(f"SELECT {', '.join(_LISTED)}, {_TESTS} FROM hl7v2_message WHERE id = %s", (identity,)).fetchone()  # noqa: S608
        assert row is not None
        return _listed(row)

    def replay(self, identity: str, by: Event, *, text: str | None = None, patient: str | None = None, revision: int | None = None) -> Json:
        """Processes a message again for whoever `by` tells of: as it came or was changed before, corrected by `text`, or linked to a `patient`.

        The same again changes nothing. Raises Outcome `not-found`, `gone`, `precondition` where it is not of the `revision`, `conflict`, `invalid`.
        """
        with self._engine.store.database.connection() as connection:
            found = self._stored(connection, identity)
        if patient is not None:
            self._check_living(patient)
        change = Change(None if text is None else _bytes_of(text, found), patient)
        self._intake.replay(identity, by, change, revision=revision)
        return self._became(identity)

    def replay_many(self, conditions: Mapping[str, Any], after: Place | None, limit: int, by: Event) -> tuple[list[Json], int, Place | None]:
        """Processes again, oldest first, messages that fulfil all conditions, from behind a place on; up to `limit`, and for some ten seconds.

        What became of each; how many are left, up to 10,000; the place of the last where any are. One that others change at the moment, or whose
        text is gone, is told and left as it is.
        """
        until = time.monotonic() + _SECONDS
        where = _where(conditions)
        done: list[Json] = []
        with self._engine.store.database.connection() as connection:
            chosen = _oldest(connection, where, after, limit)
        for received, identity in chosen:
            if time.monotonic() > until:
                break
            done.append(self._again(identity, by))
            after = (received, identity)
        with self._engine.store.database.connection() as connection:
            rest = _behind(where, after)
            counted = f"SELECT count(*) FROM (SELECT FROM hl7v2_message WHERE {rest.text} LIMIT {_MOST_LEFT}) AS rest"  # noqa: S608 - our own words
            left = int(scalar(connection, counted, *rest.params))
        return done, left, after if left else None

    def _again(self, identity: str, by: Event) -> Json:
        try:
            result = self._intake.replay(identity, by)
        except Outcome as outcome:
            if outcome.category == "unavailable":
                raise
            return {"id": identity, "state": None, "code": None, "problem": str(outcome)}
        return {"id": identity, "state": result.state, "code": result.code, "problem": None}

    def _became(self, identity: str) -> Json:
        with self._engine.store.database.connection() as connection:
            row = connection.execute(
                f"SELECT {', '.join(_LISTED)}, {_TESTS}, unhandled, written FROM hl7v2_message WHERE id = %s",  # noqa: S608 - our own words
                (identity,),
            ).fetchone()
        if row is None:
            raise _nothing()
        *first, unhandled, written = row
        return _listed(first) | {"faults": shown.faults_of(row[len(_LISTED) - 1]), "unhandled": unhandled[:LONGEST], "written": written}

    def _check_living(self, patient: str) -> None:
        with self._engine.store.latest(SYSTEM) as db:
            version = db.read("Patient", patient)
        if version is None or version.body is None:
            raise Outcome("invalid", "There is no such patient", expression="patient")
        links = [link["other"].get("reference", "") for link in fhirjson.loads(version.body).get("link", ()) if link.get("type") == "replaced-by"]
        if links:
            raise Outcome("invalid", f"This patient was merged into another: {links[0]}", expression="patient")

    def _stored(self, connection: Connection, identity: str) -> Stored:
        found = stored.load(connection, identity)
        if found is None:
            raise _nothing()
        return found


def _where(conditions: Mapping[str, Any]) -> Statement:
    where = Statement("TRUE")
    state = conditions.get("state")
    if state is not None:
        # As they stand: a plan for any state would not know of the index of those that wait.
        states = ", ".join(f"'{each}'" for each in (_WAITING if state == "waiting" else [each for each in get_args(State) if each == state]))
        where = where.and_(Statement(f"state IN ({states})"))
    for name in _EQUAL:
        if name in conditions:
            where = where.and_(Statement(f"{name} = %s", (conditions[name],)))
    if "since" in conditions:
        where = where.and_(Statement("received >= %s", (conditions["since"],)))
    if "before" in conditions:
        where = where.and_(Statement("received < %s", (conditions["before"],)))
    return where


def _behind(where: Statement, after: Place | None) -> Statement:
    return where if after is None else where.and_(Statement("(received, id) > (%s, %s)", after))


def _oldest(connection: Connection, where: Statement, after: Place | None, limit: int) -> list[Place]:
    rest = _behind(where, after)
    statement = f"SELECT received, id FROM hl7v2_message WHERE {rest.text} ORDER BY received, id LIMIT %s"  # noqa: S608 - our own words
    return [(row[0], row[1]) for row in connection.execute(statement, (*rest.params, limit))]


def _listed(row: Sequence[Any]) -> Json:
    """A row of _LISTED and _TESTS; the first fault stands for all of them."""
    body = dict(zip((*_LISTED, "corrected", "pruned"), row, strict=True))
    faults = shown.faults_of(body.pop("faults"))
    text = ": ".join(part for part in (faults[0]["place"], faults[0]["text"]) if part) if faults else None
    return body | {"fault": text}


def _answer(ack: bytes | None) -> str | None:
    # In the character set of its message, which need not be readable; what an answer repeats of it is a few words.
    return None if ack is None else shown.texts_of(ack)["text"]


def _bytes_of(text: str, found: Stored) -> bytes:
    """A corrected message in the character set that its MSH-18 names. Raises Outcome `invalid`, `too-large`."""
    text = text.replace("\r\n", "\r").replace("\n", "\r").lstrip("\ufeff\r ")
    try:
        codec = read(text.partition("\r")[0].encode("ascii", "replace")).codec
        # What says that it is ASCII and is not is read as UTF-8.
        raw = text.encode("utf-8" if codec == "ascii" else codec)
        if len(raw) > LIMIT:
            raise Outcome("too-large", f"A message has {LIMIT // 1024 // 1024} MiB at the most", expression="message")
        message = read(raw)
    except Unreadable as unreadable:
        raise Outcome("invalid", f"It is no message: {unreadable.fault.text}", expression="message") from None
    except UnicodeEncodeError:
        raise Outcome("invalid", "It has characters that the set which MSH-18 names has not", expression="message") from None
    if message.text != text:
        raise Outcome("invalid", "Its characters are not those of the set that MSH-18 names", expression="message")
    if found.control_id and clean(message.header.control_id[:LONGEST]) != found.control_id:
        raise Outcome("invalid", "MSH-10 has to stay what it is: a message with another one is another message", expression="message")
    return raw


def _nothing() -> Outcome:
    return Outcome("not-found", "There is no such message")
