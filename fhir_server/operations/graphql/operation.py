"""`$graphql`: a query answered level by level. https://hl7.org/fhir/R4/graphql.html, https://hl7.org/fhir/R4/resource-operation-graphql.html

All references of one level are read together, and so is what refers to its items; then the level below begins. An element that a resource lacks is
not in the output, as on the specification's page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from fhir_server import fhirjson
from fhir_server.interactions import Engine, Exchange, Reply
from fhir_server.operations.parameters import stored
from fhir_server.outcome import Outcome
from fhir_server.store import Snapshot
from fhir_server.store.ids import ID_RULE, is_id

from .batches import Json, Key, Record
from .choice import Choice
from .document import Document, read
from .faults import CONTENT_TYPE, Fault, fault_reply
from .fields import QUERY, Field, Selections, display_name
from .output import Item, Later, Sliced, shaped
from .selections import Fields

MAX_VALUES: Final = 200_000
"""Fields of all items together: about a second."""


def graphql(engine: Engine, exchange: Exchange) -> Reply:
    """200 and `data`; for a query that is refused the status of its fault, and `errors` with an OperationOutcome each.

    Every reference that cannot be followed is such a fault unless it is said to be optional. What is read is within the caller's grant and of one
    moment. One statement for each type that the references of a level lead to, and what a search takes for each list of a level.
    Raises Outcome `unavailable` where the database is away.
    """
    try:
        document = read(engine, exchange)
        fields = Fields(document, engine.registry)
        root = QUERY if exchange.type is None else engine.known_type(exchange.type)
        fields.check((document.root,), root)
        with engine.store.snapshot(exchange.grant) as db:
            data = _Run(engine, exchange, db, document, fields).answer(root)
    except Outcome as outcome:
        if outcome.status >= 500:  # noqa: PLR2004 - the server's own
            raise
        return fault_reply(outcome)
    return Reply(200, fhirjson.dumps({"data": data}), content_type=CONTENT_TYPE)


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A field whose value another statement brings: a reference with the resource that it stands in, or a search with the one it is about."""

    field: Field
    later: Later
    container: Json | None = None
    key: Key | None = None
    reference: str | None = None


