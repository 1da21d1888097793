"""The tags, security labels and profiles of a resource: shown, added and taken away.

https://hl7.org/fhir/R4/resource-operation-meta.html, https://hl7.org/fhir/R4/resource-operation-meta-add.html,
https://hl7.org/fhir/R4/resource-operation-meta-delete.html
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from fhir_server import fhirjson
from fhir_server.interactions import Engine, Exchange, Reply, dispatch
from fhir_server.outcome import Outcome

from .operation import Level, Operation, reading
from .parameters import Inputs, Json, answer, stored

_LISTS: Final = ("profile", "security", "tag")
_ATTEMPTS: Final = 5


def meta(engine: Engine, exchange: Exchange) -> Reply:
    """200 and Parameters with the `meta` of the current version as `return`. Raises Outcome `not-found`, `gone`."""
    Inputs(engine, exchange, ())
    with engine.store.snapshot(exchange.grant) as db:
        resource = stored(engine, exchange, db) or {}
    return answer(("return", "Meta", resource["meta"]))


def meta_add(engine: Engine, exchange: Exchange) -> Reply:
    """200 as `meta`, once what is given stands there too. It is a patch, unless all of it was there. Raises as a patch does."""
    return _changed(engine, exchange, lambda old, given: [*old, *(each for each in given if _key(each) not in map(_key, old))])


def meta_delete(engine: Engine, exchange: Exchange) -> Reply:
    """200 as `meta`, once what is given does not stand there any more. It is a patch, unless nothing of it was there. Raises as a patch does."""
    return _changed(engine, exchange, lambda old, given: [each for each in old if _key(each) not in map(_key, given)])


def _changed(engine: Engine, exchange: Exchange, change: Callable[[list[Any], list[Any]], list[Any]]) -> Reply:
    given = Inputs(engine, exchange, ("meta",)).object("meta")
    if given is None:
        raise Outcome("parameter", "Give what it is about as `meta`, a valueMeta of a Parameters resource", code="required")
    for attempt in range(_ATTEMPTS):
        with engine.store.snapshot(exchange.grant) as db:
            resource = stored(engine, exchange, db) or {}
        old = resource["meta"]
        lists = {name: change(old.get(name, []), given.get(name, [])) for name in _LISTS}
        # An update would keep the labels that its body has not.
        ops: list[Json] = [
            {"op": "add", "path": f"/meta/{name}", "value": value} if value else {"op": "remove", "path": f"/meta/{name}"}
            for name, value in lists.items()
            if value != old.get(name, [])
        ]
        if not ops:
            return answer(("return", "Meta", old))
        version = exchange.if_match or old["versionId"]
        try:
            reply = dispatch(engine, replace(exchange, interaction="patch", body=ops, if_match=version, params=(), returning=None, key=None))
        except Outcome as outcome:
            # Somebody else has written it meanwhile.
            if outcome.category != "precondition" or exchange.if_match is not None or attempt == _ATTEMPTS - 1:
                raise
            continue
        return answer(("return", "Meta", fhirjson.loads(reply.body or b"{}")["meta"]))
    raise Outcome("conflict", "The resource changes too often; try again")


def _key(each: Any) -> Any:
    return (each.get("system"), each.get("code")) if isinstance(each, dict) else each


_INSTANCE: Final[frozenset[Level]] = frozenset({"instance"})
_BASE: Final = "http://hl7.org/fhir"
OPERATIONS: Final[dict[tuple[str, str], Operation]] = {
    ("Resource", "meta"): reading(_BASE, "Resource-meta", meta, _INSTANCE),
    ("Resource", "meta-add"): replace(reading(_BASE, "Resource-meta-add", meta_add, _INSTANCE), affects_state=True),
    ("Resource", "meta-delete"): replace(reading(_BASE, "Resource-meta-delete", meta_delete, _INSTANCE), affects_state=True),
}
