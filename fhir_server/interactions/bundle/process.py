"""Batch and transaction: the one runs entries one by one, the other all in one transaction of the store.

https://hl7.org/fhir/R4/http.html#transaction, https://hl7.org/fhir/R4/http.html#trules
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from fhir_server.interactions.create import create_op
from fhir_server.interactions.delete import delete_op, deleted_reply
from fhir_server.interactions.engine import Engine
from fhir_server.interactions.exchange import Exchange, Reply
from fhir_server.interactions.patch import patch_op
from fhir_server.interactions.profiles import held
from fhir_server.interactions.provenance import provenance, refuse_provenance
from fhir_server.interactions.update import update_op
from fhir_server.interactions.writing import written_reply
from fhir_server.outcome import Issue, Outcome
from fhir_server.store import Snapshot, conditional_references
from fhir_server.store.ops import Commit, Create, Delete, Lookup, Op, Patch, Put
from fhir_server.store.writing.links import relink

from .entries import exchange_of
from .render import bundle_response, entry_response, failed_entry

Dispatch = Callable[[Engine, Exchange], Reply]
Read = Callable[[Engine, Exchange, Snapshot], Reply]

_OPS: Final[dict[str, Callable[[Engine, Exchange], Op]]] = {"create": create_op, "update": update_op, "patch": patch_op, "delete": delete_op}
# Deletes come first, then creates, then updates and patches, then reads, whatever the order sent (http.html, rules of transactions).
_ORDER: Final = {"delete": 0, "create": 1, "update": 2, "patch": 2}
MAX_ENTRIES: Final = 50_000
"""Entries of a batch or transaction: 64 MB hold a million reads, which took minutes."""
MAX_SECONDS: Final = 60.0
"""Seconds that the operations of a batch may take together; no more are begun then. A paper takes 30 ms, a hostile GraphQL query one second."""
MAX_ANSWER: Final = 64_000_000
"""Bytes of an answer after which no further entry is read: a small batch of searches asked for gigabytes."""
_MAX_ISSUES: Final = 100
_RESTFUL: Final = re.compile(r"(https?://\S{1,1000})/([A-Z][A-Za-z]{1,63}/[A-Za-z0-9\-.]{1,64})")


def process(engine: Engine, exchange: Exchange, dispatch: Dispatch, read: Read) -> Reply:
    """200 and a response Bundle with one entry for each entry sent, in the same order.

    A transaction raises the Outcome of what is wrong, and nothing is stored; a batch answers for each entry by itself.
    `dispatch` runs one Exchange, `read` one that reads, in a given snapshot.
    """
    kind, entries = bundle_entries(exchange.body)
    if len(entries) > MAX_ENTRIES:
        raise Outcome("too-large", f"A Bundle may have {MAX_ENTRIES:,} entries here; this one has {len(entries):,}", expression="Bundle.entry")
    engine = replace(engine, validator=engine.validator.of_one_request())
    if kind == "batch":
        refuse_provenance(exchange)
        return bundle_response("batch-response", _batch(engine, exchange, entries, dispatch))
    if kind == "transaction":
        exchanges, replies, _ = transaction(engine, exchange, entries, read)
        return bundle_response("transaction-response", [entry_response(e, reply) for e, reply in zip(exchanges, replies, strict=True)])
    raise Outcome("malformed", f"A Bundle of type '{kind}' cannot be posted here: batch or transaction", code="value", expression="Bundle.type")


def bundle_entries(bundle: Any) -> tuple[str | None, list[dict[str, Any]]]:
    """Type and entries of a Bundle. Raises Outcome `malformed` for what is none."""
    if not isinstance(bundle, dict) or bundle.get("resourceType") != "Bundle":
        raise Outcome("malformed", "The body is not a Bundle")
    entries = bundle.get("entry", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise Outcome("malformed", "Bundle.entry is not a list of objects", expression="Bundle.entry")
    return bundle.get("type"), entries


def _batch(engine: Engine, parent: Exchange, entries: list[dict[str, Any]], dispatch: Dispatch) -> list[bytes]:
    answers: list[bytes] = []
    size, spent = 0, 0.0
    for number, entry in enumerate(entries):
        try:
            exchange = exchange_of(entry, parent, f"Bundle.entry[{number}]")
            begun, operates = time.monotonic(), exchange.interaction == "operation"
            if operates and spent > MAX_SECONDS:
                raise Outcome("throttled", "The operations before have taken all the time that a batch has for them; send the rest in another")
            try:
                answers.append(_batch_entry(engine, exchange, entry, dispatch, full=size > MAX_ANSWER))
            finally:
                spent += time.monotonic() - begun if operates else 0.0
        except Outcome as outcome:
            answers.append(failed_entry(outcome))
        size += len(answers[-1])
    return answers


def _batch_entry(engine: Engine, exchange: Exchange, entry: dict[str, Any], dispatch: Dispatch, *, full: bool) -> bytes:
    if full:
        if exchange.interaction not in _OPS:
            raise _full()
        # What is written is told, but not shown.
        exchange = replace(exchange, returning="minimal")
    return entry_response(exchange, _as_asked(entry, dispatch(engine, exchange)))


def transaction(
    engine: Engine, parent: Exchange, entries: list[dict[str, Any]], read: Read, *, once: bytes | None = None
) -> tuple[list[Exchange], list[Reply], bool]:
    """Does all entries or none: their Exchanges and replies in the order sent, and whether it was done before (see `Store.transact`, `once`)."""
    exchanges, ops = _prepare(engine, parent, entries)
    replies: dict[int, Reply] = {}

    def reads(db: Snapshot) -> None:
        size = 0
        for number, exchange in enumerate(exchanges):
            if exchange.interaction not in _OPS:
                if size > MAX_ANSWER:
                    raise _full()
                replies[number] = _as_asked(entries[number], _placed_read(engine, exchange, db, read, number))
                size += len(replies[number].body or b"")

    look = held(engine, [(f"Bundle.entry[{number}]", op) for number, op in ops], parent.grant)
    after = [each for each in (look, None if len(ops) == len(exchanges) else reads) if each is not None]
    commit = _commit(engine, parent, [op for _, op in ops], after, once)
    if commit.repeated:
        return [], [], True
    for (number, _), written in zip(ops, commit.written, strict=True):
        exchange = exchanges[number]
        replies[number] = (
            deleted_reply(written, one=exchange.id is not None) if exchange.interaction == "delete" else written_reply(written, parent.grant)
        )
    return exchanges, [replies[number] for number in range(len(exchanges))], False


def _prepare(engine: Engine, parent: Exchange, entries: list[dict[str, Any]]) -> tuple[list[Exchange], list[tuple[int, Op]]]:
    """Every entry as an Exchange, and the writes among them in the order of the specification. Raises Outcome with all faults of all entries."""
    exchanges: list[Exchange] = []
    ops: list[tuple[int, Op]] = []
    faults: list[Outcome] = []
    issues: list[Issue] = []
    for number, entry in enumerate(entries):
        at = f"Bundle.entry[{number}]"
        try:
            exchange = exchange_of(entry, parent, at)
            if exchange.interaction == "operation":
                raise _no_operation(exchange, at)
            exchanges.append(exchange)
            make = _OPS.get(exchange.interaction)
            if make is not None:
                op = make(engine, exchange)
                op.link = entry.get("fullUrl")
                ops.append((number, op))
        except Outcome as outcome:
            faults.append(outcome)
            issues += _placed(outcome, at)
            if len(issues) >= _MAX_ISSUES:
                break
    if faults:
        # What is no request at all (400) tells more than what is not valid (422).
        worst = min(faults, key=lambda outcome: outcome.status)
        raise Outcome(worst.category, issues=issues, headers=worst.headers)
    _refuse_same_link([op for _, op in ops])
    _make_absolute([op for _, op in ops])
    ops.sort(key=lambda pair: _ORDER[exchanges[pair[0]].interaction])
    return exchanges, ops


def _commit(engine: Engine, parent: Exchange, ops: list[Op], after: list[Callable[[Snapshot], None]], once: bytes | None) -> Commit:
    texts = dict.fromkeys(text for op in ops if (resource := getattr(op, "resource", None)) is not None for text in conditional_references(resource))
    lookups = [Lookup(text, engine.criteria(engine.known_type(text.partition("?")[0]), text.partition("?")[2])) for text in texts]

    def looks(db: Snapshot) -> None:
        for each in after:
            each(db)

    return engine.store.transact(
        ops,
        parent.grant,
        request_id=parent.request_id,
        lookups=lookups,
        once=once,
        then=looks if after else None,
        address=parent.address,
        provenance=provenance(engine, parent),
    )


def _as_asked(entry: dict[str, Any], reply: Reply) -> Reply:
    """HEAD is answered as GET is, without the body. https://hl7.org/fhir/R4/http.html#head"""
    return replace(reply, body=None) if entry["request"]["method"] == "HEAD" else reply


