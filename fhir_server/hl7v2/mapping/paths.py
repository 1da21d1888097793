"""Where a row puts its value: `name.family`, `identifier[ssn].value`, `extension(http://…).valueString`.

Elements that repeat are told apart by a word in brackets: rows with the same word mean the same one, and the n-th repetition of a field the n-th of
them. Without a word each value is another element. A field as the word, as in `education[OBX-4]`, tells them apart by what stands in it.
`comment[lines]` is one text that each value adds a line to; `low?` is only put in where it is there already.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from fhir_server.spec import Spec

from .rows import MappingFault, Row

Json = dict[str, Any]
Keys = tuple[str, ...]
LINES: Final = "lines"
_STEP: Final = re.compile(r"([A-Za-z]+)(?:\[([A-Za-z0-9 -]+)\])?(?:\(([^()]+)\))?(\?)?(?:\.|$)")
_TEXTS: Final = frozenset({"string", "markdown", "base64Binary"})


@dataclass(frozen=True, slots=True)
class Step:
    """One element of a path: its name in JSON, whether it repeats, what tells it apart, the URL of an extension, and whether it has to be there."""

    key: str
    many: bool
    tag: str | None
    url: str | None
    there: bool = False
    word: str = field(init=False)
    """What tells the element apart: the word, or else the URL."""

    def __post_init__(self) -> None:
        """Works out the word once."""
        object.__setattr__(self, "word", self.tag or self.url or "")


@dataclass(frozen=True, slots=True)
class Path:
    """A compiled path, the type of what stands at its end, and the value set that it has to be of. An empty one is the element itself."""

    steps: tuple[Step, ...]
    type: str
    binding: str | None = None

    @property
    def is_lines(self) -> bool:
        """Whether each value is another line of one text."""
        return bool(self.steps) and self.steps[-1].tag == LINES and not self.steps[-1].many

    @property
    def keys(self) -> Keys:
        """What is gone where a message says that there is no value: names down to the first that repeats, of extensions with the URL behind it."""
        found: list[str] = []
        for step in self.steps:
            found.append(step.key)
            if step.url is not None:
                found.append(step.url)
            if step.many:
                break
        return tuple(found)

    @property
    def is_there(self) -> bool:
        """Whether values are put in only where there is something already."""
        return any(step.there for step in self.steps)


class Places:
    """Which elements the words in brackets mean, while one resource or value is made."""

    __slots__ = ("_known", "_texts")

    def __init__(self) -> None:
        """Knows none yet."""
        self._known: dict[tuple[int, str], list[Json]] = {}
        self._texts: dict[tuple[int, str], tuple[Json, bool, list[str]]] = {}

    def element(self, container: Json, step: Step, number: int) -> Json:
        """The element that a step means for the n-th repetition, made where it is not there yet; those before it are."""
        if not step.many:
            single: Json = container.setdefault(step.key, {})
            return single
        elements: list[Json] | None = container.get(step.key)
        if elements is None:
            elements = container[step.key] = []
        place = (id(elements), step.word)
        known = self._known.get(place)
        if known is None:
            known = self._known[place] = []
        if number < len(known):
            return known[number]
        found: Json = {"url": step.url} if step.url is not None else {}
        known.append(found)
        elements.append(found)
        return found

    def there(self, container: Json, steps: Sequence[Step], number: int) -> Json | None:
        """What would hold the last element of a path, where the whole of the path is there; nothing is made."""
        here = container
        for step in steps[:-1]:
            elements = here.get(step.key)
            if step.many:
                known = self._known.get((id(elements), step.word), ())
                elements = known[number] if number < len(known) else None
                number = 0
            if elements is None:
                return None
            here = elements
        return here if steps[-1].key in here else None

    def line(self, container: Json, key: str, text: str, *, encoded: bool) -> None:
        """Adds a line to the text of an element, which `finish` puts there, in base64 where it is to be `encoded`."""
        known = self._texts.get((id(container), key))
        if known is None:
            known = self._texts[id(container), key] = (container, encoded, [])
        known[2].append(text)

    def has_lines(self, key: str) -> bool:
        """Whether an element of a name has lines already."""
        return any(name == key for _, name in self._texts)

    def finish(self) -> bool:
        """Puts the texts where their lines belong; one that has nothing but blanks comes to nothing. Whether all of them came to something."""
        if not self._texts:
            return True
        is_whole = True
        for (_, key), (container, encoded, lines) in self._texts.items():
            text = "\n".join(lines).strip("\n").rstrip()
            if text:
                container[key] = base64.b64encode(text.encode()).decode() if encoded else text
            else:
                is_whole = False
        self._texts.clear()
        return is_whole

    def elements(self, container: Json, step: Step) -> Iterable[Json]:
        """The elements that a step means so far."""
        elements = container.get(step.key)
        known = self._known.get((id(elements), step.word)) if elements is not None else None
        return known if known is not None else ()


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
        name, tag, url, there = match.groups()
        definition = spec.types.get(here)
        element = definition.elements.get(name) if definition is not None else None
        if element is None:
            raise MappingFault(f"{here} has no element '{name}'", row)
        place = match.end()
        if tag is not None and not element.many and not (tag == LINES and element.type in _TEXTS and place == len(text)):
            raise MappingFault(f"{here}.{name} does not repeat", row)
        kind = spec.types[element.type].kind if element.type in spec.types else None
        # What a primitive has besides its value stands beside it in JSON.
        beside = kind == "primitive" and place < len(text)
        steps.append(Step(f"_{name}" if beside else name, element.many, tag, url, there is not None))
        here = "Element" if beside else element.type
        binding = element.binding.value_set if element.binding is not None and element.binding.strength == "required" else None
    return Path(tuple(steps), here, binding)
