"""Random values as Hypothesis has them, by the same names, but every choice as likely as it says: what is made of thousands of choices Hypothesis
makes mostly of the first ones. The price is that nothing shrinks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from random import Random
from typing import Any


class Chance:
    """Values that a source of chance gives."""

    def __init__(self, draw: Callable[[Random], Any]) -> None:
        self.draw = draw

    def map(self, change: Callable[[Any], Any]) -> Chance:
        return Chance(lambda random: change(self.draw(random)))

    def flatmap(self, then: Callable[[Any], Chance]) -> Chance:
        return Chance(lambda random: then(self.draw(random)).draw(random))

    def filter(self, wanted: Callable[[Any], Any]) -> Chance:
        def draw(random: Random) -> Any:
            while not wanted(found := self.draw(random)):
                pass
            return found

        return Chance(draw)


Draw = Callable[[Chance], Any]


def just(value: Any) -> Chance:
    return Chance(lambda _random: value)


def sampled_from(values: Sequence[Any]) -> Chance:
    return Chance(lambda random: random.choice(values))


def integers(least: int, greatest: int) -> Chance:
    return Chance(lambda random: random.randint(least, greatest))


def booleans() -> Chance:
    return Chance(lambda random: random.random() < 1 / 2)


def one_of(*ways: Chance) -> Chance:
    return sampled_from(ways).flatmap(lambda way: way)


def tuples(*parts: Chance) -> Chance:
    return Chance(lambda random: tuple(part.draw(random) for part in parts))


def builds(make: Callable[..., Any], *parts: Chance) -> Chance:
    return Chance(lambda random: make(*(part.draw(random) for part in parts)))


def lists(values: Chance, *, min_size: int = 0, max_size: int, unique_by: Callable[[Any], Any] | None = None) -> Chance:
    """Of any length between these; shorter where `unique_by` finds values that were there already."""

    def draw(random: Random) -> list[Any]:
        found = [values.draw(random) for _ in range(random.randint(min_size, max_size))]
        return found if unique_by is None else list({unique_by(each): each for each in found}.values())

    return Chance(draw)


def fixed_dictionaries(fixed: dict[str, Chance], *, optional: dict[str, Chance]) -> Chance:
    """All of the fixed fields, and each of the others or not."""

    def draw(random: Random) -> dict[str, Any]:
        chosen = fixed | {name: values for name, values in optional.items() if random.random() < 1 / 2}
        return {name: values.draw(random) for name, values in chosen.items()}

    return Chance(draw)


def composite(make: Callable[..., Any]) -> Callable[..., Chance]:
    """Values made by a function whose first parameter draws others."""

    @wraps(make)
    def chance(*arguments: Any) -> Chance:
        return Chance(lambda random: make(lambda part: part.draw(random), *arguments))

    return chance
