"""The rules that the rows of a map have become, and how they are run: by the field that they are about, and for codes only once.

Of what a laboratory sends most is codes: what was measured, units, flags, states, of which there are a few hundred. What all rules about one field
come to is remembered by the codes that they read. The next time nothing is left of the rules but what they put, and those that depend on more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

from .context import Context
from .fields import Clause, Field, Test, Text, View, text_at, together
from .paths import Json, Places

Run = Callable[[Any, Json, Places, Context], None]
"""Of a segment's map it is given a View, of a data type's a Repetition; then what is made, and the places and the message that it is made in."""
Learn = Callable[[Any, Context], tuple[Run, ...] | None]
"""What is left of a rule once the codes of a segment are known, which may be nothing; None where it has to be run each time."""
Place = tuple[str, int]
"""A field: the name of its segment, and its number."""
Choice = tuple[Field, tuple[str, ...]]
"""A field, and what it may be."""
T = TypeVar("T")
Decide = Callable[[View, str], Sequence[tuple[T, Test | None]]]
"""Is given what stands for the sender too, see Context."""

_MOST: Final = 20_000
"""Combinations of codes that are remembered in all maps of a server; each takes up to 2 kB."""
_FEW: Final = 1_000
_LONGEST: Final = 200
"""Characters of those that are."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A row. `choice` and `clauses` say where it holds, `run` is what it does then; `reads` are the fields that `learn` goes by, if there is one."""

    run: Run
    choice: Choice | None = None
    clauses: tuple[Clause, ...] = ()
    reads: frozenset[Place] = frozenset()
    learn: Learn | None = None

    @property
    def guarded(self) -> Run:
        """What it does where its clauses hold; the choice is not looked at."""
        return _guarded(self.clauses, self.run)


class Memory:
    """What the maps of one server have learned. Safe to share between threads."""

    def __init__(self) -> None:
        """Knows nothing yet."""
        self.known: dict[tuple[object, ...], tuple[Run, ...]] = {}

    def keep(self, key: tuple[object, ...], actions: tuple[Run, ...]) -> None:
        """Remembers what codes come to; forgets everything when that has become too much."""
        if len(self.known) >= _MOST:
            self.known.clear()
        self.known[key] = actions


def sequence(rules: Sequence[Rule]) -> tuple[Run, ...]:
    """Rules as they are run one after the other."""
    return tuple(_chosen(rules))


def deciding(things: Sequence[tuple[T, Sequence[Clause]]], codes: frozenset[Place]) -> Decide[T]:
    """Gives those of some things whose clauses may hold for a segment, each with the test of those that codes do not decide.

    Remembered by the codes, up to 1,000 combinations of them.
    """
    reads = tuple(sorted({place for _, clauses in things for place in _asked(clauses) if place in codes}))
    said_in = _saying(reads)
    known: dict[tuple[str, ...], list[tuple[T, Test | None]]] = {}

    def decide(view: View, sender: str) -> Sequence[tuple[T, Test | None]]:
        key = (sender, *said_in(view))
        found = known.get(key)
        if found is None:
            found = []
            for thing, clauses in things:
                left = [clause for clause in clauses if clause.asks is None or clause.asks.place not in codes]
                if all(clause.test(view) for clause in clauses if clause not in left):
                    found.append((thing, together([clause.test for clause in left])))
            if sum(map(len, key)) <= _LONGEST:
                if len(known) >= _FEW:
                    known.clear()
                known[key] = found
        return found

    return decide


def _saying(places: Sequence[Place]) -> Callable[[View], Sequence[str]]:
    """Gives what stands in fields, as it stands."""
    if len(places) == 1:
        ((segment, field),) = places

        def said_in_one(view: View) -> tuple[str]:
            fields = view[segment].fields
            return (fields[field] if field < len(fields) else "",)

        return said_in_one

    def said_in(view: View) -> list[str]:
        said = []
        for name, number in places:
            fields = view[name].fields
            said.append(fields[number] if number < len(fields) else "")
        return said

    return said_in


def remembering(rules: Sequence[Rule], codes: frozenset[Place], memory: Memory) -> tuple[Run, ...]:
    """The rules about one field of a segment; what they do is remembered by those fields of the map that are `codes`, as far as they read them."""
    reads = tuple(sorted({place for rule in rules for place in _read(rule, codes)}))
    if not reads:
        return sequence(rules)
    all_of_them = sequence(rules)
    known, group, said_in = memory.known, object(), _saying(reads)

    def run(view: View, into: Json, places: Places, context: Context) -> None:
        said = said_in(view)
        key = (group, context.sender, *said)
        actions = known.get(key)
        if actions is None:
            actions = all_of_them
            if sum(map(len, said)) <= _LONGEST:
                actions = tuple(_learned(rules, codes, view, context))
                memory.keep(key, actions)
        for action in actions:
            action(view, into, places, context)

    return (run,)


def _read(rule: Rule, codes: frozenset[Place]) -> Iterator[Place]:
    """The codes that decide what a rule does."""
    if rule.choice is not None and rule.choice[0].place in codes:
        yield rule.choice[0].place
    yield from (place for place in _asked(rule.clauses) if place in codes)
    if rule.reads <= codes:
        yield from rule.reads


def _asked(clauses: Sequence[Clause]) -> Iterator[Place]:
    """The fields that clauses ask about."""
    return (clause.asks.place for clause in clauses if clause.asks is not None)


def _learned(rules: Sequence[Rule], codes: frozenset[Place], view: View, context: Context) -> Iterator[Run]:
    """What is left of rules once the codes are known."""
    # What is reported is reported by the rule itself, in its turn.
    aside = replace(context, faults=[], nulls=set(), make=dict)
    for rule in rules:
        if rule.choice is not None and rule.choice[0].place not in codes:
            yield from sequence([rule])
            continue
        if rule.choice is not None and text_at(rule.choice[0])(view) not in rule.choice[1]:
            continue
        open_ = [clause for clause in rule.clauses if clause.asks is None or clause.asks.place not in codes]
        if all(clause.test(view) for clause in rule.clauses if clause not in open_):
            found = rule.learn(view, aside) if rule.learn is not None and rule.reads <= codes else None
            yield from (_guarded(open_, action) for action in ((rule.run,) if found is None else found))


def _guarded(clauses: Sequence[Clause], run: Run) -> Run:
    """What is done only where all clauses hold."""
    condition = together([clause.test for clause in clauses])
    if condition is None:
        return run

    def if_it_holds(view: Any, into: Json, places: Places, context: Context) -> None:
        if condition(view):
            run(view, into, places, context)

    return if_it_holds


@dataclass(slots=True)
class _Chosen:
    """Rules that follow each other and depend on what the same field is: XTN has several by XTN.3, of which one or two count."""

    on: Field
    text: Text
    rules: dict[str, list[Run]] = field(default_factory=dict)

    def __call__(self, view: Any, into: Json, places: Places, context: Context) -> None:
        for rule in self.rules.get(self.text(view), ()):
            rule(view, into, places, context)


def _chosen(rules: Sequence[Rule]) -> list[Run]:
    found: list[Run] = []
    for rule in rules:
        if rule.choice is None:
            found.append(rule.guarded)
            continue
        on, values = rule.choice
        last = found[-1] if found else None
        if not isinstance(last, _Chosen) or last.on != on:
            last = _Chosen(on, text_at(on))
            found.append(last)
        for value in values:
            last.rules.setdefault(value, []).append(rule.guarded)
    return found
