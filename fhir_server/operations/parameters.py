"""What a caller hands to an operation: query parameters, a Parameters resource, or the one resource that it takes.

https://hl7.org/fhir/R4/operations.html#request
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from fhir_server import fhirjson
from fhir_server.interactions import Engine, Exchange, Reply
from fhir_server.outcome import Outcome

MAX_NUMBER: Final = 1_000_000_000

Json = dict[str, Any]


class Inputs:
    """The parameters of one call by name, each at most once."""

    def __init__(self, engine: Engine, exchange: Exchange, names: Collection[str], *, resource: str | None = None) -> None:
        """Takes the names that the operation knows, and the one that a bare resource in the body stands for.

        Raises Outcome `parameter` for any other name and for one that comes twice, and `malformed` for a body that is none of these.
        """
        self._engine = engine
        self._values: dict[str, Any] = {}
        for name, value in exchange.params:
            self._add(names, name, value)
        body = exchange.body
        if body is None:
            return
        kind = body.get("resourceType") if isinstance(body, dict) else None
        if kind != "Parameters" and resource is not None:
            self._add(names, resource, body)
            return
        if kind != "Parameters":
            raise Outcome("malformed", "The body of an operation is a Parameters resource")
        engine.validator.require(body)
        for part in body.get("parameter", ()):
            value = part.get("resource", next((value for key, value in part.items() if key.startswith("value")), None))
            if "name" in part and value is not None:
                self._add(names, part["name"], value)

    def _add(self, names: Collection[str], name: str, value: Any) -> None:
        if name not in names:
            raise Outcome("parameter", f"The parameter '{name[:80]}' is not supported here; {', '.join(sorted(names))} are", code="not-supported")
        if name in self._values:
            raise Outcome("parameter", f"The parameter '{name}' stands twice")
        self._values[name] = value

    def text(self, name: str) -> str | None:
        """A string of any kind. Raises Outcome `parameter` for another type."""
        value = self._values.get(name)
        if value is not None and not isinstance(value, str):
            raise Outcome("parameter", f"The parameter '{name}' is a text")
        return value or None

    def number(self, name: str) -> int | None:
        """A whole number that is not negative. Raises Outcome `parameter` for anything else."""
        value = self._values.get(name)
        if value is None:
            return None
        if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= len(str(MAX_NUMBER)):
            value = int(value)
        if type(value) is not int or not 0 <= value <= MAX_NUMBER:
            raise Outcome("parameter", f"The parameter '{name}' is a whole number from 0 to {MAX_NUMBER:,}")
        return value

    def object(self, name: str) -> Json | None:
        """A value with elements, such as a Coding. Raises Outcome `parameter` for a text: it cannot come in the query."""
        value = self._values.get(name)
        if value is not None and not isinstance(value, dict):
            raise Outcome("parameter", f"The parameter '{name}' has elements: send it in a Parameters resource")
        return value

    def resource(self, name: str, kind: str) -> Json | None:
        """A valid resource of a type. Raises Outcome `malformed` or `invalid` with its faults."""
        value = self.object(name)
        return None if value is None else self._engine.checked(value, kind)


def stored(engine: Engine, exchange: Exchange, db: Any) -> Json | None:
    """The resource that an operation on an instance is called on, None for one on a type. Raises Outcome `not-found` and `gone`."""
    if exchange.id is None:
        return None
    name = engine.known_type(exchange.type)
    found = db.read(name, exchange.id)
    if found is None:
        raise Outcome("not-found", f"{name}/{exchange.id} does not exist")
    if found.body is None:
        raise Outcome("gone", f"{name}/{exchange.id} was deleted")
    resource: Json = fhirjson.loads(found.body)
    return resource


def answer(*parts: tuple[str, str, Any]) -> Reply:
    """200 and a Parameters resource of (name, type of value[x], value); those without a value are left out."""
    listed = [{"name": name, f"value{kind}": value} for name, kind, value in parts if value is not None]
    return Reply(200, fhirjson.dumps({"resourceType": "Parameters", "parameter": listed}))
