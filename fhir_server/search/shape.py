"""The FROM and WHERE of a query: which index to begin with, and what to ask of each resource found there.

Criteria on the resource's own rows are joins on `rid`, so that PostgreSQL chooses which to begin with; equations come out of their index in page
order. Everything else is a condition per resource. Index rows exist for current versions only and belong to one type, so the resource's own row is
read only where something of it is asked for, or where newest-first order has nothing else to stop by.
"""

# ruff: noqa: S608 - SQL is put together from our own table names and fragments; values are always parameters.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple, TypeGuard

from fhir_server.outcome import Outcome

from .conditions import Conditions, Place, granted, of_the_pointer
from .params import reference
from .params.token import Token
from .params.uri import Address
from .query import OF_THE_POINTER, Criterion, Filter, Gathered, Has, Itself, Numbered, Query, below
from .sharing import MOST_NUMBERS
from .statement import Statement, join

_EQUATIONS: Final = frozenset({"token", "reference", "uri"})
"""Types whose values are found by an equation, in page order."""


class Shape(NamedTuple):
    """`rids` are the columns that equal the resource's number, the base table's first."""

    table: Statement
    joins: tuple[Statement, ...]
    where: tuple[Statement, ...]
    rids: tuple[str, ...]
    unique: bool
    """Whether no resource can come twice."""

    def select(self, columns: str, joins: Sequence[Statement] = (), where: Sequence[Statement] = ()) -> Statement:
        """The statement with further joins and conditions."""
        source = join(" ", [Statement(f"SELECT {columns} FROM {self.table.text}", self.table.params), *self.joins, *joins])
        condition = join(" AND ", [*self.where, *where])
        return Statement(f"{source.text} WHERE {condition.text}", source.params + condition.params)


def shape(query: Query, conditions: Conditions, *, keep: int | None = None) -> Shape:
    """The shape of a query; `keep` is a filter whose rows the order needs, so that it has to be the base. Raises Outcome `forbidden`."""
    registry = conditions.registry
    types = _searched(query, conditions)
    naming, other = _pair(query, conditions)
    coded = naming is not None and other is not None and keep in (None, naming) and _codes(query, conditions, other)
    # What names the patient comes with the codes, or the order needs it: then the other equation is a look-up for each of its rows in page order.
    probed = other if coded or (naming is not None and keep == naming) else None
    anchor = naming if probed is None and other is not None and keep is None else None
    joined = [n for n, node in enumerate(query.filters) if _is_joined(node) and n not in (anchor, probed)]
    # Only an equation with one value comes in page order; for others the plan should be free to go by newest resources instead.
    ordered = [n for n in joined if is_single_equation(query.filters[n])]
    if not ordered and not conditions.pages:
        ordered = [n for n in joined if is_equation(query.filters[n]) and len(_criterion(query.filters[n]).values) == 1]
    first = keep if keep is not None else naming if coded else ordered[0] if ordered else None
    if first is None or _needs_pointer(query):
        base, table, first = "r", conditions.sources.table("resource", "r"), None
        where = [_of_types(conditions, types), Statement("NOT r.deleted")]
    else:
        base, criterion = f"f{first}", _criterion(query.filters[first])
        table, where = conditions.table(criterion.param, base), [conditions.row(criterion, base)]
    joins = [_joined(conditions, _criterion(query.filters[number]), f"f{number}", base) for number in joined if number != first]
    allowed = granted(conditions.grant, registry, types, base, conditions.sources, named=_named(query, conditions, naming))
    if allowed.text != "TRUE":
        where.append(allowed)
    place = Place(f"{base}.rid", "r", types)
    where += [_condition(node, conditions, place) for n, node in enumerate(query.filters) if n not in {*joined, anchor, probed}]
    if anchor is not None:
        # One pass over the other's index for all resources of the patient: 0.8 ms for 1,000 of them, against 1.5 ms by a look-up for each.
        rids = conditions.rids_of(_criterion(query.filters[anchor]), "a")
        where.append(Statement(f"f{other}.rid = ANY(ARRAY({rids.text}))", rids.params))
    if coded and naming is not None and other is not None:
        values = [value.code for value in _criterion(query.filters[other]).values]
        where.append(Statement(f"f{naming}.codes && %s::text[]", (values,)))
    if probed is not None:
        # Not EXISTS, which a plan may turn into a merge with all resources of a frequent code: 60 ms. This stays a look-up per row in page order.
        rids = conditions.rids_of(_criterion(query.filters[probed]), "e")
        where.append(Statement(f"({rids.text} AND e.rid = {base}.rid LIMIT 1) IS NOT NULL", rids.params))
    unique = first is None and not any(number != first for number in joined)
    return Shape(table, tuple(joins), tuple(where), (f"{base}.rid", *(f"f{number}.rid" for number in joined if number != first)), unique)


def _searched(query: Query, conditions: Conditions) -> tuple[str, ...]:
    types = tuple(name for name in query.types if conditions.grant.allows(name, "s"))
    if not types:
        named = query.type if len(query.types) == 1 else "any of these types"
        raise Outcome("forbidden", f"The token does not allow to search {named}")
    return types


def _of_types(conditions: Conditions, types: Sequence[str]) -> Statement:
    return equals_number("r.type", [conditions.registry.types[name] for name in types])


def equals_number(column: str, numbers: Sequence[int]) -> Statement:
    """The column has one of our own numbers, which stand in the text: a prepared plan can count on them."""
    return Statement(f"{column} = {numbers[0]}" if len(numbers) == 1 else f"{column} IN ({', '.join(map(str, numbers))})")


