"""Bodies in and answers out: strict JSON within a limit, one transaction per change, ETags, problem details.

https://www.rfc-editor.org/rfc/rfc9457, https://www.rfc-editor.org/rfc/rfc9110#name-preconditions
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from flask import Response, g, request
from marshmallow import ValidationError
from webargs.flaskparser import FlaskParser

from fhir_server.access.audit import Event, acting, record
from fhir_server.access.idempotency import check_key
from fhir_server.interactions.engine import parse_parameters
from fhir_server.outcome import Outcome
from fhir_server.problems import MEDIA_TYPE, answer_to, outcome_of
from fhir_server.store.database import Connection

from .office import caller, identity_of, office

MAX_BODY: Final = 64 * 1024
"""Bytes of a body, but where an address takes more."""
_NUMBER: Final = re.compile(r"[0-9]{1,18}", re.ASCII)
_NO_STORE: Final = {"Cache-Control": "no-store"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back: a body for JSON, None for none, and headers.

    `event` goes into the audit trail with the change, as the caller's; accounts and sessions leave theirs by themselves. `then` is called once the
    transaction is committed.
    """

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    event: Event | None = None
    then: Callable[[], None] = lambda: None


class Parser(FlaskParser):
    """Reads arguments, and refuses whatever it was not told of."""

    DEFAULT_UNKNOWN_BY_LOCATION = FlaskParser.DEFAULT_UNKNOWN_BY_LOCATION | {"query": "raise"}

    def load_json(self, req: Any, schema: Any) -> Any:
        """The body as JSON. Raises Outcome `media-type`, `malformed`."""
        del schema
        if req.mimetype != "application/json":
            raise Outcome("media-type", "The body has to be application/json")
        try:
            body = json.loads(g.fhir_server_body)
            # Half a surrogate pair can be written in JSON, but stands for no character.
            text = json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, RecursionError):
            raise Outcome("malformed", "The body is not JSON") from None
        if rb"\u0000" in text:
            raise Outcome("malformed", "The body has characters that are none")
        return body

    def load_querystring(self, req: Any, schema: Any) -> Any:
        """The parameters of an address. Raises Outcome `parameter` for one that stands twice, and for what is not UTF-8."""
        names = [name for name, _ in parse_parameters(req.query_string.decode("latin-1"))]
        if twice := [name for name in names if names.count(name) > 1]:
            raise Outcome("parameter", f"'{twice[0][:80]}' stands twice", expression=twice[0][:80])
        return super().load_querystring(req, schema)

    def handle_error(self, error: ValidationError, *_: Any, **__: Any) -> Any:
        """Raises Outcome `invalid` for a body, `parameter` for a query, each with the first fault and its place."""
        ((location, faults),) = dict(error.messages_dict).items()
        place, text = _first(faults)
        raise Outcome("invalid" if location == "json" else "parameter", f"'{place}': {text}" if place else text, expression=place or None)


def read_body(most: int) -> None:
    """Reads the body, of so many bytes at the most, before anything is done that must be done once. Raises Outcome `too-large`."""
    most = min(most, office().settings.max_body)
    g.fhir_server_body = b""
    if request.method in ("POST", "PUT", "PATCH", "DELETE"):
        if (request.content_length or 0) > most:
            raise _too_large(most)
        g.fhir_server_body = request.environ["wsgi.input"].read(most + 1)
        if len(g.fhir_server_body) > most:
            raise _too_large(most)


def act(work: Callable[[Connection], Answer]) -> Response:
    """Does the work in one transaction, and answers. A POST with an Idempotency-Key is done once, and its answer given to each further try.

    Raises Outcome `parameter` for a key that is none, `business-rule` for one of another request.
    """
    here = office()
    key = _key()
    after: list[Callable[[], None]] = []

    def worked(connection: Connection) -> str:
        acting(connection, caller(), address=_address(), request_id=_request_id())
        answer = work(connection)
        after.append(answer.then)
        if answer.event is not None:
            record(connection, done_by_caller(answer.event))
        return json.dumps([answer.body, answer.status, dict(answer.headers)], ensure_ascii=False)

    with here.store.database.connection() as connection, connection.transaction():
        if key is None:
            text, replayed = worked(connection), False
        else:
            text, replayed = _once(connection, key, lambda: worked(connection))
    for each in after:
        each()
    return _answer(text, replayed=replayed)


