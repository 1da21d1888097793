"""What is wrong with a GraphQL request, and the answer that says so.

https://hl7.org/fhir/R4/graphql.html#errors, https://spec.graphql.org/October2021/#sec-Errors
"""

from __future__ import annotations

from typing import Any, Final

from graphql.language import Node

from fhir_server import fhirjson
from fhir_server.interactions import Reply
from fhir_server.outcome import Category, Issue, Outcome, operation_outcome

CONTENT_TYPE: Final = "application/json; charset=utf-8"


class Fault(Outcome):
    """A request that is refused, with the place in the query. `location` is line and column, None where there is no place."""

    def __init__(
        self, diagnostics: str, node: Node | None = None, *, category: Category = "parameter", code: str | None = None, issues: tuple[Issue, ...] = ()
    ) -> None:
        """Takes the fault and the node of the document that has it."""
        super().__init__(category, diagnostics, code=code, issues=issues)
        self.location: tuple[int, int] | None = None
        if node is not None and node.loc is not None:
            self.location = node.loc.start_token.line, node.loc.start_token.column


def placed(outcome: Outcome, node: Node) -> Outcome:
    """The same fault with its place in the query."""
    if isinstance(outcome, Fault) or outcome.status >= 500:  # noqa: PLR2004 - what is not the query's
        return outcome
    # A fault of an expression is one of the query here.
    return Fault(str(outcome), node, category="parameter" if outcome.category == "invalid" else outcome.category, issues=outcome.issues)


def fault_reply(outcome: Outcome) -> Reply:
    """The answer: no data, and every issue as an error with an OperationOutcome of its own."""
    errors: list[dict[str, Any]] = []
    for issue in outcome.issues:
        error: dict[str, Any] = {"message": issue.diagnostics}
        if isinstance(outcome, Fault) and outcome.location is not None:
            line, column = outcome.location
            error["locations"] = [{"line": line, "column": column}]
        errors.append(error | {"extensions": {"resource": operation_outcome([issue])}})
    return Reply(outcome.status, fhirjson.dumps({"data": None, "errors": errors}), content_type=CONTENT_TYPE)