def _criterion(node: Filter) -> Criterion:
    assert isinstance(node, Criterion)
    return node


def _is_joined(node: Filter) -> bool:
    return isinstance(node, Criterion) and node.modifier is None and node.param.code not in OF_THE_POINTER


def is_equation(node: Filter) -> bool:
    """Whether the filter's rows come out of their index by an equation."""
    return isinstance(node, Criterion) and _is_joined(node) and node.param.type in _EQUATIONS and not any(map(_is_below, node.values))


def is_single_equation(node: Filter) -> bool:
    """The same with one value, whose rows come in page order."""
    return is_equation(node) and _is_single(node)


def in_few_ranges(pids: Sequence[int]) -> bool:
    """Whether rows under these numbers are several ranges of an index, but so few that a page is put together from a page of each."""
    return 1 < len(pids) <= MOST_NUMBERS


def apart(node: Filter) -> tuple[Criterion, ...]:
    """An equation with one value whose rows stand under a few numbers, by each of them; none for any other filter."""
    if not isinstance(node, Criterion) or not is_equation(node) or len(node.values) != 1 or not in_few_ranges(node.pids):
        return ()
    return tuple(replace(node, param=replace(node.param, pid=pid, others=(), elsewhere=())) for pid in node.pids)


def alternatives(query: Query) -> tuple[Query, ...]:
    """The query, or several of which each has some of its matches in page order: where nothing else comes so, and a filter's rows in a few ranges."""
    if any(map(is_single_equation, query.filters)):
        return (query,)
    for number, node in enumerate(query.filters):
        if found := apart(node):
            return tuple(replace(query, filters=(*query.filters[:number], one, *query.filters[number + 1 :])) for one in found)
    return (query,)


def is_scattered(node: Filter) -> TypeGuard[Criterion]:
    """Whether the filter's rows are no such run of an index, but a range or several runs: how many they are a plan can only guess."""
    return _is_joined(node) and not is_single_equation(node)


def _is_below(value: Any) -> bool:
    """Whether a uri or a reference asks for what is below or above it."""
    return isinstance(value, Address | reference.Target) and bool(value.below or getattr(value, "above", ()) or len(getattr(value, "urls", "u")) > 1)


def _is_single(node: Filter) -> bool:
    return isinstance(node, Criterion) and len(node.values) == 1 and len(node.pids) == 1


def _condition(node: Filter, conditions: Conditions, place: Place) -> Statement:
    if isinstance(node, Criterion) and node.param.code in OF_THE_POINTER:
        return of_the_pointer(node, "r")
    return conditions.of(node, place)


def _needs_pointer(query: Query) -> bool:
    """Whether something of the resource's own row is asked for; of a Patient and of a Binary also the grant asks its id."""
    if query.type in {"Binary", "Patient"} or len(query.types) > 1:
        return True
    if any(key.param is not None and key.param.code in OF_THE_POINTER for key in query.sort):
        return True
    nodes = [inner for node in query.filters for inner in below(node)]
    return any(isinstance(node, Has | Itself) or (isinstance(node, Criterion) and node.param.code in OF_THE_POINTER) for node in nodes)


def _joined(conditions: Conditions, criterion: Criterion, alias: str, base: str) -> Statement:
    table, row = conditions.table(criterion.param, alias), conditions.row(criterion, alias)
    return Statement(f"JOIN {table.text} ON {alias}.rid = {base}.rid AND {row.text}", table.params + row.params)


def _pair(query: Query, conditions: Conditions) -> tuple[int | None, int | None]:
    """The filter that names one patient, and another equation; None for what there is not."""
    equations = [n for n, node in enumerate(query.filters) if is_equation(node)]
    naming = next((n for n in equations if names_one_patient(_criterion(query.filters[n]), conditions)), None)
    others = [n for n in equations if n != naming]
    return naming, others[0] if naming is not None and others else None


def names_one_patient(criterion: Criterion, conditions: Conditions) -> bool:
    """Whether the criterion is met by references to one patient and nothing else."""
    # What is contained tells nothing of whose its container is, and its rows carry no codes.
    if criterion.param.type != "reference" or not _is_single(criterion) or criterion.param.pid < 0:
        return False
    return bool(criterion.values[0].type == conditions.registry.types["Patient"])


def _codes(query: Query, conditions: Conditions, other: int) -> bool:
    """Whether the rows that name the patient carry what the other equation asks for."""
    criterion = _criterion(query.filters[other])
    coded = all(isinstance(value, Token) and value.code is not None for value in criterion.values)
    return coded and bool(criterion.values) and criterion.param.code == conditions.registry.main_code(query.type)


def _named(query: Query, conditions: Conditions, naming: int | None) -> str | None:
    """The patient in whose compartment a filter puts every match, by naming them with a reference of the compartment."""
    # A Patient's own compartment is the patient: another one's link to it opens nothing.
    if naming is None or query.type == "Patient" or len(query.types) > 1:
        return None
    criterion = _criterion(query.filters[naming])
    within = conditions.registry.spec.compartments["Patient"].get(query.type, ())
    return str(criterion.values[0].id) if criterion.param.code in within else None


def has_own_plan(query: Query) -> bool:
    """Whether the best plan depends on the values: all but equations, and what is gathered first, have more than one good plan."""
    return not all(is_single_equation(node) or isinstance(node, Gathered | Numbered) for node in query.filters)
