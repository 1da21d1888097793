"""Compiled expressions: what the other packages call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

from fhir_server.spec import Spec

from .ast import Node as Syntax
from .budget import Budget
from .checks import Check, Within
from .compiler import translate
from .errors import FhirPathError, too_costly
from .hoisting import hoist
from .model import Env, Item, Model, Node
from .operators import boolean
from .parser import parse
from .predicate import Predicates
from .semantics import verify

_CACHED: Final = 8192
_PLACE: Final = 4
"""Steps of writing down where one element stands."""
_models: dict[int, Model] = {}

Resolver = Callable[[str], Any]
MemberOf = Callable[[Any, str], bool | None]


def compile(  # noqa: A001 - the word for it, as in `re.compile`
    text: str, spec: Spec, context: str = "Resource", *, strict: bool = False, cached: bool = True
) -> Expression:
    """The compiled expression for a focus of the FHIR type `context`: `Patient`, `Patient.contact`, `Reference`, …; `Resource` where unknown.

    Cached, unless the text is a caller's, who may vary it without end. Raises FhirPathError for a fault in the text, unknown functions and unknown
    types; `strict` also for elements that the types do not have, which otherwise are just never there. Costs about 30 µs the first time.
    """
    return _compile(text, _model(spec), context, strict) if cached else Expression(text, _model(spec), context, strict=strict)


def _model(spec: Spec) -> Model:
    model = _models.get(id(spec))
    if model is None:
        model = _models[id(spec)] = Model(spec)
    return model


@lru_cache(maxsize=_CACHED)
def _compile(text: str, model: Model, context: str, strict: bool) -> Expression:  # noqa: FBT001 - the cache's key
    return Expression(text, model, context, strict=strict)


class Expression:
    """A compiled expression. Safe to share between threads; every call has a state of its own.

    All calls take the focus as plain JSON values, or as a Node from another expression. `resource` is the resource that holds the focus and `root`
    the outermost one (they differ for contained resources); both default to the focus if it is a resource. `variables` are the values of further
    `%names`; `now` is the clock, without which `now()` and `today()` fail. `resolver` turns a reference into a resource or None; without one,
    `resolve()` knows the type that the reference itself tells. `member_of` answers `memberOf()` for a value and a value set.

    They raise FhirPathError where the data does not fit the expression, and (`too-costly`) beyond MAX_STEPS or when `budget`, which several
    evaluations may share, is used up.
    """

    def __init__(self, text: str, model: Model, context: str = "Resource", *, strict: bool = False) -> None:
        """Compiles; use `compile`, which caches. Raises FhirPathError as it does."""
        self.text = text
        self.context = context
        self._model = model
        syntax = parse(text)
        if strict:
            verify(syntax, model, context)
        self._run = translate(hoist(syntax), model)
        self._check: Check | None = None
        if context not in model.primitives and context not in {"Resource", "DomainResource"}:
            self._check = Predicates(model, context, self._general).check(syntax)

    def __repr__(self) -> str:
        return f"Expression({self.text!r}, {self.context})"

    def nodes(
        self,
        focus: Any,
        *,
        root: Any = None,
        resource: Any = None,
        variables: Mapping[str, Any] | None = None,
        now: datetime | None = None,
        resolver: Resolver | None = None,
        member_of: MemberOf | None = None,
        budget: Budget | None = None,
    ) -> list[Item]:
        """The result with types and places: Nodes for elements; str, bool, int, Decimal, Temporal and Quantity for what was computed."""
        model = self._model
        context = focus if focus.__class__ is Node else Node(focus, model.actual(self.context, focus))
        within = self._resource(resource) or (context if model.is_a(context.type, "Resource") else None)
        env = Env(model, context, within, self._resource(root) or within, None, now, resolver, member_of, budget)
        if variables:
            env.variables = {name: self._variable(value) for name, value in variables.items()}
        try:
            return self._run([context], env)
        except RecursionError:
            raise too_costly() from None
        finally:
            env.settle()

    def __call__(self, focus: Any, **rest: Any) -> list[Any]:
        """The result as plain values: the JSON of elements, and what was computed as `nodes` has it. Primitives without a value are left out."""
        found = [item.value if item.__class__ is Node else item for item in self.nodes(focus, **rest)]
        return [value for value in found if value is not None]

    def true(self, focus: Any, resource: Any = None, root: Any = None, budget: Budget | None = None, **rest: Any) -> bool:
        """Whether an invariant holds: its result is not false.

        Empty holds too. R4's invariants rely on it where an element is absent: ref-1 on a Reference with a display only, bdl-8 on an entry without
        fullUrl, adf-0 without a name; their later versions say so with an `exists() implies`.
        """
        if self._check is not None and not rest and type(focus) is dict:
            within = focus if resource is None else resource
            try:
                return self._check(focus, (within, within if root is None else root, budget or Budget())) is not False
            except (AttributeError, TypeError):
                # The JSON does not have the shape that its type says: the general way copes with any.
                pass
        return boolean(self.nodes(focus, resource=resource, root=root, budget=budget, **rest)) is not False

    def _general(self, part: Syntax) -> Check:
        """The condition that a part of the expression is, evaluated over Nodes."""
        run, model, context = translate(hoist(part), self._model), self._model, self.context

        def check(value: Any, within: Within) -> bool | None:
            focus = Node(value, context)
            resource = focus if within[0] is value else Node(within[0], model.actual("Resource", within[0]))
            root = resource if within[1] is within[0] else Node(within[1], model.actual("Resource", within[1]))
            env = Env(model, focus, resource, root, budget=within[2])
            try:
                return boolean(run([focus], env))
            except RecursionError:
                raise too_costly() from None
            finally:
                env.settle()

        return check

    def _resource(self, value: Any) -> Node | None:
        if value is None or value.__class__ is Node:
            return value
        return Node(value, self._model.actual("Resource", value))

    def _variable(self, value: Any) -> list[Item]:
        if isinstance(value, list):
            return [item for one in value for item in self._variable(one)]
        if isinstance(value, dict):
            return [Node(value, self._model.actual("Resource", value))]
        return [] if value is None else [Decimal(value) if isinstance(value, float) else value]


def locate(text: str, spec: Spec, resource: Any, budget: Budget | None = None) -> list[tuple[str | int, ...]]:
    """Where the elements that an expression selects stand in the JSON of a resource: keys and indexes from its root.

    Raises FhirPathError if the expression computes values or reaches into other resources, and (`too-costly`) when reading it, following it and
    writing down the places take more than the budget. A primitive that has only an extension is found at its own key (`birthDate`), although JSON
    has just `_birthDate`.
    """
    budget = budget or Budget()
    budget.spend(len(text))
    # Not cached: what callers send is theirs to vary, and a thousand long expressions take a gigabyte.
    model = _model(spec)
    context = Node(resource, model.actual("Resource", resource))
    found = Expression(text, model).nodes(context, budget=budget)
    budget.spend(_PLACE * len(found))
    places = []
    for item in found:
        if item.__class__ is not Node or item.top() is not context:
            raise FhirPathError(f"'{text}' does not select elements of the resource")
        places.append(item.path())
    return places
