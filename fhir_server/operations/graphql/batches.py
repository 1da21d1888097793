"""What a query takes from the record, put together so that a level of it costs a few statements, however many items it has.

https://hl7.org/fhir/R4/graphql.html#references, https://hl7.org/fhir/R4/graphql.html#searching
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlencode

from fhir_server import fhirjson
from fhir_server.interactions import Engine, Exchange
from fhir_server.interactions.engine import parse_parameters
from fhir_server.interactions.finding import Found, Page, find, prepared
from fhir_server.outcome import Outcome
from fhir_server.search import Query, cursor
from fhir_server.search.cursor import Position
from fhir_server.search.params.reference import ABSOLUTE, locate
from fhir_server.store import Snapshot

from .faults import Fault, placed
from .fields import Field, search_name

MAX_RESOURCES: Final = 5_000
"""Resources that one query may take from the record."""
MAX_BYTES: Final = 64_000_000
MAX_SEARCHES: Final = 50
"""Searches of one query; what refers to all items of a level is one."""
MAX_LIST: Final = 1_000
"""Resources of one list; a Connection has pages."""

_TOGETHER: Final = 500
"""Items whose referring resources are sought at a time."""
_COMMA: Final = re.compile(r"(?<!\\),")
# Their values are more than texts to compare with.
_VERBATIM: Final = frozenset({"_filter", "_sort", "_type"})

Json = dict[str, Any]
Key = tuple[str, str]


class Record:
    """The record within the grant and the limits of one request. Each resource is read once."""

    def __init__(self, engine: Engine, exchange: Exchange, db: Snapshot) -> None:
        """Takes the snapshot that all of a query is answered from."""
        self.engine = engine
        self.registry = engine.registry
        self.grant = exchange.grant
        self.db = db
        self._read: dict[Key, Json | None] = {}
        self._searches = self._resources = self._bytes = 0

    def located(self, reference: str) -> Key | None:
        """Type and id of a reference to this server, None for any other."""
        found = locate(reference, self.registry.context)
        return (self.registry.type_name(found[1]), found[0]) if found is not None and found[1] != ABSOLUTE else None

    def load(self, keys: Iterable[Key]) -> None:
        """Reads resources, those that were not read before, in one statement for each type. Raises Fault `too-costly`."""
        missing = [key for key in dict.fromkeys(keys) if key not in self._read]
        if self._resources + len(missing) > MAX_RESOURCES:
            raise _too_many()
        self._read.update(dict.fromkeys(missing))
        for version in self.db.read_many(missing):
            if version.body is not None:
                self._keep((version.type, version.id), version.body)

    def get(self, key: Key) -> Json | None:
        """A resource that was loaded; None where it is not there for this caller."""
        return self._read[key]

    def _keep(self, key: Key, body: bytes) -> Json:
        known = self._read.get(key)
        if known is None:
            self._resources += 1
            self._bytes += len(body)
            if self._resources > MAX_RESOURCES:
                raise _too_many()
            if self._bytes > MAX_BYTES:
                raise Fault(f"The query takes more than {MAX_BYTES // 1_000_000} MB of resources; ask for fewer", category="too-costly")
            known = self._read[key] = fhirjson.loads(body)
        return known

    def everything(self, each: Field, foci: Sequence[Key]) -> dict[Key | None, list[Json]]:
        """The resources of a list: all that match, or `_count` of them, by what they refer to; under None where nothing has to be referred to.

        One search for 500 foci. Raises Fault `too-costly` where there are more than MAX_LIST of them.
        """
        wanted = self._wanted(each)
        asked = min(each.args["_count"], MAX_LIST) if "_count" in each.args else None
        if not foci:
            return {None: self._listed(each, self._params(each), asked)}
        code = search_name(each.args["_reference"])
        found: dict[Key | None, list[Json]] = {focus: [] for focus in foci}
        for start in range(0, len(foci), _TOGETHER):
            part = foci[start : start + _TOGETHER]
            values = ",".join(f"{name}/{identity}" for name, identity in part)
            listed = self._listed(each, [*self._params(each), (code, values)], asked if len(foci) == 1 else None)
            for resource in listed:
                for target in part if len(part) == 1 else self.registry.references(resource, code):
                    if target in found and (wanted is None or len(found[target]) < wanted):
                        found[target].append(resource)
        return found

    def _wanted(self, each: Field) -> int | None:
        count = each.args.get("_count")
        if count is not None and (type(count) is not int or count < 0):
            raise Fault("_count is a whole number from 0", each.node)
        return count

    def _listed(self, each: Field, params: list[tuple[str, str]], asked: int | None) -> list[Json]:
        if asked == 0:
            return []
        query = self._query(each, params)
        page = self._find(each, replace(query, count=asked or MAX_LIST, summary=None, total="none"), None)
        if page.following is not None and asked is None:
            raise Fault(
                f"{each.name}List has more than {MAX_LIST:,} resources here; search for fewer, or page with {each.name}Connection",
                each.node,
                category="too-costly",
            )
        return [self._keep((found.type, found.id), found.body) for found in page.found]

    def connection(self, each: Field, focus: Key | None, *, counted: bool) -> tuple[Query, Position | None, Page, list[tuple[Found, Json]]]:
        """A page of a search, with the query, where it began and the resources; with their number if they are to be counted."""
        token = self.cursor_of(each)
        reference = [] if focus is None else [(search_name(each.args["_reference"]), f"{focus[0]}/{focus[1]}")]
        params, link = _unsealed(token, each) if token is not None else ([*self._params(each), *reference], "")
        query = self._query(each, params)
        position = self._position(each, query, link) if link else None
        if counted:
            query = replace(query, total="accurate")
        page = self._find(each, query, position)
        return query, position, page, [(found, self._keep((found.type, found.id), found.body)) for found in page.found]

    def cursor_of(self, each: Field) -> str | None:
        """The page that is asked for. Raises Fault for a cursor beside other arguments, which it brings with it."""
        token = each.args.get("cursor", each.args.get("_cursor"))
        if token is not None and (not isinstance(token, str) or set(each.args) - {"cursor", "_cursor", "fhirpath"}):
            raise Fault("A cursor stands alone: it brings the parameters of its search with it", each.node)
        return token

    def begin(self, each: Field) -> None:
        """Shows the record as it was when the cursor of a field was made."""
        token = self.cursor_of(each)
        params, link = _unsealed(token, each) if token is not None else ([], "")
        if link:
            position = self._position(each, self._query(each, params), link)
            self.db.rewind(position.moment)

    def sealed(self, query: Query, position: Position | None) -> str:
        """The cursor of a page: the search with where the page begins; the first page for None."""
        link = cursor.encode(position, key=self.engine.page_key, query=query.text, actor=self.grant.text) if position is not None else ""
        return base64.urlsafe_b64encode(urlencode(query.applied).encode()).rstrip(b"=").decode() + "." + link

    def _position(self, each: Field, query: Query, link: str) -> Position:
        try:
            return cursor.decode(link, key=self.engine.page_key, query=query.text, actor=self.grant.text)
        except Outcome as outcome:
            raise placed(outcome, each.node) from None

    def _params(self, each: Field) -> list[tuple[str, str]]:
        return [(search_name(name), _text(name, value, each)) for name, value in each.args.items() if name not in {"_reference", "fhirpath"}]

    def _query(self, each: Field, params: list[tuple[str, str]]) -> Query:
        try:
            return self.registry.parse(each.name, params, strict=True, now=self.engine.store.clock())
        except Outcome as outcome:
            raise placed(outcome, each.node) from None

    def _find(self, each: Field, query: Query, position: Position | None) -> Page:
        self._searches += 1
        if self._searches > MAX_SEARCHES:
            raise Fault(f"The query takes more than {MAX_SEARCHES} searches; send it in parts", each.node, category="too-costly")
        try:
            return find(self.engine, self.db, prepared(self.engine, self.db, query, self.grant), self.grant, position)
        except Outcome as outcome:
            raise placed(outcome, each.node) from None


def _text(name: str, value: Any, each: Field) -> str:
    """The value of a search parameter: a list is what alternatives are, and a comma in one is a comma."""
    if isinstance(value, list):
        return ",".join(_text(name, part, each) for part in value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int | Decimal):
        raise Fault(f"'{name}' takes a text, a number, or a list of them", each.node)
    text = str(value)
    return text if name in _VERBATIM else _COMMA.sub("\\,", text)


def _unsealed(token: str, each: Field) -> tuple[list[tuple[str, str]], str]:
    head, _, link = token.partition(".")
    try:
        return parse_parameters(base64.urlsafe_b64decode(head.encode("ascii") + b"=" * (-len(head) % 4)).decode()), link
    except (binascii.Error, UnicodeError, Outcome):
        raise Fault("The cursor was changed, or belongs to another search or caller; start the search again", each.node) from None


def _too_many() -> Fault:
    return Fault(f"The query takes more than {MAX_RESOURCES:,} resources; ask for fewer, or page with a Connection", category="too-costly")
