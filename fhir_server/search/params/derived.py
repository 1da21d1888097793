"""Parameters that a modifier asks for: `code:text`, `identifier:of-type` and `subject:identifier` have rows of their own.

https://hl7.org/fhir/R4/search.html#modifiers

They are made from the same elements as those of the parameter itself, and compared as those of another type: texts as strings, identifiers as tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from fhir_server.search.statement import Statement
from fhir_server.spec import Element, SearchParam
from fhir_server.spec.model import SearchType

from . import string, token
from .kind import Context, Kind, Maker, Row, split, unescape


@dataclass(frozen=True, slots=True)
class Derived:
    """A kind of rows for a modifier of parameters of type `base`; `like` is how they are compared."""

    base: SearchType
    type: Literal["string", "token"]
    like: Kind
    makers: Mapping[str, Maker]
    read: Callable[[str, Context], Any]
    MODIFIERS: frozenset[str] = frozenset()

    @property
    def TABLE(self) -> str:  # noqa: N802 - as Kind has it
        """That of the type it is compared as."""
        return self.like.TABLE

    @property
    def ORDER(self) -> tuple[str, str, str] | None:  # noqa: N802
        """As the rows of the table have it."""
        return self.like.ORDER

    def maker(self, fhir_type: str, element: Element | None, context: Context) -> Maker | None:
        """The maker for elements of a FHIR type, None for those that have no such text or identifier."""
        del element, context
        return self.makers.get(fhir_type)

    def parse(self, text: str, modifier: str | None, targets: tuple[str, ...], context: Context) -> Any:
        """The value as the type it is compared as has it. Raises ValueError with what is wrong."""
        del modifier, targets
        return self.read(text, context)

    def ends(self, row: Row) -> tuple[Any, Any]:
        """What a row sorts by."""
        return self.like.ends(row)

    def predicate(self, values: Sequence[Any], at: str) -> Statement:
        """The condition on a row."""
        return self.like.predicate(values, at)

    def matches(self, value: Any, row: Row) -> bool:
        """Whether a row satisfies a value."""
        return self.like.matches(value, row)


def derived(param: SearchParam) -> Iterator[SearchParam]:
    """The parameters that go with one, such as `identifier:text` and `identifier:of-type`, whether or not its elements can have them."""
    if param.code != "_id":
        yield from (replace(param, code=f"{param.code}:{modifier}") for modifier, kind in DERIVED.items() if kind.base == param.type)


def _coding_text(value: dict[str, Any]) -> tuple[Row, ...]:
    text = value.get("display")
    return (string.row(text),) if text else ()


def _concept_text(value: dict[str, Any]) -> list[Row]:
    rows = [string.row(value["text"])] if "text" in value else []
    if "coding" in value:
        rows += [string.row(coding["display"]) for coding in value["coding"] if "display" in coding]
    return rows


def _identifier_text(value: dict[str, Any]) -> tuple[Row, ...]:
    text = value["type"].get("text") if "type" in value else None
    return (string.row(text),) if text else ()


def _of_type(value: dict[str, Any]) -> list[Row]:
    if "value" not in value or "type" not in value:
        return []
    codings = value["type"].get("coding", ())
    return [(_typed(coding["code"], value["value"]), coding.get("system", "")) for coding in codings if "code" in coding]


def _typed(code: str, value: str) -> str:
    return token.folded(f"{code}|{value}")


def _read_of_type(text: str, context: Context) -> token.Token:
    del context
    parts = [unescape(part) for part in split(text, "|")]
    if len(parts) != 3 or not all(parts):  # noqa: PLR2004 - as said below
        raise ValueError(f"is not [system]|[code]|[value], with the system and the code of the identifier's type: '{text[:80]}'")
    return token.Token(_typed(parts[1], parts[2]), parts[0])


def _identifier(value: dict[str, Any]) -> tuple[Row, ...]:
    found = value.get("identifier")
    return ((token.folded(found["value"]), found.get("system", "")),) if found and "value" in found else ()


DERIVED: Final[Mapping[str, Derived]] = {
    "text": Derived(
        *("token", "string", string),
        makers={"Coding": _coding_text, "CodeableConcept": _concept_text, "Identifier": _identifier_text},
        read=lambda text, context: string.parse(text, None, (), context),
    ),
    "of-type": Derived("token", "token", token, makers={"Identifier": _of_type}, read=_read_of_type),
    "identifier": Derived(
        "reference", "token", token, makers={"Reference": _identifier}, read=lambda text, context: token.parse(text, None, (), context)
    ),
}
"""By modifier."""
