"""FHIR delete and conditional delete, of one match or of all. https://hl7.org/fhir/R4/http.html#delete"""

from __future__ import annotations

from fhir_server.outcome import Issue
from fhir_server.store.ops import Delete, Written

from .conditions import conditions
from .engine import Engine
from .exchange import Exchange, Reply
from .provenance import refuse_provenance


def delete(engine: Engine, exchange: Exchange) -> Reply:
    """204, also where there was nothing to delete. Raises Outcome `precondition`, `conflict` (others refer to it, with integrity on)."""
    refuse_provenance(exchange)
    (written,) = engine.store.transact(
        [delete_op(engine, exchange)], exchange.grant, request_id=exchange.request_id, address=exchange.address
    ).written
    return deleted_reply(written, one=exchange.id is not None)


def deleted_reply(written: Written, *, one: bool) -> Reply:
    """The answer to a delete; with the version that the deletion is where it was asked for `one` resource, not for all that meet a condition."""
    text = f"Resources deleted: {written.deleted}" if written.deleted else "There was nothing to delete"
    version = str(written.version.version) if one and written.version else None
    return Reply(204, version=version, issues=(Issue("information", "informational", text),))


def delete_op(engine: Engine, exchange: Exchange) -> Delete:
    """The write that a delete asks for; a condition deletes every match, as the CapabilityStatement says."""
    name = engine.known_type(exchange.type)
    if exchange.id is None:
        return Delete(name, criteria=engine.criteria(name, conditions(exchange)), if_match=exchange.if_match, multiple=True)
    return Delete(name, exchange.id, if_match=exchange.if_match)