class _Run:
    def __init__(self, engine: Engine, exchange: Exchange, db: Snapshot, document: Document, fields: Fields) -> None:
        self.engine = engine
        self.exchange = exchange
        self.db = db
        self.document = document
        self.fields = fields
        self.record = Record(engine, exchange, db)
        self.choice = Choice(fields.meanings, engine.store.clock())
        self.waiting: list[_Waiting] = []
        self.left = MAX_VALUES

    def answer(self, root: str) -> Json:
        """The data of the whole query."""
        item = Item()
        selections = (self.document.root,)
        if root == QUERY:
            self._begin(selections, item)
        else:
            focus = stored(self.engine, self.exchange, self.db)
            assert focus is not None
            item = self._resource(selections, focus)
        while self.waiting:
            level, self.waiting = self.waiting, []
            self._follow([each for each in level if each.field.kind in {"resource", "read"}])
            self._search([each for each in level if each.field.kind == "list"])
            self._page([each for each in level if each.field.kind == "connection"])
        return shaped(item)

    def _begin(self, selections: Selections, item: Item) -> None:
        """The fields of the whole system. A cursor decides of which moment all of them are."""
        asked = self.fields.of(selections, QUERY)
        paged = [each for each in asked if each.kind == "connection" and self.record.cursor_of(each) is not None]
        if len(paged) > 1:
            raise Fault("Only one cursor goes with a query: each is of a moment of its own", paged[1].node)
        for each in paged:
            self.record.begin(each)
        for each in asked:
            if each.kind == "typename":
                item.found.append((each, QUERY))
            else:
                key = (each.name, self._identity(each)) if each.kind == "read" else None
                self._wait(item, _Waiting(each, Later(), key=key))

    def _identity(self, each: Field) -> str:
        text = str(each.args["id"])
        if not is_id(text):
            raise Fault(f"'{text[:80]}' is not an id: {ID_RULE}", each.node, code="value")
        return text

    def _wait(self, item: Item, waiting: _Waiting) -> None:
        item.found.append((waiting.field, waiting.later))
        self.waiting.append(waiting)

    def _resource(self, selections: Selections, resource: Json, container: Json | None = None) -> Item:
        return self._item(selections, resource["resourceType"], resource, container or resource, lenient=True)

    def _item(
        self, selections: Selections, type_name: str, value: Json, container: Json, targets: tuple[str, ...] = (), *, lenient: bool = False
    ) -> Item:
        """The fields of a value of a type, which stands within `container`."""
        item = Item()
        asked = self.fields.of(selections, type_name, targets, lenient=lenient)
        self.left -= 1 + len(asked)
        if self.left < 0:
            raise Fault(f"The answer would have more than {MAX_VALUES:,} values; ask for less", category="too-costly")
        for each in asked:
            match each.kind:
                case "typename":
                    item.found.append((each, display_name(type_name)))
                case "plain":
                    item.found.append((each, type_name))
                case "resource":
                    self._wait(item, _Waiting(each, Later(), container, reference=value.get("reference")))
                case "list" | "connection":
                    # What is contained has no identity that others could refer to.
                    if value is container and "id" in value:
                        self._wait(item, _Waiting(each, Later(), container, key=(type_name, value["id"])))
                case _:
                    self._element(item, each, value.get(each.name), container)
        return item

    def _element(self, item: Item, each: Field, value: Any, container: Json) -> None:
        if value is None:
            return
        chosen = list(self.choice.chosen(each, value if isinstance(value, list) else [value], container))
        if not chosen:
            return
        made = chosen if each.kind == "primitive" else [self._complex(each, part, container) for part in chosen]
        self._put(item, each, chosen, made, isinstance(value, list))

    def _put(self, item: Item, each: Field, chosen: Sequence[Any], made: Sequence[Any], many: bool) -> None:  # noqa: FBT001 - of the value
        if each.slice is not None:
            suffixes = [self.choice.suffix(each, place, part) for place, part in enumerate(chosen)]
            item.found.append((each, [Sliced(suffix, [part] if many else part) for suffix, part in zip(suffixes, made, strict=True)]))
        else:
            item.found.append((each, list(made) if many else made[0]))

    def _complex(self, each: Field, value: Any, container: Json) -> Any:
        if not isinstance(value, dict):
            return None
        if each.type == "Resource":
            return self._resource(each.selections, value, container if value in container.get("contained", ()) else None)
        return self._item(each.selections, each.type, value, container, each.targets)

    def _follow(self, level: Sequence[_Waiting]) -> None:
        """References, and resources by id."""
        keys = {id(each): self.record.located(each.reference) if each.key is None and each.reference else each.key for each in level}
        self.record.load(key for key in keys.values() if key is not None)
        for each in level:
            key = keys[id(each)]
            container = None
            found = self.record.get(key) if key is not None else None
            if each.reference is not None and each.reference.startswith("#"):
                found, container = _contained(each.reference, each.container), each.container
            if found is None:
                self._absent(each)
            elif "type" not in each.field.args or found["resourceType"] == each.field.args["type"]:
                self._give(each, found, container)

    def _give(self, each: _Waiting, found: Json, container: Json | None) -> None:
        made = self._resource(each.field.selections, found, container if container is not found else None)
        inner = Item()
        self._put(inner, each.field, [found], [made], many=False)
        each.later.put(inner.found[0][1])

    def _absent(self, each: _Waiting) -> None:
        if each.field.args.get("optional") is True:
            return
        if each.key is not None:
            raise Fault(f"{each.key[0]}/{each.key[1][:80]} does not exist", each.field.node, code="not-found")
        told = f"'{each.reference[:200]}' cannot be followed" if each.reference else "A reference without an address cannot be followed"
        raise Fault(f"{told}; say resource(optional: true) to leave out what is not there", each.field.node, code="not-found")

    def _search(self, level: Sequence[_Waiting]) -> None:
        """Lists: all of a field in one search."""
        by_field: dict[int, list[_Waiting]] = {}
        for each in level:
            by_field.setdefault(id(each.field), []).append(each)
        for group in by_field.values():
            asked = group[0].field
            found = self.record.everything(asked, list(dict.fromkeys(each.key for each in group if each.key is not None)))
            for each in group:
                listed = [one for one in found[each.key] if self.choice.matches(asked, one, one)][: 1 if asked.first else None]
                inner = Item()
                self._put(inner, asked, listed, [self._resource(asked.selections, one) for one in listed], many=True)
                each.later.put(inner.found[0][1])

    def _page(self, level: Sequence[_Waiting]) -> None:
        """Connections: a search each, so that within a list of resources there is none."""
        seen: set[int] = set()
        for each in level:
            if id(each.field) in seen:
                raise Fault(
                    f"{each.field.name}Connection is possible within one resource only; {each.field.name}List within several", each.field.node
                )
            seen.add(id(each.field))
            inner = Item()
            self._put(inner, each.field, [None], [self._connection(each)], many=False)
            each.later.put(inner.found[0][1])

    def _connection(self, each: _Waiting) -> Item:
        asked = self.fields.of(each.field.selections, each.field.type)
        counted = any(part.name == "count" for part in asked)
        query, position, page, resources = self.record.connection(each.field, each.key, counted=counted)
        shown = position.shown if position is not None else 0
        facts = {
            "count": page.total,
            "offset": shown,
            "pagesize": query.count,
            "pageSize": query.count,
            "first": self.record.sealed(query, None),
            "previous": None,
            "next": self.record.sealed(query, page.following) if page.following is not None else None,
            "last": None,
        }
        item = Item()
        for part in asked:
            if part.name == "edges":
                chosen = [(found, one) for found, one in resources if self.choice.matches(each.field, one, one)][: 1 if part.first else None]
                inner = Item()
                self._put(inner, part, chosen, [self._edge(part, found.score, one) for found, one in chosen], many=True)
                item.found += inner.found
            else:
                item.found.append((part, display_name(each.field.type) if part.kind == "typename" else facts[part.name]))
        return item

    def _edge(self, edges: Field, score: float | None, resource: Json) -> Item:
        item = Item()
        facts = {"mode": "match", "score": score}
        for part in self.fields.of(edges.selections, edges.type):
            if part.kind == "inner":
                self._put(item, part, [resource], [self._resource(part.selections, resource)], many=False)
            else:
                item.found.append((part, edges.type if part.kind == "typename" else facts[part.name]))
        return item


def _contained(reference: str, container: Json | None) -> Json | None:
    """What a reference within a resource means there; `#` is the resource itself."""
    if container is None or reference == "#":
        return container
    return next((one for one in container.get("contained", ()) if one.get("id") == reference[1:]), None)
