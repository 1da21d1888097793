"""Queries of every kind for tests of search, made from what the registry says can be asked of the types in `worlds`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple

from hypothesis import strategies as st

from fhir_server.outcome import Outcome
from fhir_server.search import Registry
from fhir_server.search.query import Param

from . import worlds
from .worlds import CODES, IDS, NAMES, NUMBERS, PROFILES, SYSTEMS, UCUM, UPDATED, URLS, Json

Pair = tuple[str, str]
Text = st.SearchStrategy[str]
Draw = st.DrawFn

PREFIXES = ("", "", "eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap")
VALUE_SETS = ("http://t.example/some", "http://t.example/all-of-1", "http://t.example/all-but")
PARENTS = {"Location": "partof", "Organization": "partof", "Encounter": "part-of"}

_ASKED_OFTEN = {
    "Patient": ("name", "family", "birthdate", "gender", "identifier", "organization", "general-practitioner", "link", "address", "deceased", "email"),
    "Practitioner": ("name", "identifier", "active"),
    "Organization": ("name", "partof", "type", "identifier", "active"),
    "Location": ("name", "partof", "near", "organization", "status"),
    "Observation": (
        *("code", "category", "date", "value-quantity", "value-string", "value-concept", "patient", "subject", "performer", "encounter", "has-member"),
        *("code-value-quantity", "code-value-concept", "code-value-string", "code-value-date", "combo-code-value-quantity", "component-code", "status"),
        *("combo-code", "combo-value-quantity", "component-code-value-quantity", "identifier", "derived-from"),
    ),
    "Encounter": ("class", "date", "patient", "subject", "location", "part-of", "service-provider", "practitioner", "status", "type"),
    "List": ("item", "subject", "patient", "title", "code", "date"),
    "RiskAssessment": ("probability", "date", "patient", "encounter"),
    "ValueSet": ("url", "version", "name", "date", "status"),
    "QuestionnaireResponse": ("questionnaire", "patient", "encounter", "authored", "identifier"),
    "DocumentReference": ("relatesto", "relation", "relationship", "patient", "type", "date", "custodian"),
    "MolecularSequence": ("patient", "chromosome", "variant-start", "chromosome-variant-coordinate", "referenceseqid-window-coordinate"),
    "Group": ("characteristic", "value", "characteristic-value", "member", "actual", "exclude", "managing-entity"),
}
_ALWAYS = ("_id", "_lastUpdated", "_tag", "_profile", "_source", "_content", "_text")


class Known:
    """What can be asked, and what would find something in a world: values as its resources have them, by type and parameter."""

    def __init__(self, registry: Registry, resources: Iterable[Json] = ()) -> None:
        self.registry = registry
        self.types: list[str] = []
        self.texts: dict[Pair, list[str]] = {}
        for resource in resources:
            self.types.append(resource["resourceType"])
            self._learn(resource)
            for inner in resource.get("contained", ()):
                self._learn(inner)

    def _learn(self, resource: Json) -> None:
        name = resource["resourceType"]
        params = {param.pid: param for param in self.params(name).values() if param.pid}
        for rows in self.registry.rows(resource).values():
            for row in rows:
                if row[0] in params:
                    found = self.texts.setdefault((name, params[row[0]].code), [])
                    found += _written(params[row[0]], row[1:], self.registry)

    def params(self, name: str) -> Mapping[str, Param]:
        return self.registry.supported_params(name)


def _written(param: Param, row: tuple[Any, ...], registry: Registry) -> list[str]:
    """How a query may ask for a row."""
    if param.code in ("_content", "_text"):
        return []
    if param.type == "token":
        return [escaped(row[0]), f"{escaped(row[1])}|{escaped(row[0])}", *([f"{escaped(row[1])}|"] if row[1] else [])] if row[0] else []
    if param.type == "string":
        return [escaped(row[1]), escaped(row[1][:1]), escaped(row[1][1:3])] if row[1] else []
    if param.type == "reference":
        return [f"{registry.type_name(row[1])}/{row[0]}", row[0]] if row[1] else [row[0]]
    if param.type == "composite":
        return [f"{escaped(row[0])}$"] if param.components[0].type == "token" and row[0] else []
    return [escaped(row[0])] if param.type == "uri" else []


class Search(NamedTuple):
    """What is asked: a type or None for several, a compartment or none, the parameters."""

    type: str | None
    compartment: Pair | None
    params: tuple[Pair, ...]


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
    return st.sampled_from((st.sampled_from(there), st.sampled_from(there), values(param))).flatmap(lambda kind: kind)


@st.composite
def leaf(draw: Draw, known: Known, name: str, code: str) -> Pair:
    """A parameter with a modifier or without one."""
    params = known.params(name)
    param = params[code]
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return f"{code}:missing", draw(st.sampled_from(("true", "false")))
    if kind > 4 or code in _ALWAYS[:2]:  # noqa: PLR2004
        return code, draw(listed(asked(known, name, code)))
    options: list[tuple[str, Text]] = []
    if param.type == "token" and ":" not in code:
        coded = [value for value in ("http://s.example/1|a", "http://s.example/1|c", "http://s.example/1|C")]
        options += [("not", listed(asked(known, name, code))), ("in", st.sampled_from(VALUE_SETS)), ("not-in", st.sampled_from(VALUE_SETS))]
        options += [("below", listed(st.sampled_from(coded))), ("above", listed(st.sampled_from(coded)))]
    if f"{code}:text" in params:
        options.append(("text", listed(asked(known, name, f"{code}:text"))))
    if f"{code}:of-type" in params:
        plain = st.sampled_from(CODES)
        options.append(("of-type", st.builds(lambda s, t, v: f"{s}|{t}|{v}", st.sampled_from(SYSTEMS[:2]), plain, plain)))
    if f"{code}:identifier" in params:
        options.append(("identifier", listed(asked(known, name, f"{code}:identifier"))))
    if param.type == "string":
        options += [(how, listed(asked(known, name, code))) for how in ("exact", "contains")]
    if param.type == "uri" or (param.type == "reference" and code == "questionnaire"):
        options += [(how, st.sampled_from(URLS[:5])) for how in ("below", "above")]
    if param.type == "reference":
        options += [(target, st.sampled_from(IDS)) for target in param.targets if target in worlds.TYPES]
        options += [
            (how, listed(st.sampled_from([f"{target}/{identity}" for identity in IDS])))
            for target in param.targets
            if target in PARENTS
            for how in ("below", "above", "below", "above")
        ]
    if not options:
        return code, draw(listed(asked(known, name, code)))
    modifier, text = draw(st.sampled_from(options))
    return f"{code}:{modifier}", draw(text)


def _codes(known: Known, name: str) -> list[str]:
    """Codes of a type: those that find something ten times, so that the others are asked now and then."""
    return _weighted(known.registry, name) + [code for kind, code in known.texts if kind == name and ":" not in code] * 10


@cache
def _weighted(registry: Registry, name: str) -> list[str]:
    params = registry.supported_params(name)
    every = [code for code in params if ":" not in code]
    return [code for code in (*_ASKED_OFTEN.get(name, ()) * 3, *_ALWAYS, *every) if code in params]


@cache
def _common(registry: Registry, types: tuple[str, ...]) -> list[str]:
    """Codes that mean the same in all the types."""
    known = [registry.supported_params(name) for name in types]
    return [code for code, param in known[0].items() if ":" not in code and all(code in each and each[code].type == param.type for each in known)]


@cache
def _referring(registry: Registry, name: str) -> list[Pair]:
    """Types and reference parameters that may point to a type; those with rows here more often."""
    found = []
    for source in worlds.TYPES:
        for code, param in registry.supported_params(source).items():
            if param.type == "reference" and (not param.targets or name in param.targets):
                found += [(source, code)] * (3 if code in _ASKED_OFTEN[source] else 1)
    return found


def _sources(known: Known, name: str) -> list[Pair]:
    """The same, those that do point to one ten times more."""
    there = [pair for pair, texts in known.texts.items() if any(text.startswith(f"{name}/") for text in texts)]
    links = [(source, code) for source, code in there if source in worlds.TYPES and known.params(source)[code].type == "reference"]
    return _referring(known.registry, name) + links * 10


def _reached(known: Known, name: str, codes: Iterable[str]) -> list[Pair]:
    """Reference parameters of a type with the types they may lead to, those that do lead there ten times more."""
    params, found = known.params(name), []
    for code in dict.fromkeys(codes):
        if params[code].type == "reference":
            there = known.texts.get((name, code), ())
            for target in params[code].targets:
                if target in worlds.TYPES:
                    found += [(code, target)] * (10 if any(text.startswith(f"{target}/") for text in there) else 1)
    return found


def _is_understood(registry: Registry, types: tuple[str, ...], pair: Pair) -> bool:
    """Whether a parameter is understood where several types are asked: what one has another may have differently."""
    try:
        registry.parse(None, [("_type", ",".join(types)), pair], strict=True)
    except Outcome:
        return False
    return True


@st.composite
def filters(draw: Draw, known: Known, types: tuple[str, ...], depth: int) -> Pair:
    """One filter of resources of some types; chains and reverse chains go up to `depth` steps."""
    name = types[0]
    step = draw(st.integers(0, 9)) if depth else 9
    if step <= 1 and len(types) == 1 and (sources := _sources(known, name)):
        source, code = draw(st.sampled_from(sources))
        inner, value = draw(filters(known, (source,), depth - 1))
        return f"_has:{source}:{code}:{inner}", value
    codes = _codes(known, name) if len(types) == 1 else _common(known.registry, types)
    if step <= 4 and (reached := _reached(known, name, codes)):  # noqa: PLR2004
        code, target = draw(st.sampled_from(reached))
        inner, value = draw(filters(known, (target,), depth - 1))
        if draw(st.booleans()) and _is_understood(known.registry, types, (f"{code}.{inner}", value)):
            return f"{code}.{inner}", value
        return f"{code}:{target}.{inner}", value
    code = draw(st.sampled_from(codes))
    return draw(leaf(known, name, code))


_BY_TYPE = {
    "token": ("eq", "eq", "ne", "in", "ni", "sb", "ss", "pr"),
    "string": ("eq", "ne", "co", "sw", "ew", "pr"),
    "date": ("eq", "ne", "gt", "lt", "ge", "le", "ap", "sa", "eb", "po", "pr"),
    "quantity": ("eq", "ne", "gt", "lt", "ge", "le", "pr"),
    "number": ("eq", "ne", "gt", "lt", "ge", "le", "pr"),
    "reference": ("eq", "re", "ne", "pr"),
    "uri": ("eq", "ne", "sb", "ss", "pr"),
}


@st.composite
def comparisons(draw: Draw, known: Known, name: str, depth: int) -> str:
    """`path operator value` of `_filter`."""
    params = known.params(name)
    codes = [code for code in _codes(known, name) if params[code].type in _BY_TYPE]
    reached = _reached(known, name, codes)
    if depth and reached and draw(st.integers(0, 3)) == 0:
        code, target = draw(st.sampled_from(reached))
        rest = draw(comparisons(known, target, depth - 1))
        if draw(st.booleans()):
            return f"{code}:{target}[{draw(expressions(known, target, 0))}].{rest}"
        return f"{code}:{target}.{rest}"
    param = params[draw(st.sampled_from(codes))]
    operator = draw(st.sampled_from(_BY_TYPE[param.type]))
    if operator == "pr":
        return f"{param.code} pr {draw(st.sampled_from(('true', 'false')))}"
    return f"{param.code} {operator} {draw(_operand(param, operator))}"


def _operand(param: Param, operator: str) -> Text:
    if param.type == "token" and operator in ("in", "ni"):
        return st.sampled_from(VALUE_SETS)
    if param.type == "token" and operator in ("sb", "ss"):
        return st.sampled_from(("http://s.example/1|a", "http://s.example/1|c"))
    if param.type == "uri":
        return st.sampled_from(URLS[:5])
    if param.type == "string":
        return st.sampled_from((*NAMES, "m", "er", "z")).map(lambda text: '"' + re.sub(r'(["\\])', r"\\\1", text) + '"')
    if param.code == "_lastUpdated":
        return st.sampled_from((*UPDATED, "2020"))
    if param.type == "date":
        return st.sampled_from(worlds.DATES)
    if param.type in ("number", "quantity"):
        return st.sampled_from((*NUMBERS, *([f"1|{UCUM}|g", "1||mg"] if param.type == "quantity" else [])))
    return values(param)


@st.composite
def expressions(draw: Draw, known: Known, name: str, depth: int) -> str:
    """A `_filter`."""
    parts = []
    for number in range(draw(st.integers(1, 3))):
        part = draw(comparisons(known, name, 1))
        how = draw(st.integers(0, 5))
        if depth and how == 0:
            part = f"not ({draw(expressions(known, name, depth - 1))})"
        elif depth and how == 1:
            part = f"({draw(expressions(known, name, depth - 1))})"
        parts.append(f"{draw(st.sampled_from((' and ', ' or '))) if number else ''}{part}")
    return "".join(parts)


@st.composite
def searches(draw: Draw, known: Known) -> Search:
    """A search of a type, of several, of the whole system or of a compartment."""
    registry = known.registry
    compartment: Pair | None = None
    name: str | None = draw(st.sampled_from((*known.types * 3, *worlds.TYPES)))
    types: tuple[str, ...] = (name,) if name else ()
    head: list[Pair] = []
    how = draw(st.integers(0, 19))
    if how <= 1:
        name, types = None, tuple(draw(st.lists(st.sampled_from((*known.types, *worlds.TYPES)), min_size=2, max_size=3, unique=True)))
        head = [("_type", ",".join(types))]
    elif how <= 3:  # noqa: PLR2004
        compartment = ("Patient", draw(st.sampled_from((*IDS, "p9"))))
        name = draw(st.sampled_from(("Observation", "Encounter", "List", "Patient", "RiskAssessment", "Group")))
        types = (name,)
    elif how <= 5:  # noqa: PLR2004
        compartment, name = ("Patient", draw(st.sampled_from(IDS))), None
        types = ("Patient", "Observation", "Encounter") if draw(st.booleans()) else ("Observation", "List")
        head = [("_type", ",".join(types))]
    elif how == 6:  # noqa: PLR2004
        name, types = None, tuple(registry.types)
    params = draw(st.lists(filters(known, types, 3), max_size=2))
    if len(types) > 1:
        params = [pair for pair in params if _is_understood(registry, types, pair)]
    if len(types) == 1:
        extra = draw(st.integers(0, 7))
        if extra == 0:
            params.append(("_filter", draw(expressions(known, types[0], 2))))
        elif extra == 1:
            params.append(("_list", draw(listed(st.sampled_from(IDS)))))
    codes = _codes(known, types[0]) if len(types) == 1 else _common(registry, types)
    ordering = [code for code in codes if known.params(types[0])[code].sortable]
    order = draw(st.lists(st.builds(lambda sign, code: sign + code, st.sampled_from(("", "-")), st.sampled_from(ordering)), max_size=3))
    if order and draw(st.booleans()):
        params.append(("_sort", ",".join(order)))
    elif any(code in ("_text", "_content") for code, _ in params) and draw(st.booleans()):
        params.append(("_sort", "_score"))
    return Search(name, compartment, (*head, *params, ("_count", str(draw(st.sampled_from((1, 2, 3, 5, 20)))))))


@st.composite
def contained_searches(draw: Draw, known: Known) -> Search:
    """A search inside of other resources, of a parameter that makes rows and others beside it."""
    name = draw(st.sampled_from(("Organization", "Observation")))
    params = known.params(name)
    codes = [code for code in _codes(known, name) if params[code].type != "special"]
    first = draw(st.sampled_from([code for code in codes if code not in _ALWAYS]))
    pairs = [(first, draw(listed(asked(known, name, first))))]
    pairs += [draw(leaf(known, name, code)) for code in draw(st.lists(st.sampled_from(codes), max_size=2))]
    pairs = [pair for pair in pairs if not re.search(r":(above|below)$", pair[0]) or params[pair[0].partition(":")[0]].type != "reference"]
    pairs.append(("_contained", draw(st.sampled_from(("true", "both")))))
    if draw(st.booleans()):
        pairs.append(("_containedType", "contained"))
    return Search(name, None, (*pairs, ("_count", str(draw(st.sampled_from((1, 3, 20)))))))


def parsed(registry: Registry, search: Search) -> Any:
    """The Query of a search."""
    return registry.parse(search.type, list(search.params), strict=True, compartment=search.compartment)
