"""The one error type, and the one table from its category to an HTTP status and an issue code.

https://hl7.org/fhir/R4/operationoutcome.html, https://hl7.org/fhir/R4/http.html#Status-Codes
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

Severity = Literal["fatal", "error", "warning", "information"]
Category = Literal[
    "malformed",
    "parameter",
    "unauthenticated",
    "forbidden",
    "not-found",
    "method",
    "not-acceptable",
    "timeout",
    "conflict",
    "gone",
    "precondition",
    "multiple-matches",
    "too-large",
    "media-type",
    "invalid",
    "business-rule",
    "too-costly",
    "throttled",
    "internal",
    "not-implemented",
    "unavailable",
]

STATUS: Final[dict[Category, tuple[int, str]]] = {
    "malformed": (400, "structure"),
    "parameter": (400, "invalid"),
    "unauthenticated": (401, "login"),
    "forbidden": (403, "forbidden"),
    "not-found": (404, "not-found"),
    "method": (405, "not-supported"),
    "not-acceptable": (406, "not-supported"),
    "timeout": (408, "timeout"),
    "conflict": (409, "conflict"),
    "gone": (410, "deleted"),
    "precondition": (412, "conflict"),
    "multiple-matches": (412, "multiple-matches"),
    "too-large": (413, "too-long"),
    "media-type": (415, "not-supported"),
    "invalid": (422, "invalid"),
    "business-rule": (422, "business-rule"),
    "too-costly": (422, "too-costly"),
    "throttled": (429, "throttled"),
    "internal": (500, "exception"),
    "not-implemented": (501, "not-supported"),
    "unavailable": (503, "transient"),
}


@dataclass(frozen=True, slots=True)
class Issue:
    """One fault or notice. `code` is from http://hl7.org/fhir/issue-type, `expression` the FHIRPath of the element at fault."""

    severity: Severity
    code: str
    diagnostics: str
    expression: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The issue as it stands in an OperationOutcome."""
        fields: dict[str, Any] = {"severity": self.severity, "code": self.code, "diagnostics": self.diagnostics}
        if self.expression:
            fields["expression"] = list(self.expression)
        return fields


class Outcome(Exception):  # noqa: N818 - named for what it becomes: an OperationOutcome
    """A request that is refused. Raised anywhere, rendered in one place.

    `headers` are sent with the answer, as `Retry-After` with `unavailable`.
    """

    def __init__(
        self,
        category: Category,
        diagnostics: str = "",
        *,
        expression: str | None = None,
        code: str | None = None,
        issues: Sequence[Issue] = (),
        headers: dict[str, str] | None = None,
    ) -> None:
        """Takes one fault as `diagnostics`, with the `expression` of its place and a `code` other than the category's, or all `issues`."""
        super().__init__(diagnostics or (issues[0].diagnostics if issues else category))
        self.category: Category = category
        self.status, default = STATUS[category]
        self.issues = tuple(issues) or (Issue("error", code or default, diagnostics, (expression,) if expression else ()),)
        self.headers = headers or {}

    def as_json(self) -> dict[str, Any]:
        """The OperationOutcome resource."""
        return operation_outcome(self.issues)


def operation_outcome(issues: Sequence[Issue]) -> dict[str, Any]:
    """An OperationOutcome of the given issues; all-ok when there are none."""
    listed = issues or (Issue("information", "informational", "All OK"),)
    return {"resourceType": "OperationOutcome", "issue": [issue.as_json() for issue in listed]}
