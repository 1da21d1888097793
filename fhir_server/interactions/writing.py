"""What creates, updates and patches have in common: one resource is written, and the answer shows what came of it."""

from __future__ import annotations

from fhir_server.outcome import Outcome
from fhir_server.search import Grant
from fhir_server.search.grant import Permission
from fhir_server.store.ops import Op, Written

from .engine import Engine
from .exchange import Exchange, Reply
from .profiles import held
from .provenance import provenance


def write(engine: Engine, exchange: Exchange, op: Op) -> Reply:
    """Does one write in a transaction of its own, with the Provenance that came along.

    Raises Outcome as `Store.transact`, as `provenance`, and `invalid` where the resource does not meet a profile that it is held to.
    """
    look = held(engine, [("", op)], exchange.grant)
    (written,) = engine.store.transact(
        [op], exchange.grant, request_id=exchange.request_id, then=look, address=exchange.address, provenance=provenance(engine, exchange)
    ).written
    return written_reply(written, exchange.grant)


def allow(exchange: Exchange, resource_type: str, permission: Permission) -> None:
    """Raises Outcome `forbidden` for who may write nothing of a type, as the store does, but before faults of the body are looked for.

    Of AuditEvents the store says it: nobody changes them, whatever they may do.
    """
    if resource_type != "AuditEvent" and not exchange.grant.allows(resource_type, permission):
        raise Outcome("forbidden", f"The token does not allow to {'create' if permission == 'c' else 'update'} {resource_type}")


def written_reply(written: Written, grant: Grant) -> Reply:
    """The answer to a write: 201 where something came to be, 204 where it went, else 200.

    What was there before shows in an update's result (all that a patch leaves, the labels that a put keeps), so only readers get to see it.
    """
    version = written.version
    if version is None:
        return Reply(204)
    status = {"created": 201, "deleted": 204}.get(written.outcome, 200)
    body = version.body if written.outcome == "created" or sees(grant, version.type) else None
    return Reply(status, body, version.type, version.id, str(version.version), version.at)


def sees(grant: Grant, resource_type: str) -> bool:
    """Whether the content of some resource of a type may come before the caller's eyes."""
    return grant.allows(resource_type, "r") or grant.allows(resource_type, "s")
