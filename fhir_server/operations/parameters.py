"""What a caller hands to an operation: query parameters, a Parameters resource, or the one resource that it takes.

https://hl7.org/fhir/R4/operations.html#request
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, TypeVar

from fhir_server import fhirjson
from fhir_server.clinic.billing.money import MOST
from fhir_server.interactions import Engine, Exchange, Reply
from fhir_server.outcome import Outcome
from fhir_server.search.params.date import parse_date
from fhir_server.search.params.reference import ABSOLUTE, locate

MAX_NUMBER: Final = 1_000_000_000
_ID: Final = re.compile(r"[A-Za-z0-9\-.]{1,64}", re.ASCII)
_DECIMAL: Final = re.compile(r"[+-]?[0-9]{1,18}(\.[0-9]{1,18})?", re.ASCII)

Json = dict[str, Any]
_T = TypeVar("_T")


class Inputs:
    """The parameters of one call by name, each at most once but for those that may be several."""

    def __init__(
        self, engine: Engine, exchange: Exchange, names: Collection[str], *, resource: str | None = None, several: Collection[str] = ()
    ) -> None:
        """Takes the names that the operation knows, the one that a bare resource in the body stands for, and those that may be repeated.

        Raises Outcome `parameter` for any other name and for one that comes twice, and `malformed` for a body that is none of these.
        """
        self._engine = engine
        self._values: dict[str, Any] = {}
        self._several: dict[str, list[Any]] = {name: [] for name in several}
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
        for part in _listed(engine, body):
            found = part.get("resource", next((value for key, value in part.items() if key.startswith("value")), part.get("part")))
            if "name" in part and found is not None:
                self._add(names, part["name"], found)

    def _add(self, names: Collection[str], name: str, value: Any) -> None:
        if name not in names:
            raise Outcome("parameter", f"The parameter '{name[:80]}' is not supported here; {', '.join(sorted(names))} are", code="not-supported")
        if name in self._several:
            self._several[name].append(value)
            return
        if name in self._values:
            raise Outcome("parameter", f"The parameter '{name}' stands twice")
        self._values[name] = value

    def has(self, name: str) -> bool:
        """Whether a parameter is given."""
        return name in self._values

    def text(self, name: str) -> str | None:
        """A string of any kind. Raises Outcome `parameter` for another type."""
        value = self._values.get(name)
        if value is not None and not isinstance(value, str):
            raise Outcome("parameter", f"The parameter '{name}' is a text")
        return value or None

    def number(self, name: str) -> int | None:
        """A whole number that is not negative. Raises Outcome `parameter` for anything else."""
        value = self._values.get(name)
        return None if value is None else self._whole(name, value)

    @staticmethod
    def _whole(name: str, value: Any) -> int:
        if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= len(str(MAX_NUMBER)):
            value = int(value)
        if type(value) is not int or not 0 <= value <= MAX_NUMBER:
            raise Outcome("parameter", f"The parameter '{name}' is a whole number from 0 to {MAX_NUMBER:,}")
        return value

    def texts(self, name: str) -> list[str]:
        """Those values of a repeated parameter that are texts."""
        return [value for value in self._several[name] if isinstance(value, str)]

    def numbers(self, name: str) -> list[int]:
        """The values of a repeated parameter, each as `number` has one. Raises Outcome `parameter` for anything else."""
        return [self._whole(name, value) for value in self._several[name]]

    def objects(self, name: str) -> list[Json]:
        """Those values of a repeated parameter that have elements."""
        return [value for value in self._several[name] if isinstance(value, dict)]

    def parts(self, name: str) -> list[dict[str, Any]]:
        """Those values of a repeated parameter that are parts, each by name. Raises Outcome `parameter` for a name that stands twice in one."""
        found = []
        for listed in self._several[name]:
            if not isinstance(listed, list):
                raise Outcome("parameter", f"The parameter '{name}' has parts: send it in a Parameters resource")
            pairs = [(part["name"], next((value for key, value in part.items() if key.startswith("value")), None)) for part in listed]
            if len(dict(pairs)) < len(pairs):
                raise Outcome("parameter", f"A part of '{name}' stands twice")
            found.append(dict(pairs))
        return found

    def value(self, name: str) -> Any:
        """A value of any type; None where it is not given."""
        return self._values.get(name)

    def flag(self, name: str) -> bool:
        """A boolean, false where it is not given. Raises Outcome `parameter` for anything else."""
        value = self._values.get(name, False)
        if value in ("true", "false"):
            return bool(value == "true")
        if not isinstance(value, bool):
            raise Outcome("parameter", f"The parameter '{name}' is true or false")
        return value

    def decimal(self, name: str) -> Decimal | None:
        """A number. Raises Outcome `parameter` for anything else."""
        value = self._values.get(name)
        if isinstance(value, str) and _DECIMAL.fullmatch(value):
            return Decimal(value)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | Decimal)):
            raise Outcome("parameter", f"The parameter '{name}' is a number such as 1.5, not '{str(value)[:80]}'", code="value")
        return None if value is None else Decimal(value)

    def money(self, name: str) -> tuple[Decimal, str] | None:
        """An amount and its currency: a Money, or a plain number in the clinic's currency. Raises Outcome `parameter` for anything else."""
        value = self._values.get(name)
        return None if value is None else self.amount(name, value if isinstance(value, dict) else self.decimal(name))

    def amount(self, name: str, value: Any) -> tuple[Decimal, str]:
        """The same of a value that stands in a part. Raises Outcome `invalid` for one that is not below MOST, too."""
        money: Json = value if isinstance(value, dict) else {"value": value}
        amount = money.get("value")
        if isinstance(amount, bool) or not isinstance(amount, int | Decimal):
            raise Outcome("parameter", f"The parameter '{name}' is an amount of money with a value", code="value")
        exact = Decimal(amount)
        if abs(exact) >= MOST:
            raise Outcome("invalid", f"The parameter '{name}' stays below {MOST:,}", code="value")
        return exact, str(money.get("currency", self._engine.currency))

    def quantity(self, name: str) -> Decimal | None:
        """A number, or the value of a Quantity. Raises Outcome `parameter` for anything else."""
        value = self._values.get(name)
        if not isinstance(value, dict):
            return self.decimal(name)
        number = value.get("value")
        if isinstance(number, bool) or not isinstance(number, int | Decimal):
            raise Outcome("parameter", f"The parameter '{name}' is a number, or a Quantity with a value", code="value")
        return Decimal(number)

    def object(self, name: str) -> Json | None:
        """A value with elements, such as a Coding. Raises Outcome `parameter` for a text: it cannot come in the query."""
        value = self._values.get(name)
        if value is not None and not isinstance(value, dict):
            raise Outcome("parameter", f"The parameter '{name}' has elements: send it in a Parameters resource")
        return value

    def reference(self, name: str, *types: str) -> str | None:
        """A reference to a resource of this server of one of some types, as `Patient/7`; from an element or, in the query, from a text.

        Raises Outcome `parameter` for anything else.
        """
        value = self._values.get(name)
        return None if value is None else self.referred(name, value, types)

    def references(self, name: str, *types: str) -> list[str]:
        """The same of a parameter that may be repeated; several may stand in one text, with commas."""
        listed = [part for text in self.texts(name) for part in text.split(",") if part] + self.objects(name)
        return [self.referred(name, value, types) for value in listed]

    def codes(self, name: str) -> list[str]:
        """The codes of a parameter that may be repeated, as `code` or `system|code`: texts, which may have several with commas, Codings and concepts.

        Raises Outcome `parameter` for a value that has none.
        """
        found = [part.removeprefix("|") for text in self.texts(name) for part in text.split(",") if part.strip("|")]
        for value in self.objects(name):
            found += [f"{each['system']}|{each['code']}" if "system" in each else each["code"] for each in _codings(name, value)]
        return found

    def code(self, name: str, system: str) -> str | None:
        """A code of one system, which may be named or not: a text, a Coding, or a concept of one. Raises Outcome `parameter` for anything else."""
        value = self._values.get(name)
        if isinstance(value, dict):
            coding = _codings(name, value)[0]
            value = coding["code"] if coding.get("system", system) == system else f"{coding['system']}|{coding['code']}"
        if value is not None and not isinstance(value, str):
            raise Outcome("parameter", f"The parameter '{name}' is a code")
        return value.removeprefix(f"{system}|") if value else None

    def referred(self, name: str, value: Any, types: tuple[str, ...]) -> str:
        """What a value refers to, as `reference` has it; an id alone, as searches take one, is of the first type.

        Raises Outcome `parameter` for anything else.
        """
        text = value.get("reference") if isinstance(value, dict) else f"{types[0]}/{value}" if _is_id(value) else value
        found = locate(text, self._engine.registry.context) if isinstance(text, str) and text and not text.startswith("#") else None
        if found is None or found[1] == ABSOLUTE or (kind := self._engine.registry.type_name(found[1])) not in types:
            raise Outcome("parameter", f"The parameter '{name}' is a reference such as {types[0]}/7", code="value")
        return f"{kind}/{found[0]}"

    def moment(self, name: str) -> datetime | None:
        """A time with its zone; a date, or a time without a zone, is one of the clinic's, and a date its beginning.

        Raises Outcome `parameter` for anything else.
        """
        text = self.text(name)
        if text is None:
            return None
        try:
            return parse_date(text, self._engine.registry.zone)[0]
        except (ValueError, OverflowError):
            raise Outcome("parameter", f"The parameter '{name}' is a time such as 2026-01-02T09:00:00+01:00", code="value") from None

    def needed(self, name: str, value: _T | None) -> _T:
        """A value that has to be there. Raises Outcome `parameter` where it is not."""
        if value is None:
            raise Outcome("parameter", f"The parameter '{name}' is needed", code="required")
        return value

    def resource(self, name: str, kind: str) -> Json | None:
        """A valid resource of a type. Raises Outcome `malformed` or `invalid` with its faults."""
        value = self.object(name)
        return None if value is None else self._engine.checked(value, kind)


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def _codings(name: str, value: Json) -> list[Json]:
    """A Coding, or those of a concept, that have a code; at least one. Raises Outcome `parameter` where there is none."""
    codings = [each for each in value.get("coding", [value]) if isinstance(each.get("code"), str)]
    if not codings:
        raise Outcome("parameter", f"The parameter '{name}' is a code such as system|code", code="value")
    return codings


