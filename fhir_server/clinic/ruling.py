"""Rules that administrators set for a part of the clinic: read from, and changed into, the JSON that `access.policy` keeps of them."""

from __future__ import annotations

from typing import Any, Protocol, Self, TypeVar

import msgspec

from fhir_server.outcome import Outcome


class Ruled(Protocol):
    """Rules with a value for each where none was set."""

    def checked(self) -> Self:
        """The rules themselves. Raises Outcome `invalid` for what cannot be."""


T = TypeVar("T", bound=Ruled)


def read(kind: type[T], text: str | None) -> T:
    """The rules that were kept as a text, or those that count where none were."""
    return msgspec.json.decode(text, type=kind) if text is not None else kind()


def changed(rules: T, changes: dict[str, Any]) -> T:
    """The rules with some of them changed. Raises Outcome `invalid`."""
    try:
        return msgspec.convert(msgspec.to_builtins(rules) | changes, type(rules)).checked()
    except msgspec.ValidationError as error:
        raise Outcome("invalid", str(error)[:200]) from None


def kept(rules: Ruled) -> str:
    """The rules as a text that `read` takes."""
    return msgspec.json.encode(rules).decode()
