"""Queries of every kind for tests of search, made from what the registry says can be asked of the types in `worlds`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

from fhir_server.outcome import Outcome
from fhir_server.search import Registry
from fhir_server.search.query import OF_THE_POINTER, Param

from . import chance as st
from . import worlds
from .values import VALUE_SETS, Draw, Known, Pair, Text, asked, joined, leaf, listed, values
from .worlds import IDS, NAMES, NUMBERS, UCUM, UPDATED, URLS

_ASKED_OFTEN = {
    "Patient": (
        "name",
        "family",
        "birthdate",
        "gender",
        "identifier",
        "organization",
        "general-practitioner",
        "link",
        "address",
        "deceased",
        "email",
    ),
    "Practitioner": ("name", "identifier", "active"),
    "Organization": ("name", "partof", "type", "identifier", "active"),
    "Location": ("name", "partof", "near", "organization", "status"),
    "Observation": (
        *(
            "code",
            "category",
            "date",
            "value-quantity",
            "value-string",
            "value-concept",
            "patient",
            "subject",
            "performer",
            "encounter",
            "has-member",
        ),
        *(
            "code-value-quantity",
            "code-value-concept",
            "code-value-string",
            "code-value-date",
            "combo-code-value-quantity",
            "component-code",
            "status",
        ),
        *("combo-code", "combo-value-quantity", "component-code-value-quantity", "identifier", "derived-from"),
    ),
    "Appointment": ("actor", "patient", "practitioner", "location", "date", "status"),
    "Encounter": ("participant", "class", "date", "patient", "subject", "location", "part-of", "service-provider", "practitioner", "status", "type"),
    "List": ("item", "subject", "patient", "title", "code", "date"),
    "RiskAssessment": ("probability", "date", "patient", "encounter"),
    "ValueSet": ("url", "version", "name", "date", "status"),
    "Questionnaire": ("url", "version", "name", "status"),
    "QuestionnaireResponse": ("questionnaire", "patient", "encounter", "authored", "identifier"),
    "DocumentReference": ("relatesto", "relation", "relationship", "patient", "type", "date", "custodian", "attachment"),
    "Binary": ("security-context",),
    "MolecularSequence": ("patient", "chromosome", "variant-start", "chromosome-variant-coordinate", "referenceseqid-window-coordinate"),
    "Group": ("characteristic", "value", "characteristic-value", "member", "actual", "exclude", "managing-entity"),
}
_ALWAYS = (*OF_THE_POINTER, "_tag", "_profile", "_source", "_content", "_text")


class Search(NamedTuple):
    """What is asked: a type or None for several, a compartment or none, the parameters."""

    type: str | None
    compartment: Pair | None
    params: tuple[Pair, ...]


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
    """The same where some do point to one that is there, rather these only."""
    there = [pair for pair, texts in known.texts.items() if known.targets.intersection(text for text in texts if text.startswith(f"{name}/"))]
    return [(source, code) for source, code in there if source in known.types and known.params(source)[code].type == "reference"]


def _reached(known: Known, name: str, codes: Iterable[str]) -> list[Pair]:
    """Reference parameters of a type with the types they may lead to; where some do lead to one that is there, rather these."""
    params = known.params(name)
    links = [code for code in dict.fromkeys(codes) if params[code].type == "reference"]
    possible = [(code, target) for code in links for target in params[code].targets if target in worlds.TYPES]
    there = [(code, text.partition("/")[0]) for code in links for text in known.texts.get((name, code), ()) if text in known.targets]
    return possible + [pair for pair in there if pair in possible] * 10


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
    step = draw(st.sampled_from(("has", "chain", "chain", "leaf", *["leaf"] * (3 - depth)))) if depth else "leaf"
    if step == "has" and len(types) == 1 and (sources := _sources(known, name) * 9 + _referring(known.registry, name)[:9]):
        source, code = draw(st.sampled_from(sources))
        inner, value = draw(filters(known, (source,), depth - 1))
        return f"_has:{source}:{code}:{inner}", value
    codes = _codes(known, name) if len(types) == 1 else _common(known.registry, types)
    if step == "chain" and (reached := _reached(known, name, codes)):
        code, target = draw(st.sampled_from(reached))
        inner, value = draw(filters(known, (target,), depth - 1))
        if draw(st.booleans()) and _is_understood(known.registry, types, (f"{code}.{inner}", value)):
            return f"{code}.{inner}", value
        return f"{code}:{target}.{inner}", value
    code = draw(st.sampled_from(codes))
    found: Pair = draw(leaf(known, name, code))
    return found


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
    kind = param.code if param.code == "_lastUpdated" else param.type
    return _OPERANDS[kind] if kind in _OPERANDS else values(param)


_OPERANDS: dict[str, Text] = {
    "_lastUpdated": st.sampled_from((*UPDATED, "2020")),
    "uri": st.sampled_from(URLS[:5]),
    "string": st.sampled_from((*NAMES, "m", "er", "z")).map(lambda text: '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'),
    "date": st.sampled_from(worlds.DATES),
    "number": st.sampled_from(NUMBERS),
    "quantity": st.sampled_from((*NUMBERS, f"1|{UCUM}|g", "1||mg")),
}


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


class _Place(NamedTuple):
    """Where is searched: as in a Search, the types that this comes to, and what says so in the query."""

    type: str | None
    compartment: Pair | None
    types: tuple[str, ...]
    head: tuple[Pair, ...] = ()


@st.composite
def _places(draw: Draw, known: Known) -> _Place:
    how = draw(st.integers(0, 19))
    if how <= 1:
        types = tuple(draw(st.lists(st.sampled_from((*known.types, *worlds.TYPES)), min_size=2, max_size=3, unique_by=str)))
        return _Place(None, None, types, (("_type", ",".join(types)),))
    patient = draw(st.sampled_from((*IDS, "p9")))
    if how <= 3:
        name = draw(st.sampled_from(("Observation", "Encounter", "List", "Patient", "RiskAssessment", "Group")))
        return _Place(name, ("Patient", patient), (name,))
    if how <= 5:
        types = ("Patient", "Observation", "Encounter") if draw(st.booleans()) else ("Observation", "List")
        return _Place(None, ("Patient", patient), types, (("_type", ",".join(types)),))
    if how == 6:
        return _Place(None, None, tuple(known.registry.types))
    name = draw(st.sampled_from((*known.types * 3, *worlds.TYPES)))
    return _Place(name, None, (name,))


def _is_cheap(registry: Registry, place: _Place, params: list[Pair]) -> bool:
    """Whether the chains are not too many: those without a type count for every type they may lead to."""
    try:
        registry.parse(place.type, [*place.head, *params], strict=True, compartment=place.compartment)
    except Outcome as error:
        return error.issues[0].code != "too-costly"
    return True


@st.composite
def searches(draw: Draw, known: Known) -> Search:
    """A search of a type, of several, of the whole system or of a compartment."""
    place = draw(_places(known))
    types, params = place.types, [draw(filters(known, place.types, 3)) for _ in range(draw(st.sampled_from((0, 1, 1, 1, 1, 2))))]
    if len(types) > 1:
        params = [pair for pair in params if _is_understood(known.registry, types, pair)]
    else:
        extra = draw(st.integers(0, 7))
        if extra == 0:
            params.append(("_filter", draw(expressions(known, types[0], 2))))
        elif extra == 1 and "List" in known.types:
            params.append(("_list", draw(listed(st.sampled_from(IDS)))))
    while not _is_cheap(known.registry, place, params):
        params.pop()
    codes = _codes(known, types[0]) if len(types) == 1 else _common(known.registry, types)
    ordering = [code for code in codes if known.params(types[0])[code].sortable]
    # What nothing can lack goes another way than what may be missing.
    key = st.sampled_from((*ordering, *sorted(OF_THE_POINTER) * (len(ordering) // 8 + 1)))
    order = draw(st.lists(joined(st.sampled_from(("", "-")), key), max_size=3))
    if draw(st.booleans()) and order:
        params.append(("_sort", ",".join(order)))
    elif any(code in ("_text", "_content") for code, _ in params) and draw(st.booleans()):
        params.append(("_sort", "_score"))
    return Search(place.type, place.compartment, (*place.head, *params, ("_count", str(draw(st.sampled_from((1, 2, 3, 5, 20)))))))


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
