"""JSON Patch on decoded resources.

https://hl7.org/fhir/R4/http.html#patch, RFC 6902, RFC 6901
"""

from __future__ import annotations

import copy
from typing import Any, Final

import jsonpatch
import jsonpointer

from fhir_server.outcome import Outcome

from .bounds import MAX_OPERATIONS, MAX_VALUES, measure, require_same_identity, without_empty

_OPERATIONS: Final = frozenset({"add", "remove", "replace", "move", "copy", "test"})
_NEEDS: Final = {"add": "value", "replace": "value", "test": "value", "move": "from", "copy": "from"}


def apply(patch: Any, resource: dict[str, Any]) -> dict[str, Any]:
    """The resource after every operation of the patch; `resource` itself is left as it is, numbers keep their text.

    Arrays and objects that a removal has emptied are left out of the result, since FHIR has no empty ones.
    All or nothing. Raises Outcome `malformed` for what is not a JSON Patch, `invalid` for a `test` that fails, a path that is not there
    or a change of id, resourceType or meta.versionId, `too-large` for more than 1,000 operations or a result of a million values.
    """
    operations = _checked(patch)
    room = MAX_VALUES - measure(resource)
    document: Any = copy.deepcopy(resource)
    for index, operation in enumerate(operations):
        try:
            if operation["op"] == "copy":
                room -= measure(jsonpointer.resolve_pointer(document, operation["from"]), limit=max(room, 0))
            elif operation["op"] in ("add", "replace"):
                room -= measure(operation["value"], limit=max(room, 0))
            document = jsonpatch.JsonPatch([operation]).apply(document, in_place=True)
        except jsonpatch.InvalidJsonPatch as error:
            raise Outcome("malformed", f"Operation {index} of the patch: {_short(str(error))}") from None
        except jsonpatch.JsonPatchTestFailed:
            raise Outcome("invalid", f"Operation {index} of the patch: the value at '{_short(operation['path'])}' is another one") from None
        except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException) as error:
            where = f"({operation['op']} '{_short(operation['path'])}')"
            raise Outcome("invalid", f"Operation {index} of the patch {where}: {_short(str(error))}") from None
        except (TypeError, AttributeError, RecursionError):
            raise Outcome("invalid", f"Operation {index} of the patch cannot be applied at '{_short(operation['path'])}'") from None
    if any(operation["op"] in ("remove", "move") for operation in operations):
        document = without_empty(document)
    measure(document)
    require_same_identity(resource, document)
    result: dict[str, Any] = document
    return result


def _checked(patch: Any) -> list[dict[str, Any]]:
    if type(patch) is not list:
        raise Outcome("malformed", "A JSON Patch is an array of operations")
    if len(patch) > MAX_OPERATIONS:
        raise Outcome("too-large", f"A patch may have {MAX_OPERATIONS:,} operations; this one has {len(patch):,}")
    for index, operation in enumerate(patch):
        if type(operation) is not dict:
            raise Outcome("malformed", f"Operation {index} of the patch is not an object")
        op = operation.get("op")
        if type(op) is not str or op not in _OPERATIONS:
            raise Outcome("malformed", f"Operation {index} of the patch: 'op' is one of {', '.join(sorted(_OPERATIONS))}")
        for key in ("path", _NEEDS.get(op, "path")):
            if key not in operation:
                raise Outcome("malformed", f"Operation {index} of the patch: '{op}' needs '{key}'")
            if key != "value":
                _require_pointer(operation[key], index, key)
    return patch


def _require_pointer(pointer: Any, index: int, key: str) -> None:
    if type(pointer) is not str:
        raise Outcome("malformed", f"Operation {index} of the patch: '{key}' is a string")
    try:
        jsonpointer.JsonPointer(pointer)
    except jsonpointer.JsonPointerException as error:
        raise Outcome("malformed", f"Operation {index} of the patch: '{key}' is not a JSON Pointer: {_short(str(error))}") from None


def _short(text: str) -> str:
    return text if len(text) <= 120 else text[:120] + "…"  # noqa: PLR2004 - enough to recognise it