def _placed_read(engine: Engine, exchange: Exchange, db: Snapshot, read: Read, number: int) -> Reply:
    try:
        return read(engine, exchange, db)
    except Outcome as outcome:
        raise Outcome(outcome.category, issues=_placed(outcome, f"Bundle.entry[{number}]"), headers=outcome.headers) from None


def _no_operation(exchange: Exchange, at: str) -> Outcome:
    """Operations open transactions and moments of their own, which neither see what this one has written nor end with it."""
    said = f"${exchange.operation} cannot stand in a transaction, as no operation can; send it in a batch over HTTP, or alone"
    return Outcome("malformed", said, code="not-supported", expression=f"{at}.request.url")


def _full() -> Outcome:
    return Outcome("too-costly", f"The answers to the entries before are larger than {MAX_ANSWER // 1_000_000} MB; read the rest by another Bundle")


def _placed(outcome: Outcome, at: str) -> list[Issue]:
    """The issues of one entry, each with its place in the Bundle."""
    return [replace(issue, expression=tuple(_inside(place, at) for place in issue.expression) or (at,)) for issue in outcome.issues]


def _inside(place: str, at: str) -> str:
    if place.startswith("Bundle.entry["):
        return place
    _, dot, rest = place.partition(".")
    return f"{at}.resource{dot}{rest}"


def _make_absolute(ops: list[Op]) -> None:
    """Reads relative references against the fullUrl of the entry that they stand in. https://hl7.org/fhir/R4/bundle.html#references

    In the entry of `http://x/fhir/Observation/5`, `Patient/7` means `http://x/fhir/Patient/7`, where that is an entry here.
    """
    bases: dict[str, dict[str, str]] = {}
    placed: list[tuple[Create | Put, dict[str, str]]] = []
    for op in ops:
        match = _RESTFUL.fullmatch(op.link) if op.link is not None else None
        if match is not None and op.link is not None and not isinstance(op, Delete):
            links = bases.setdefault(match[1], {})
            links[match[2]] = op.link
            if not isinstance(op, Patch):
                placed.append((op, links))
    for op, links in placed:
        op.resource = relink(op.resource, links)


def _refuse_same_link(ops: list[Op]) -> None:
    seen: set[str] = set()
    for op in ops:
        if op.link is not None:
            if op.link in seen:
                raise Outcome("malformed", f"Two entries have the fullUrl '{op.link}'", code="duplicate", expression="Bundle.entry.fullUrl")
            seen.add(op.link)
