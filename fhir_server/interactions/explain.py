"""`_explain=true`: what a search was understood as, and how PostgreSQL answered it. For administrators.

https://www.postgresql.org/docs/current/sql-explain.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from fhir_server import fhirjson
from fhir_server.access import is_administrator
from fhir_server.outcome import Outcome
from fhir_server.search import Query, Statement, compile_count, compile_search
from fhir_server.store import Snapshot

from .engine import Engine
from .exchange import Exchange, Reply
from .finding import position_of, prepared

_UNSAID = frozenset({"applied", "cursor", "path", "explain"})


def explained(engine: Engine, exchange: Exchange, db: Snapshot, query: Query) -> Reply:
    """200 and a Parameters resource: `query` is the tree as JSON, `narrowed` the same with few-valued chains as ids.

    Each `statement` that a page takes has its purpose, SQL, arguments, plan, every `index` that was used, the rows that were visited, and its time.
    Raises Outcome `forbidden` for all but administrators.
    """
    if not is_administrator(exchange.grant):
        raise Outcome("forbidden", "_explain shows how data lies in the database; it is for administrators")
    position = position_of(engine, db, query, exchange.grant)
    statements: list[dict[str, Any]] = []

    def run(purpose: str, statement: Statement) -> None:
        plan = db.explain(statement)[0]
        statements.append({"name": "statement", "part": list(_parts(purpose, statement, plan))})

    final = prepared(engine, db, query, exchange.grant, lambda statement: run("chain", statement))
    if query.summary == "count":
        run("count", compile_count(final, engine.registry, exchange.grant, db.sources))
    else:
        run("page", compile_search(final, engine.registry, exchange.grant, position, db.sources))
    parameters = [_text("query", _tree(query)), *([_text("narrowed", _tree(final))] if final.filters != query.filters else []), *statements]
    return Reply(200, fhirjson.dumps({"resourceType": "Parameters", "parameter": parameters}))


def _tree(query: Query) -> str:
    return msgspec.json.encode({name: value for name, value in _node(query)["Query"].items() if value and name not in _UNSAID}).decode()


def _node(node: Any) -> Any:
    """A filter as JSON that names its kind and its parameter by code."""
    if isinstance(node, tuple) and not hasattr(node, "_fields"):
        return [_node(part) for part in node]
    if hasattr(node, "code") and hasattr(node, "pid"):
        return node.code
    if hasattr(node, "__dataclass_fields__"):
        parts = {name: _node(getattr(node, name)) for name in node.__dataclass_fields__}
        return {type(node).__name__: {name: value for name, value in parts.items() if value is not None}}
    return node if isinstance(node, str | int | bool) or node is None else str(node)


def _parts(purpose: str, statement: Statement, plan: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    nodes = list(_nodes(plan["Plan"]))
    yield _text("purpose", purpose)
    yield _text("sql", statement.text)
    yield _text("arguments", msgspec.json.encode(statement.params, enc_hook=str).decode())
    for index in sorted({node["Index Name"] for node in nodes if "Index Name" in node}):
        yield _text("index", index)
    visited = sum(
        round((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]) for node in nodes if "Plans" not in node
    )
    yield {"name": "rows-visited", "valueInteger": int(visited)}
    yield {"name": "milliseconds", "valueDecimal": round(plan["Planning Time"] + plan["Execution Time"], 3)}
    yield _text("plan", msgspec.json.encode(plan).decode())


def _nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from _nodes(part)


def _text(name: str, value: str) -> dict[str, Any]:
    return {"name": name, "valueString": value}
