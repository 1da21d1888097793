"""Expressions put together at random, on resources that lost their shape, give a result or a FhirPathError."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_server import fhirjson
from fhir_server.fhirpath import FhirPathError
from fhir_server.fhirpath import compile as compile_
from fhir_server.fhirpath.functions import FUNCTIONS
from fhir_server.spec import r4

NOW: Final = datetime(2024, 2, 29, tzinfo=UTC)
PATIENT: Final = fhirjson.loads((Path(__file__).parent / "data" / "patient-example.json").read_bytes())
OPERATORS: Final = [
    "+",
    "-",
    "*",
    "/",
    "div",
    "mod",
    "&",
    "and",
    "or",
    "xor",
    "implies",
    "=",
    "!=",
    "~",
    "!~",
    "<",
    ">",
    "<=",
    ">=",
    "in",
    "contains",
    "|",
]
ATOMS: Final = (
    "name.given", "birthDate",
    "$this", "$index", "$total", "%resource", "Patient", "active", "telecom.rank", "identifier.period.start", "'abc'", "''", "0",
    "1.5", "true", "{}", "@2020-02-29", "@2020-02-29T12:00:00Z", "@T12:30", "1 'mg'", "4 days", "extension.value", "now()", "children()", "'(a*)*'",
    "9223372036854775807", "99999999999999999999.5", "'base64'", "'html'", "managingOrganization",
)  # fmt: skip


def larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    calls = st.sampled_from(sorted(FUNCTIONS)).flatmap(
        lambda name: st.tuples(inner, st.lists(inner, min_size=FUNCTIONS[name].least, max_size=min(FUNCTIONS[name].most, 3))).map(
            lambda parts: f"{parts[0]}.{name}({', '.join(parts[1])})"
        )
    )
    types = st.sampled_from(("string", "Quantity", "System.Integer", "date", "FHIR.code"))
    return st.one_of(
        calls,
        st.tuples(inner, st.sampled_from(OPERATORS), inner).map(lambda parts: f"({' '.join(parts)})"),
        st.tuples(inner, st.sampled_from(("is", "as", "ofType")), types).map(lambda parts: f"({parts[0]}).{parts[1]}({parts[2]})"),
        st.tuples(inner, inner).map(lambda parts: f"{parts[0]}[{parts[1]}]"),
        inner.map(lambda part: f"(-{part})"),
    )


ODD: Final = st.sampled_from((None, 3, "x", True, [], {}, [1], [None], {"a": 1}, "2020-13", [[1]]))


@settings(max_examples=400, deadline=None)
@given(
    st.recursive(st.sampled_from(ATOMS), larger, max_leaves=6),
    st.dictionaries(st.sampled_from(sorted(PATIENT.keys() - {"resourceType"})), ODD, max_size=4),
)
def test_any_expression_on_any_shape_ends_well(text: str, odd: dict[str, Any]) -> None:
    resource = {**PATIENT, **odd}
    with suppress(FhirPathError):
        assert isinstance(compile_(text, r4(), "Patient")(resource, now=NOW), list)
    with suppress(FhirPathError):
        assert isinstance(compile_(text, r4(), "Patient").true(resource), bool)
