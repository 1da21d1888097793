"""What both kinds of patch are held to: how much they may do, how large the result may be, and what they may not touch.

https://hl7.org/fhir/R4/http.html#patch
"""

from __future__ import annotations

from typing import Any, Final

from fhir_server.outcome import Outcome

MAX_OPERATIONS: Final = 1_000
MAX_VALUES: Final = 1_000_000
"""Values of a patched resource: objects, arrays and primitives. Real resources have fewer than 100,000."""
MAX_NESTING: Final = 400
"""Objects and arrays inside each other: twice what a valid resource may have, well inside what recursion can follow."""


def measure(value: Any, *, limit: int = MAX_VALUES) -> int:
    """How many values a JSON tree has. Raises Outcome `too-large` beyond `limit` and for nesting beyond MAX_NESTING."""
    count, depth, level = 0, 0, [value]
    while level:
        count += len(level)
        depth += 1
        if count > limit or depth > MAX_NESTING:
            raise Outcome("too-large", f"A patched resource may have {MAX_VALUES:,} values, nested {MAX_NESTING} deep")
        below: list[Any] = []
        for item in level:
            if type(item) is dict:
                below.extend(item.values())
            elif type(item) is list:
                below.extend(item)
        level = below
    return count


def without_empty(value: Any) -> Any:
    """The tree without empty objects and arrays, at any depth; the root stays."""
    if type(value) is dict:
        kept = ((key, without_empty(item)) for key, item in value.items())
        return {key: item for key, item in kept if type(item) not in (dict, list) or item}
    if type(value) is list:
        return [item for item in map(without_empty, value) if type(item) not in (dict, list) or item]
    return value


def require_same_identity(before: dict[str, Any], after: Any) -> None:
    """Returns if the patch left alone what the server gives. Raises Outcome `invalid` that names the element otherwise."""
    if type(after) is not dict:
        raise Outcome("invalid", "The patched document is no longer a resource")
    for key in ("resourceType", "id"):
        if after.get(key) != before.get(key):
            raise Outcome("invalid", f"A patch may not change '{key}'", expression=f"{before.get('resourceType', 'Resource')}.{key}")
    stated, meta = before.get("meta"), after.get("meta")
    old = stated.get("versionId") if type(stated) is dict else None
    new = meta.get("versionId") if type(meta) is dict else None
    if new is not None and new != old:
        raise Outcome("invalid", "A patch may not change 'meta.versionId'", expression=f"{before.get('resourceType', 'Resource')}.meta.versionId")
