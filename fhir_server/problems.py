"""Faults as problem details, for the ways in that speak no FHIR.

https://www.rfc-editor.org/rfc/rfc9457
"""

from __future__ import annotations

import json
import logging
from http import HTTPStatus
from typing import Final

from fhir_server.outcome import STATUS, Category, Outcome

MEDIA_TYPE: Final = "application/problem+json"

_CATEGORIES: Final[dict[int, Category]] = {status: name for name, (status, _) in reversed(STATUS.items())}

_log = logging.getLogger("fhir_server.problems")


def outcome_of(error: Exception, request_id: str) -> Outcome:
    """The fault that an exception is.

    What is neither an Outcome nor a refusal of the HTTP library (which has a `code`, and `valid_methods` where another method is meant) is logged,
    and told by the request's id alone.
    """
    if isinstance(error, Outcome):
        return error
    code = getattr(error, "code", None)
    if isinstance(code, int):
        allowed = getattr(error, "valid_methods", None)
        headers = {"Allow": ", ".join(sorted(allowed))} if allowed else {}
        return Outcome(_CATEGORIES.get(code, "malformed"), str(getattr(error, "description", None) or "The request cannot be read"), headers=headers)
    _log.error("request %s failed", request_id, exc_info=error)
    return Outcome("internal", f"Something went wrong here; the server's log tells what, under the request id {request_id}")


def answer_to(outcome: Outcome) -> tuple[str, int, dict[str, str]]:
    """Body, status and headers of the answer to a fault; `error` in the body is the fault's category, as `unauthenticated`."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(outcome.status).phrase,
        "status": outcome.status,
        "detail": outcome.issues[0].diagnostics,
        "error": outcome.category,
    }
    return json.dumps(body, ensure_ascii=False), outcome.status, outcome.headers | {"Cache-Control": "no-store"}
