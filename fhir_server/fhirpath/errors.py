"""What is wrong with an expression, or with the data it met."""

from __future__ import annotations

from fhir_server.outcome import Outcome


class FhirPathError(Outcome):
    """An expression that cannot be parsed, does not fit the types, or met data it is not defined for: an Outcome `invalid` or `too-costly` (422).

    `message` is the fault without its place, `position` the index of the character it was found at, None where there is no such place.
    """

    def __init__(self, message: str, position: int | None = None, *, code: str = "invalid") -> None:
        """Takes the fault, its place, and an issue code where `invalid` says too little."""
        place = "" if position is None else f" at character {position + 1}"
        super().__init__("too-costly" if code == "too-costly" else "invalid", f"FHIRPath: {message}{place}", code=code)
        self.message = message
        self.position = position


def too_costly() -> FhirPathError:
    """The error of an evaluation that used up its budget."""
    return FhirPathError("the evaluation takes too many steps", code="too-costly")
