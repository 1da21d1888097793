"""Pages of lists: where one goes on, and the link that leads there. https://www.rfc-editor.org/rfc/rfc8288"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode

from flask import Response, request

from fhir_server.search import cursor

from .exchange import address_of, answered
from .office import caller, office

MAX_PAGE: Final = 200
_PAGING: Final = frozenset({"limit", "cursor"})


def conditions(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What is asked for besides a page: the conditions of the list."""
    return {name: value for name, value in asked.items() if name not in _PAGING}


def position(asked: Mapping[str, Any]) -> tuple[str | None, ...] | None:
    """The sort keys of the last row that was shown, None before the first page. Raises Outcome `parameter` for a cursor that is none."""
    text = asked.get("cursor")
    if text is None:
        return None
    return cursor.decode(text, key=office().page_key, query=_query(asked), actor=caller().text).keys


def number_before(asked: Mapping[str, Any]) -> int | None:
    """The number of the last row that was shown, of a list by numbers. Raises as `position`."""
    keys = position(asked)
    return int(str(keys[0])) if keys else None


def moment_before(asked: Mapping[str, Any]) -> tuple[datetime, str] | None:
    """The moment and the id of the last row that was shown, of a list by both. Raises as `position`."""
    keys = position(asked)
    return (datetime.fromisoformat(str(keys[0])), str(keys[1])) if keys else None


def paged(asked: Mapping[str, Any], rows: Sequence[Any], keys: Callable[[Any], tuple[str, ...]], shown: Callable[[Any], Any]) -> Response:
    """A page of `rows`, of which there is one more than the limit where another page follows; `next` and the Link header lead there."""
    limit = asked["limit"]
    body: dict[str, Any] = {"items": [shown(row) for row in rows[:limit]], "next": None}
    if len(rows) <= limit:
        return answered(body)
    following = cursor_of(asked, keys(rows[limit - 1]))
    query = urlencode([(name, _text(value)) for name, value in asked.items() if name != "cursor"] + [("cursor", following)])
    body["next"] = f"{address_of(request.path)}?{query}"
    return answered(body, headers={"Link": f'<{body["next"]}>; rel="next"'})


def cursor_of(asked: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    """Where a list goes on behind the row with these keys, as `position` reads it."""
    return cursor.encode(cursor.Position(keys, 0), key=office().page_key, query=_query(asked), actor=caller().text)


def _query(asked: Mapping[str, Any]) -> str:
    return request.path + repr(sorted((name, _text(value)) for name, value in asked.items() if name not in ("cursor", "limit")))


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if isinstance(value, datetime) else str(value)
