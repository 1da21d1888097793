"""A group of addresses: for administrators alone, with strict arguments, and with what each of its answers may be in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import flask_smorest
from flask import Response, current_app, request
from werkzeug.exceptions import HTTPException

from .exchange import MAX_BODY, Parser, answered, problem, read_body
from .office import admit

PREFIX: Final = "/admin/api/v1"
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
NOTHING: Final = "admin.nothing"
"""The rule that answers at every address where there is nothing else."""

_ETAG: Final = {"description": "Names the state that is shown.", "required": True, "schema": {"type": "string"}}
_LOCATION: Final = {"description": "The address of what was made.", "required": True, "schema": {"type": "string"}}
_IF_MATCH: Final = {
    "in": "header",
    "name": "If-Match",
    "description": "The ETag that was read: where it has changed since, nothing is done (412).",
    "schema": {"type": "string"},
}
_IDEMPOTENCY: Final = {
    "in": "header",
    "name": "Idempotency-Key",
    "description": "A text of your own making. Sent again within a day with the same request it gives the same answer, and nothing is done twice.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
}


class Routes(flask_smorest.Blueprint):
    """The addresses of one group below the prefix. Decorators come in the order of what they do: route, arguments, answer, headers."""

    ARGUMENTS_PARSER = Parser()

    def __init__(self, name: str, description: str, *, max_body: int = MAX_BODY) -> None:
        """`name` is the group's in the OpenAPI document too; `max_body`, in bytes, is the most that one of its bodies has."""
        super().__init__(name, __name__, url_prefix=PREFIX, description=description)
        self.before_request(partial(_begin, max_body))
        self.register_error_handler(Exception, problem)

    def tagged(self, schema: Any) -> Callable[[Any], Any]:
        """Answers 200 with an ETag."""
        return self._answers(200, schema, {"ETag": _ETAG})

    def creates(self, schema: Any) -> Callable[[Any], Any]:
        """Answers 201 with an address and an ETag; takes an Idempotency-Key."""
        decorate = self._answers(201, schema, {"ETag": _ETAG, "Location": _LOCATION})
        return lambda function: decorate(self.idempotent(function))

    def empty(self, function: Any) -> Any:
        """Answers 204."""
        return self.response(204)(function)

    def conditional(self, function: Any) -> Any:
        """Takes If-Match."""
        return self.doc(parameters=[_IF_MATCH])(function)

    def idempotent(self, function: Any) -> Any:
        """Takes an Idempotency-Key."""
        return self.doc(parameters=[_IDEMPOTENCY])(function)

    def _answers(self, status: int, schema: Any, headers: dict[str, Any]) -> Callable[[Any], Any]:
        decorate: Callable[[Any], Any] = self.response(status, schema, headers=headers)
        return decorate


def methods_here() -> list[str]:
    """The methods that the address of this request has, but for the rule that answers at every address."""
    adapter = current_app.url_map.bind("")
    found = []
    for method in METHODS:
        try:
            if adapter.match(request.path, method)[0] != NOTHING:
                found.append(method)
        except HTTPException:
            continue
    return found


def _begin(max_body: int) -> Response | None:
    request.environ["fhir_server.action"] = "admin"
    admit()
    if request.method == "OPTIONS":
        return answered(None, 204, {"Allow": ", ".join(methods_here())})
    read_body(max_body)
    return None
