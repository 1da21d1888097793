"""What the rows about fields do, once their conditions hold: values are converted and put, lines added to a text, fields put into a template."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from .context import Context
from .fields import Field, is_field, parse_field, text_at, values_at
from .memory import Convert
from .paths import Json, Path, Places, Step
from .puts import again, putting
from .rows import Row
from .rules import Learn, Run

ToldApart = Callable[[Any], Sequence[Step]]
"""The steps of a path where a field stands as a word, by what stands in the field."""

_STATUS: Final = "status"
_UNKNOWN: Final = "unknown"
_NULL: Final = '""'
_PLACE: Final = re.compile(r"\{([^{}]+)\}")


def valued(source: Field, convert: Convert, path: Path, told: ToldApart | None, default: Any) -> Run:
    """Converts each value of a field and puts it at the end of a path; where nothing comes of them the default, unless that is None."""
    values_of, number = values_at(source), source.number
    steps, is_there, put = path.steps, path.is_there, putting(path.steps)
    is_single = not any(step.many for step in steps)
    fallback = _fallback(path, default) if default is not None else None
    # Of a component two quotes say nothing of the resource.
    nulls = (path.keys,) if number else ()

    def run(view: Any, into: Json, places: Places, context: Context) -> None:
        values = values_of(view)
        # Most fields of most segments are empty.
        if not values and fallback is None:
            return
        if number:
            context.field = number
        count = 0
        for value in values:
            if value.raw == _NULL:
                context.nulls.update(nulls)
            elif not (is_there and places.there(into, steps, count) is None) and (converted := convert(value, context)) is not None:
                (put if told is None else putting(told(view)))(into, places, count, converted)
                count += 1
                if is_single:
                    break
        if count == 0 and fallback is not None:
            fallback(into, places, context)

    return run


def worded(source: Field, path: Path, run: Run) -> Run:
    """The same as `run` for texts of a data type, which takes a third of the time where a component is one word: that needs no conversion."""
    component, put = source.component, putting(path.steps)
    if source.number or component is None or source.sub is not None or path.is_there:
        return run

    def run_by_word(value: Any, into: Json, places: Places, context: Context) -> None:
        text = value.piece(component)
        if text.isalnum():
            put(into, places, 0, text)
        else:
            run(value, into, places, context)

    return run_by_word


def learning(source: Field, convert: Convert, path: Path, told: ToldApart | None, *, has_default: bool) -> Learn:
    """What a row about codes puts for those of a segment, unless there is something to report, or to be taken where nothing comes of them."""
    values_of = values_at(source)
    steps = path.steps
    most = None if any(step.many for step in steps) else 1

    def learn(view: Any, context: Context) -> tuple[Run, ...] | None:
        values = values_of(view)
        before = context.reports
        context.field = source.number
        made = [found for value in values if (found := convert(value, context)) is not None]
        if (
            context.reports != before
            or any(value.raw == _NULL for value in values)
            or (has_default and not made)
            or (path.is_there and len(made) > 1)
        ):
            return None
        put = putting(steps if told is None else told(view))
        return tuple(again(put, number, value, steps if path.is_there else ()) for number, value in enumerate(made[:most]))

    return learn


def _fallback(path: Path, default: Any) -> Callable[[Json, Places, Context], None]:
    """Puts what is taken where nothing comes of a field, and says so where that is the status."""
    put = putting(path.steps)
    is_doubtful = path.keys == (_STATUS,) and default == _UNKNOWN

    def fallback(into: Json, places: Places, context: Context) -> None:
        put(into, places, 0, default)
        if is_doubtful:
            context.warn("101", f"Nothing that is known says what the {_STATUS} is; '{default}' is taken")

    return fallback


def lines(source: Field, convert: Convert, path: Path) -> Run:
    """Each value is another line of one text; nothing is an empty line."""
    last, encoded, values_of = path.steps[-1], path.type == "base64Binary", values_at(source)

    def run(view: Any, into: Json, places: Places, context: Context) -> None:
        context.field = source.number or context.field
        lines = [convert(value, context) or "" for value in values_of(view) if not value.is_null] or [""]
        here = into
        if not any(lines) and not places.has_lines(last.key):
            return
        for step in path.steps[:-1]:
            here = places.element(here, step, 0)
        for line in lines:
            places.line(here, last.key, line, encoded=encoded)

    return run


def told_apart(path: Path, row: Row) -> ToldApart | None:
    """Tells apart by what stands in fields what a path has fields as words for; None where it has none."""
    texts = {place: text_at(parse_field(step.tag, row)) for place, step in enumerate(path.steps) if step.tag is not None and is_field(step.tag)}
    if not texts:
        return None
    return lambda view: [replace(step, tag=texts[place](view)) if place in texts else step for place, step in enumerate(path.steps)]


def template(row: Row, path: Path) -> Run:
    """A text with fields in braces, which is there where any of them says something."""
    parts = _PLACE.split(row["value"])
    fields = {number: text_at(parse_field(part, row)) for number, part in enumerate(parts) if number % 2}
    put = putting(path.steps)

    def run(view: Any, into: Json, places: Places, _context: Context) -> None:
        texts = {number: text(view) for number, text in fields.items()}
        if any(texts.values()):
            made = "".join(texts.get(number, part) for number, part in enumerate(parts))
            put(into, places, 0, " ".join(made.split()))

    return run
