"""Operations of the clinic as requests: done once under an Idempotency-Key, whose answer is kept in the transaction that has the effect."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from datetime import datetime
from typing import Final

from fhir_server import fhirjson
from fhir_server.clinic.acting import Act
from fhir_server.interactions import Engine, Exchange, Reply
from fhir_server.interactions.writing import written_reply
from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM
from fhir_server.store.database import Connection
from fhir_server.store.ops import Commit

Answer = Callable[[Commit], Reply]

_AGAIN: Final = (("Idempotency-Replayed", "true"),)


class _Repeated(Exception):  # noqa: N818 - an event, not a fault: the transaction is given up
    """Somebody else has done the same in the meantime."""


def once(engine: Engine, exchange: Exchange, name: str, run: Callable[[Act], Commit], answer: Answer) -> Reply:
    """Runs an operation and answers; with an Idempotency-Key that the caller has used for the same within a day, the answer is the one given then.

    `run` ends in one `clinic.acting.carry_out` with the Act that it is given; `answer` is made of its commit. What is refused is not kept.
    Raises what `run` raises, `business-rule` for a key that another request was made with, `conflict` where the same is under way.
    """
    act = Act(name, exchange.grant, exchange.request_id, exchange.address)
    key = exchange.key
    if key is None:
        return answer(run(act))
    caller, request, now = _caller(exchange), _request(exchange, name), engine.store.clock()
    if (given := _given(engine, caller, key, request, now)) is not None:
        return given

    def beside(connection: Connection, commit: Commit) -> None:
        if not engine.idempotency.begin(connection, caller, key, request, now):
            raise _Repeated
        engine.idempotency.keep(connection, caller, key, _text(answer(commit)))

    try:
        return answer(run(Act(name, exchange.grant, exchange.request_id, exchange.address, beside)))
    except _Repeated:
        again = _given(engine, caller, key, request, now)
        assert again is not None
        return again
    except Outcome:
        # Of two at once the second may be refused for what the first has just done: a time that is taken, a place in the queue.
        if (again := _given(engine, caller, key, request, now)) is None:
            raise
        return again


def first_written(status: int, *headers: tuple[str, str]) -> Answer:
    """Answers with the resource that the first op has written, whoever may read it: the operation has made it for the caller."""

    def answer(commit: Commit) -> Reply:
        reply = written_reply(commit.written[0], SYSTEM)
        return Reply(status, reply.body, reply.type, reply.id, reply.version, reply.last_modified, headers=headers)

    return answer


def _given(engine: Engine, caller: str, key: str, request: str, now: datetime) -> Reply | None:
    with engine.store.database.connection() as connection:
        text = engine.idempotency.given(connection, caller, key, request, now)
    if text is None:
        return None
    kept = json.loads(text)
    body = base64.b64decode(kept["body"]) if kept["body"] is not None else None
    last_modified = datetime.fromisoformat(kept["last_modified"]) if kept["last_modified"] is not None else None
    headers = (*((name, value) for name, value in kept["headers"]), *_AGAIN)
    return Reply(kept["status"], body, kept["type"], kept["id"], kept["version"], last_modified, (), kept["content_type"], headers)


def _text(reply: Reply) -> str:
    kept = {
        "status": reply.status,
        "body": base64.b64encode(reply.body).decode() if reply.body is not None else None,
        "type": reply.type,
        "id": reply.id,
        "version": reply.version,
        "last_modified": reply.last_modified.isoformat() if reply.last_modified is not None else None,
        "content_type": reply.content_type,
        "headers": list(reply.headers),
    }
    return json.dumps(kept)


def _caller(exchange: Exchange) -> str:
    grant = exchange.grant
    return f"fhir {grant.account or ''} {grant.client or ''} {grant.actor}"


def _request(exchange: Exchange, name: str) -> str:
    body = hashlib.sha256(fhirjson.dumps(exchange.body) if exchange.body is not None else b"").hexdigest()
    return f"{exchange.type}/{exchange.id or ''}/${name}?{exchange.params!r}\n{body}"
