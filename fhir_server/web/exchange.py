"""JSON in and out: bodies within a limit and with the fields that were asked for, faults as problem details.

https://www.rfc-editor.org/rfc/rfc9457
"""

from __future__ import annotations

import json
from ipaddress import ip_address
from typing import Any, Final

from flask import Response, request

from fhir_server import problems
from fhir_server.outcome import Outcome

MAX_BODY: Final = 16 * 1024
"""Bytes."""
_LONGEST: Final = 1000  # Characters of a field.
_NO_STORE: Final = {"Cache-Control": "no-store"}


def read_fields(*needed: str, optional: tuple[str, ...] = ()) -> dict[str, str]:
    """The texts of a JSON object in the request's body; those that are optional only where they are there, and not null.

    Raises Outcome `media-type`, `too-large`, `malformed` for what is no JSON object, `parameter` for a field that is missing, empty or no text.
    """
    body = _read_object()
    found = {name: _text(name, body.get(name)) for name in needed}
    return found | {name: _text(name, body[name]) for name in optional if body.get(name) is not None}


def read_flags(*needed: str) -> dict[str, bool]:
    """The truth values of a JSON object in the request's body. Raises Outcome as `read_fields`."""
    body = _read_object()
    for name in needed:
        if not isinstance(body.get(name), bool):
            raise Outcome("parameter", f"'{name}' is needed, as true or false")
    return {name: body[name] for name in needed}


def read_body(media_type: str) -> bytes:
    """The request's body. Raises Outcome `media-type` for one of another type, `too-large` above MAX_BODY."""
    if request.mimetype != media_type:
        raise Outcome("media-type", f"The body has to be {media_type}")
    if (request.content_length or 0) > MAX_BODY:
        raise _too_large()
    # Nothing is done before this line: the body may still be on its way, and the request is put anew when it is there.
    data: bytes = request.environ["wsgi.input"].read(MAX_BODY + 1)
    if len(data) > MAX_BODY:
        raise _too_large()
    return data


def answer(body: Any = None, status: int = 200) -> Response:
    """A JSON answer that nobody keeps; without a body 204."""
    if body is None:
        response = Response(None, 204, _NO_STORE)
        # There is nothing that could have a type.
        del response.headers["Content-Type"]
        return response
    return Response(json.dumps(body, ensure_ascii=False), status, _NO_STORE, content_type="application/json")


def is_from_here() -> bool:
    """Whether the request was sent on this machine. What a proxy on it passes on comes from elsewhere."""
    if "X-Forwarded-For" in request.headers or "Forwarded" in request.headers:
        return False
    try:
        return ip_address(request.environ.get("REMOTE_ADDR", "")).is_loopback
    except ValueError:
        return False


def outcome_of(error: Exception) -> Outcome:
    """The fault that an exception is; what nobody foresaw is logged, and told by its request id alone."""
    return problems.outcome_of(error, request.environ.get("fhir_server.request_id", ""))


def problem(error: Exception) -> Response:
    """The answer to a fault: problem details whose `error` is the fault's category, as `unauthenticated`."""
    return Response(*problems.answer_to(outcome_of(error)), content_type=problems.MEDIA_TYPE)


def _read_object() -> dict[str, Any]:
    try:
        body = json.loads(read_body("application/json"))
    except (ValueError, RecursionError):
        raise Outcome("malformed", "The body is not JSON") from None
    if not isinstance(body, dict):
        raise Outcome("malformed", "The body has to be a JSON object")
    return body


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise Outcome("parameter", f"'{name}' is needed, as a text")
    if len(value) > _LONGEST:
        raise Outcome("parameter", f"'{name}' is longer than {_LONGEST} characters")
    # Half a surrogate pair can be written in JSON, but stands for no character.
    if any(each == "\0" or "\ud800" <= each <= "\udfff" for each in value):
        raise Outcome("parameter", f"'{name}' has characters that are none")
    return value


def _too_large() -> Outcome:
    return Outcome("too-large", f"The body is larger than {MAX_BODY // 1024} KiB")
