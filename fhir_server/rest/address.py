"""What a method on an address means.

https://hl7.org/fhir/R4/http.html#summary, https://hl7.org/fhir/R4/operations.html#executing
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Final, Literal, NamedTuple

from fhir_server.interactions.exchange import Interaction
from fhir_server.outcome import Outcome
from fhir_server.store.ids import ID_RULE, is_id

Action = Interaction | Literal["discovery"]

# Dots alone are no id in an address: on their way clients and proxies take them for steps up.
_OPERATION: Final = re.compile(r"\$[A-Za-z][A-Za-z0-9\-]{0,63}")

_METADATA: Final[dict[str, Action]] = {"GET": "capabilities"}
_DISCOVERY: Final[dict[str, Action]] = {"GET": "discovery"}
_SYSTEM: Final[dict[str, Action]] = {"GET": "search", "POST": "bundle"}
_TYPE: Final[dict[str, Action]] = {"GET": "search", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_INSTANCE: Final[dict[str, Action]] = {"GET": "read", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
# Events are added, and never changed.
_EVENTS: Final[dict[str, Action]] = {"GET": "search", "POST": "create"}
_EVENT: Final[dict[str, Action]] = {"GET": "read"}
_VERSION: Final[dict[str, Action]] = {"GET": "vread"}
_HISTORY: Final[dict[str, Action]] = {"GET": "history"}
_SEARCH: Final[dict[str, Action]] = {"POST": "search"}
_COMPARTMENT: Final[dict[str, Action]] = {"GET": "search"}
_OPERATE: Final[dict[str, Action]] = {"GET": "operation", "POST": "operation"}
# A bulk export, which is asked after and ended.
_EXPORT: Final[dict[str, Action]] = {"GET": "operation", "DELETE": "operation"}


class Target(NamedTuple):
    """What is asked for. `operation` is a name without its dollar sign; `form` is set where parameters come in the body.

    `member` is the type, or `*`, that is sought in the compartment of `type` and `id`.
    """

    action: Action
    type: str | None = None
    id: str | None = None
    version: str | None = None
    operation: str | None = None
    form: bool = False
    member: str | None = None

    @property
    def is_binary(self) -> bool:
        """Whether it is a Binary that is read, which is answered as what it holds."""
        return self.type == "Binary" and self.action in {"read", "vread"}


OPEN: Final = frozenset({"metadata", ".well-known/smart-configuration"})
"""The addresses below the base that answer without a token."""


def resolve(types: frozenset[str], method: str, path: str) -> Target:  # noqa: PLR0911 - one line for each form of address
    """The target of a method on a path below the base, `Patient/1` for one; HEAD is as GET.

    Raises Outcome `not-found` for an address that means nothing, an unknown type (with the nearest one) or an impossible id,
    `malformed` for an update to an impossible id, and `method` with an Allow header.
    """
    parts = path.removesuffix("/").split("/")
    name = parts[0]
    if name in types:
        return _below_type(types, method, parts)
    if len(parts) == 1:
        match name:
            case "":
                return Target(_action(_SYSTEM, method))
            case "metadata":
                return Target(_action(_METADATA, method))
            case "_history":
                return Target(_action(_HISTORY, method))
            case "_search":
                return Target(_action(_SEARCH, method), form=True)
        if _OPERATION.fullmatch(name):
            return Target(_action(_EXPORT if name == "$export-status" else _OPERATE, method), operation=name[1:])
    elif parts == [".well-known", "smart-configuration"]:
        return Target(_action(_DISCOVERY, method))
    near = get_close_matches(name[:64], types, 1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    raise Outcome("not-found", f"'{name[:64]}' is not a resource type of FHIR R4{hint}", code="not-supported")


def is_read(types: frozenset[str], method: str, path: str) -> bool:
    """Whether it can only be a read by id, and not one of the audit trail, which is kept elsewhere."""
    name, _, identity = path.partition("/")
    return method in {"GET", "HEAD"} and name in types and name != "AuditEvent" and is_id(identity)


def _below_type(types: frozenset[str], method: str, parts: list[str]) -> Target:  # noqa: C901, PLR0911 - one line for each form of address
    match parts:
        case [name]:
            return Target(_action(_EVENTS if name == "AuditEvent" else _TYPE, method), name)
        case [name, "_history"]:
            return Target(_action(_HISTORY, method), name)
        case [name, "_search"]:
            return Target(_action(_SEARCH, method), name, form=True)
        case [name, word] if word.startswith("$"):
            return Target(_action(_OPERATE, method), name, operation=word[1:])
        case [name, identity]:
            action = _action(_EVENT if name == "AuditEvent" else _INSTANCE, method)
            return Target(action, name, _identity(identity, action))
        case [name, identity, "_history"]:
            return Target(_action(_HISTORY, method), name, _identity(identity))
        case [name, identity, word] if word.startswith("$"):
            return Target(_action(_OPERATE, method), name, _identity(identity), operation=word[1:])
        case [name, identity, "_history", version]:
            return Target(_action(_VERSION, method), name, _identity(identity), _identity(version))
        case [name, identity, member] if member in types or member == "*":
            return Target(_action(_COMPARTMENT, method), name, _identity(identity), member=member)
        case [name, identity, member, "_search"] if member in types or member == "*":
            return Target(_action(_SEARCH, method), name, _identity(identity), form=True, member=member)
    raise Outcome("not-found", f"There is nothing at this address below {parts[0]}", code="not-supported")


def _identity(text: str, action: Action = "read") -> str:
    if is_id(text):
        return text
    raise Outcome(
        "malformed" if action == "update" else "not-found",
        f"'{text[:80]}' is not an id: {ID_RULE}",
        code="value" if action == "update" else None,
    )


def _action(methods: Mapping[str, Action], method: str) -> Action:
    action = methods.get("GET" if method == "HEAD" else method)
    if action is not None:
        return action
    allow = ", ".join([*(["GET", "HEAD"] if "GET" in methods else []), *(name for name in methods if name != "GET"), "OPTIONS"])
    raise Outcome("method", f"{method} is not possible at this address; {allow} are", headers={"Allow": allow})
