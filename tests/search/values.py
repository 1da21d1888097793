"""Values of search parameters for tests of search: such as resources of a world have, and others like them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from fhir_server.search import Registry
from fhir_server.search.query import OF_THE_POINTER, Param

from . import chance as st
from . import worlds
from .worlds import CODES, IDS, NAMES, NUMBERS, PROFILES, SYSTEMS, UCUM, UPDATED, URLS, Json

Pair = tuple[str, str]
Text = st.Chance
Draw = st.Draw

PREFIXES = ("", "", "eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap")
VALUE_SETS = ("http://t.example/some", "http://t.example/all-of-1", "http://t.example/all-but")
PARENTS = {"Location": "partof", "Organization": "partof", "Encounter": "part-of"}


class Known:
    """What can be asked, and what would find something in a world: values as its resources have them, by type and parameter."""

    def __init__(self, registry: Registry, resources: Iterable[Json] = ()) -> None:
        self.registry = registry
        self.types: list[str] = []
        self.texts: dict[Pair, list[str]] = {}
        self.targets: set[str] = set()
        for resource in resources:
            self.types.append(resource["resourceType"])
            self.targets.add(f"{resource['resourceType']}/{resource['id']}")
            self._learn(resource)
            for inner in resource.get("contained", ()):
                self._learn(inner)

    def _learn(self, resource: Json) -> None:
        name = resource["resourceType"]
        params: dict[int, list[Param]] = {}
        for param in self.params(name).values():
            for pid in param.pids if param.pid else ():
                params.setdefault(pid, []).append(param)
        for rows in self.registry.rows(resource).values():
            for row in rows:
                for param in params.get(row[0], ()):
                    self.texts.setdefault((name, param.code), []).extend(_written(param, row[1:], self.registry))

    def params(self, name: str) -> Mapping[str, Param]:
        return self.registry.supported_params(name)


def _written(param: Param, row: tuple[Any, ...], registry: Registry) -> list[str]:
    """How a query may ask for a row."""
    if param.code in ("_content", "_text"):
        return []
    if param.type == "token":
        return [escaped(row[0]), f"{escaped(row[1])}|{escaped(row[0])}", *([f"{escaped(row[1])}|"] if row[1] else [])] if row[0] else []
    if param.type == "string":
        return [escaped(part) for part in (row[1], row[1][:1], row[1][1:3]) if part]
    if param.type == "reference":
        return [f"{registry.type_name(row[1])}/{row[0]}", row[0]] if row[1] else [row[0]]
    if param.type == "composite":
        return [f"{escaped(row[0])}$"] if param.components[0].type == "token" and row[0] else []
    return [escaped(row[0])] if param.type == "uri" else []


def joined(*strategies: Text) -> Text:
    return st.tuples(*strategies).map("".join)


def listed(values: Text) -> Text:
    return st.lists(values, min_size=1, max_size=3).map(",".join)


def escaped(text: str) -> str:
    return re.sub(r"([\\,|$])", r"\\\1", text)


prefixes = st.sampled_from(PREFIXES)
systems = st.sampled_from(SYSTEMS)
codes = st.sampled_from((*CODES, "C", "male", "female", "true", "false", "final", "active", "replaces", "email"))
tokens = st.one_of(
    codes,
    st.builds(lambda system, code: f"{system or ''}|{code}", systems, codes),
    st.sampled_from((f"{SYSTEMS[0]}|", "http://hl7.org/fhir/administrative-gender|female", "http://nobody.example|a")),
)
texts = st.sampled_from([*map(escaped, NAMES), "m", "M", "STRASSE", "mull", "z", "neil", "y"])
spans = joined(prefixes, st.sampled_from((*worlds.DATES, "2020-03-29T01:30", "1999")))
amounts = joined(
    prefixes,
    st.sampled_from((*NUMBERS, "0.001", "-272.15", "0.5", "3", "2")),
    st.sampled_from(("", "", "||mg", f"|{UCUM}|mg", f"|{UCUM}|g", f"|{UCUM}|K", f"|{UCUM}|no-unit", "|http://nobody.example|mg", f"|{UCUM}|")),
)
plain_numbers = joined(prefixes, st.sampled_from((*NUMBERS, "0.5", "0.50", "0.04", "2", "3", "4")))
urls = st.sampled_from((*URLS, *PROFILES))
words = st.sampled_from(("note", "straße", "mull*", "Müller O'Neil", "not*", "c*", "a", "mg", '"test"', "nobody"))
near = st.sampled_from(
    ("0|0|45|km", "0|0.2", "0|179.95|20|km", "0.1|-180|11.2|km", "90|0|12|km", "-90|5|1000|m", "48.1|11.5|0", "48|11|60|[mi_i]", "0|0|20100|km")
)


def pointers(targets: tuple[str, ...]) -> Text:
    """References as queries write them."""
    names = [name for name in targets if name in worlds.TYPES] or list(worlds.TYPES[:6])
    local = [f"{name}/{identity}" for name in names for identity in IDS]
    others = [f"http://localhost/fhir/{names[0]}/p1", f"http://else.example/fhir/{names[0]}/p1", "urn:uuid:1", f"{names[0]}/p2/_history/3"]
    return st.sampled_from([*IDS, *local, *local, *others, *URLS, *PROFILES])


def values(param: Param) -> Text:
    """One value of a parameter."""
    if param.code == "_id":
        return st.sampled_from((*IDS, "p9", "i0"))
    if param.code == "_lastUpdated":
        return joined(prefixes, st.sampled_from((*UPDATED, "2020", "2020-01-01")))
    if param.code in ("_text", "_content"):
        return words
    if param.type == "composite":
        return st.tuples(*(_part(part) for part in param.components)).map("$".join)
    if param.type == "reference":
        return pointers(param.targets)
    return {"token": tokens, "string": texts, "date": spans, "quantity": amounts, "number": plain_numbers, "uri": urls, "special": near}[param.type]


def _part(param: Param) -> Text:
    # Empty alternatives of texts and commas within them would need to be escaped once more.
    return values(param)


def asked(known: Known, name: str, code: str) -> Text:
    """Values of a parameter, rather those that resources have."""
    param = known.params(name)[code]
    there = known.texts.get((name, code))
    if not there:
        return values(param)
    if param.type == "composite":
        rest = st.tuples(*(values(part) for part in param.components[1:])).map("$".join)
        return st.one_of(joined(st.sampled_from(there), rest), values(param))
    return st.sampled_from((*[st.sampled_from(there)] * 5, values(param))).flatmap(lambda kind: kind)


@st.composite
def leaf(draw: Draw, known: Known, name: str, code: str) -> Pair:
    """A parameter with a modifier or without one."""
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return f"{code}:missing", draw(st.sampled_from(("true", "false")))
    options = _modified(known, name, code) if kind < 5 and code not in OF_THE_POINTER else []
    if not options:
        return code, draw(listed(asked(known, name, code)))
    modifier, text = draw(st.sampled_from(options))
    return f"{code}:{modifier}", draw(text)


def _modified(known: Known, name: str, code: str) -> list[tuple[str, Text]]:
    """Modifiers that a parameter takes, with their values."""
    params = known.params(name)
    param, plain = params[code], st.sampled_from(CODES)
    of_type = st.builds(lambda system, kind, value: f"{system}|{kind}|{value}", st.sampled_from(SYSTEMS[:2]), plain, plain)
    derived = {"text": None, "of-type": of_type, "identifier": None}
    options = [
        (modifier, listed(text if text is not None else asked(known, name, f"{code}:{modifier}")))
        for modifier, text in derived.items()
        if f"{code}:{modifier}" in params
    ]
    if param.type == "token":
        coded = listed(st.sampled_from(("http://s.example/1|a", "http://s.example/1|c", "http://s.example/1|C")))
        options += [("not", listed(asked(known, name, code))), ("below", coded), ("above", coded)]
        options += [(how, st.sampled_from(VALUE_SETS)) for how in ("in", "not-in")]
    elif param.type == "string":
        options += [(how, listed(asked(known, name, code))) for how in ("exact", "contains")]
    elif param.type == "reference":
        options += _pointed(param)
    if param.type == "uri" or code == "questionnaire":
        options += [(how, st.sampled_from(URLS[:5])) for how in ("below", "above")]
    return options


def _pointed(param: Param) -> list[tuple[str, Text]]:
    targets = [target for target in param.targets if target in worlds.TYPES]
    ids = [listed(st.sampled_from([f"{target}/{identity}" for identity in IDS])) for target in targets if target in PARENTS]
    return [*((target, st.sampled_from(IDS)) for target in targets), *((how, text) for text in ids * 2 for how in ("below", "above"))]
