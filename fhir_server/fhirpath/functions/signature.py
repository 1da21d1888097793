"""How functions are declared: by the number of their arguments, and whether those are values or expressions."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from fhir_server.fhirpath.model import Env, Item, Run


class Function(NamedTuple):
    """A function of values: `call(env, items, *arguments)`. Its arguments are evaluated on the focus of the whole expression."""

    call: Callable[..., list[Item]]
    least: int = 0
    most: int = 0


class Lambda(NamedTuple):
    """A function of expressions: `call(env, items, this, *expressions)`; it evaluates them itself, mostly once per item."""

    call: Callable[..., list[Item]]
    least: int = 0
    most: int = 0


def each(env: Env, items: list[Item], expression: Run) -> list[list[Item]]:
    """The expression's result for every item as `$this`, with `$index` set."""
    env.spend(len(items))
    before = env.index
    results = []
    for index, item in enumerate(items):
        env.index = index
        results.append(expression([item], env))
    env.index = before
    return results
