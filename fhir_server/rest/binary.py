"""Binary as what it holds: read in its own media type, and written as plain bytes.

https://hl7.org/fhir/R4/binary.html#rest
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, b64encode
from dataclasses import replace
from typing import Any, Final

from fhir_server import fhirjson
from fhir_server.interactions import Reply
from fhir_server.outcome import Outcome

from .body import read_bytes
from .negotiate import MAX_HEADER, is_fhir, is_named_fhir, ranked

_PLAIN: Final = "application/octet-stream"
# A media type that may stand in a header; what a resource holds may have any character.
_MEDIA_TYPE: Final = re.compile(r"[A-Za-z0-9!#$&^_.+\-]+/[A-Za-z0-9!#$&^_.+\-]+(; ?[A-Za-z0-9!#$&^_.+\-]+=[A-Za-z0-9!#$&^_.+\-\"' ]*)*")


def is_content(content_type: str) -> bool:
    """Whether a body of this type that is written to Binary is what it shall hold, and not the resource."""
    return bool(content_type) and not is_fhir(content_type)


def read_content(environ: dict[str, Any], limit: int, identity: str | None) -> dict[str, Any]:
    """The Binary of a body; X-Security-Context says whose it is. Raises Outcome as `read_bytes`, and `parameter` for a type that is none."""
    content_type = environ["CONTENT_TYPE"].strip()[:MAX_HEADER]
    if not _MEDIA_TYPE.fullmatch(content_type):
        raise Outcome("media-type", f"'{content_type[:80]}' is not a media type, as application/pdf is")
    made: dict[str, Any] = {"resourceType": "Binary", **({"id": identity} if identity is not None else {}), "contentType": content_type}
    if context := environ.get("HTTP_X_SECURITY_CONTEXT", "").strip():
        made["securityContext"] = {"reference": context}
    return {**made, "data": b64encode(read_bytes(environ, limit)).decode("ascii")}


def as_content(reply: Reply, accept: str) -> Reply:
    """The reply to a read of a Binary as a caller wants it who has sent no `_format`: the resource where that is named, else what it holds.

    Raises Outcome `not-acceptable` where they want neither.
    """
    if reply.body is None:
        return reply
    resource = fhirjson.loads(reply.body)
    stated = resource.get("contentType", _PLAIN)
    content_type = stated if len(stated) <= MAX_HEADER and _MEDIA_TYPE.fullmatch(stated) else _PLAIN
    if not _prefers_content(accept, content_type.partition(";")[0].strip().lower()):
        return reply
    try:
        content = b64decode("".join(resource.get("data", "").split()))
    except (binascii.Error, ValueError):
        return reply
    return replace(reply, body=content, content_type=content_type)


def _prefers_content(accept: str, essence: str) -> bool:
    """What is accepted, the best first: FHIR by name is the resource, the type or a range of it the content, plain JSON or XML the resource."""
    if not accept.strip():
        return True
    for wanted in ranked(accept):
        if is_named_fhir(wanted):
            return False
        if wanted in (essence, "*/*", "*") or (wanted.endswith("/*") and essence.startswith(wanted[:-1])):
            return True
        if is_fhir(wanted):
            return False
    raise Outcome("not-acceptable", f"None of '{accept[:200]}' is offered here; this Binary is {essence}, or application/fhir+json as a resource")
