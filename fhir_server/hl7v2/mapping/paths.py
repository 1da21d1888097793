"""Where a row puts its value: `name.family`, `identifier[ssn].value`, `extension(http://…).valueString`.

Elements that repeat are told apart by a word in brackets: rows with the same word mean the same one, and the n-th repetition of a field the n-th of
them. Without a word each value is another element.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from fhir_server.spec import Spec

from .rows import MappingFault, Row

Json = dict[str, Any]
_STEP: Final = re.compile(r"([A-Za-z]+)(?:\[([A-Za-z0-9 -]+)\])?(?:\(([^()]+)\))?(?:\.|$)")


@dataclass(frozen=True, slots=True)
class Step:
    """One element of a path: its name in JSON, whether it repeats, what tells it apart, and the URL of an extension."""

    key: str
    many: bool
    tag: str | None
    url: str | None

    @property
    def word(self) -> str:
        """What tells the element apart."""
        return self.tag or self.url or ""


@dataclass(frozen=True, slots=True)
class Path:
    """A compiled path, the type of what stands at its end, and the value set that it has to be of. An empty one is the element itself."""

    steps: tuple[Step, ...]
    type: str
    binding: str | None = None


class Places:
    """Which elements the words in brackets mean, while one resource or value is made."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        """Knows none yet."""
        self._known: dict[tuple[int, str], dict[int, Json]] = {}

    def element(self, container: Json, step: Step, number: int) -> Json:
        """The element that a step means for the n-th repetition, made where it is not there yet."""
        if not step.many:
            single: Json = container.setdefault(step.key, {})
            return single
        elements: list[Json] = container.setdefault(step.key, [])
        known = self._known.setdefault((id(elements), step.word), {})
        found = known.get(number)
        if found is None:
            found = known[number] = {"url": step.url} if step.url is not None else {}
            elements.append(found)
        return found

    def repetitions(self, container: Json, step: Step) -> tuple[int, ...]:
        """The numbers of the elements that a step means so far."""
        elements = container.get(step.key)
        return tuple(self._known.get((id(elements), step.word), ())) if elements is not None else ()


def parse_path(text: str, base: str, spec: Spec, row: Row) -> Path:
    """A path from an element of a type, as the specification has it; `.` is that element. Raises MappingFault for what there is not."""
    if text == ".":
        return Path((), base)
    steps: list[Step] = []
    here, place, binding = base, 0, None
    while place < len(text):
        match = _STEP.match(text, place)
        if match is None:
            raise MappingFault(f"'{text}' is no path, as 'name.family' and 'identifier[ssn].value' are", row)
        name, tag, url = match.groups()
        definition = spec.types.get(here)
        element = definition.elements.get(name) if definition is not None else None
        if element is None:
            raise MappingFault(f"{here} has no element '{name}'", row)
        if tag is not None and not element.many:
            raise MappingFault(f"{here}.{name} does not repeat", row)
        place = match.end()
        kind = spec.types[element.type].kind if element.type in spec.types else None
        # What a primitive has besides its value stands beside it in JSON.
        beside = kind == "primitive" and place < len(text)
        steps.append(Step(f"_{name}" if beside else name, element.many, tag, url))
        here = "Element" if beside else element.type
        binding = element.binding.value_set if element.binding is not None and element.binding.strength == "required" else None
    return Path(tuple(steps), here, binding)