def act_apart(work: Callable[[], Answer]) -> Response:
    """Does work that has transactions of its own, holding no connection meanwhile, and answers; with an Idempotency-Key, again what it did at first.

    For work that does no harm when it is done twice, as by two at once with the same key. Raises as `act`.
    """
    key = _key()
    if key is None:
        answer = work()
        return answered(answer.body, answer.status, answer.headers)
    check_key(key)
    database = office().store.database
    try:
        with database.connection() as connection, connection.transaction():
            return _answer(_once(connection, key, _absent)[0], replayed=True)
    except _AbsentError:
        answer = work()
    made = json.dumps([answer.body, answer.status, dict(answer.headers)], ensure_ascii=False)
    with database.connection() as connection, connection.transaction():
        text, replayed = _once(connection, key, lambda: made)
    return _answer(text, replayed=replayed)


class _AbsentError(Exception):
    """No answer is kept for a key."""


def _absent() -> str:
    raise _AbsentError


def _key() -> str | None:
    return request.headers.get("Idempotency-Key") if request.method == "POST" else None


def _once(connection: Connection, key: str, work: Callable[[], str]) -> tuple[str, bool]:
    asked = f"{request.method} {request.full_path}\n{hashlib.sha256(g.fhir_server_body).hexdigest()}"
    here = office()
    return here.idempotency.once(connection, identity_of(caller()), check_key(key), asked, work, here.now())


def _answer(text: str, *, replayed: bool) -> Response:
    body, status, headers = json.loads(text)
    return answered(body, status, headers | ({"Idempotency-Replayed": "true"} if replayed else {}))


def done_by_caller(event: Event) -> Event:
    """The event as done by whoever has sent the request."""
    return event.by(caller(), address=_address(), request_id=_request_id())


def answered(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer that nobody keeps; without a body there is none. Bytes are JSON already."""
    if body is None:
        response = Response(None, status, _NO_STORE | dict(headers or {}))
        # There is nothing that could have a type.
        del response.headers["Content-Type"]
        return response
    text = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False)
    return Response(text, status, _NO_STORE | dict(headers or {}), content_type="application/json")


def etag(body: Any) -> str:
    """The ETag of what is shown: another one whenever that has changed."""
    return f'"{hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:32]}"'


def tagged(body: Any, *, made: str | None = None, event: Event | None = None) -> Answer:
    """The answer that shows a state under its ETag; what was `made` just now has this path."""
    if made is None:
        return Answer(body, headers={"ETag": etag(body)}, event=event)
    return Answer(body, 201, {"ETag": etag(body), "Location": address_of(made)}, event)


def check_match(body: Any) -> None:
    """Raises Outcome `precondition` where If-Match names another state than the one that `body` shows, which the caller has locked."""
    given = request.headers.get("If-Match")
    if given is None or given.strip() == "*":
        return
    if etag(body) not in [each.strip().removeprefix("W/") for each in given.split(",")]:
        raise Outcome("precondition", "It has changed since it was read; read it again")


def number_of(identity: str, what: str) -> int:
    """The number in an address. Raises Outcome `not-found` where that is none: there is no such `what`."""
    if not _NUMBER.fullmatch(identity):
        raise Outcome("not-found", f"There is no such {what}")
    return int(identity)


def address_of(path: str) -> str:
    """The whole address of a path of this server, as callers know it."""
    return f"{office().settings.public_url or request.host_url.rstrip('/')}{path}"


def problem(error: Exception) -> Response:
    """The answer to a fault: problem details."""
    outcome = outcome_of(error, _request_id())
    return Response(*answer_to(outcome), content_type=MEDIA_TYPE)


def _address() -> str:
    return str(request.environ.get("REMOTE_ADDR", ""))


def _request_id() -> str:
    return str(request.environ.get("fhir_server.request_id", ""))


def _first(faults: Any, place: str = "") -> tuple[str, str]:
    """The place and the text of the first fault of those that marshmallow tells, which are nested as the body is."""
    while isinstance(faults, Mapping):
        name, faults = next(iter(faults.items()))
        place = place if name == "_schema" else f"{place}.{name}" if place else str(name)
    return place[:100], str(faults[0] if isinstance(faults, list) and faults else faults)[:300]


def _too_large(most: int) -> Outcome:
    return Outcome("too-large", f"The body is larger than {most // 1024} KiB")