def _listed(engine: Engine, body: Json) -> list[Json]:
    """What stands in a Parameters resource. Raises Outcome `invalid` with its faults.

    An empty list is none: programs that build one send it, and nothing is in doubt.
    """
    given = {name: value for name, value in body.items() if (name, value) != ("parameter", [])}
    engine.validator.require(given)
    listed: list[Json] = given.get("parameter", [])
    return listed


def texts(engine: Engine, exchange: Exchange) -> list[tuple[str, str]]:
    """The parameters of an operation that takes them as a search does, in their order, from the query and from a Parameters resource.

    Raises Outcome `malformed` for a body that is none, and `parameter` for a value that has elements.
    """
    found = list(exchange.params)
    body = exchange.body
    if body is None:
        return found
    if not isinstance(body, dict) or body.get("resourceType") != "Parameters":
        raise Outcome("malformed", "The body of an operation is a Parameters resource")
    for part in _listed(engine, body):
        value = next((value for key, value in part.items() if key.startswith("value")), None)
        if value is None or isinstance(value, dict):
            raise Outcome("parameter", f"The parameter '{part.get('name', '')[:80]}' needs a simple value, as valueString")
        found.append((part["name"], str(value).lower() if isinstance(value, bool) else str(value)))
    return found


def date_in(engine: Engine, given: Mapping[str, str], name: str, end: int) -> datetime | None:
    """The beginning (0) or the end (1) of a date in the query, None where it is not given. Raises Outcome `parameter` for a text that is none."""
    if name not in given:
        return None
    try:
        return parse_date(given[name], engine.registry.zone)[end]
    except ValueError as error:
        raise Outcome("parameter", f"{name} {error}", code="value") from None


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
