"""When two states of a resource are the same, to the digit."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.fhirjson import dumps, loads
from fhir_server.hl7v2.landing.merging import same

_NUMBERS = st.sampled_from(["1", "1.0", "1.00", "10", "1e1", "0.1"]).map(lambda text: loads(text.encode()))
_VALUES = st.recursive(
    st.one_of(_NUMBERS, st.booleans(), st.sampled_from(["a", "1", ""])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abc"), inner, max_size=3)),
    max_leaves=8,
)


def sorted_text(value: Any) -> bytes:
    """JSON with the names of each object in their order."""
    if isinstance(value, dict):
        return b"{" + b",".join(dumps(name) + b":" + sorted_text(value[name]) for name in sorted(value)) + b"}"
    if isinstance(value, list):
        return b"[" + b",".join(map(sorted_text, value)) + b"]"
    return dumps(value)


@given(_VALUES, _VALUES)
def test_two_values_are_the_same_where_their_texts_are_but_for_the_order_of_names(one: Any, other: Any) -> None:
    assert same(one, other) is (sorted_text(one) == sorted_text(other))
    assert same(one, one)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (b'{"a":1,"b":[1.10]}', b'{"b":[1.10],"a":1}', True),
        (b'{"a":1.10}', b'{"a":1.1}', False),
        (b'{"a":1}', b'{"a":true}', False),
        (b'{"a":1}', b'{"a":1.0}', False),
        (b"[1,2]", b"[2,1]", False),
    ],
)
def test_the_order_of_names_says_nothing_and_each_digit_does(one: bytes, other: bytes, expected: bool) -> None:  # noqa: FBT001 - a parameter
    assert same(loads(one), loads(other)) is expected
