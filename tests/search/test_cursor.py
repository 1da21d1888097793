from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.outcome import Outcome
from fhir_server.search import cursor

POSITION = cursor.Position(("2020-01-01 00:00:00+00", None), 12)


@given(st.lists(st.none() | st.text()), st.integers(0, 2**62))
def test_what_was_encoded_is_decoded(keys: list[str | None], rid: int) -> None:
    position = cursor.Position(tuple(keys), rid)
    assert cursor.decode(cursor.encode(position, key=b"k", query="Q", actor="a"), key=b"k", query="Q", actor="a") == position


@pytest.mark.parametrize(("key", "query", "actor"), [(b"other", "Q", "a"), (b"k", "Q2", "a"), (b"k", "Q", "b"), (b"k", "Qa", "")])
def test_it_serves_nobody_else(key: bytes, query: str, actor: str) -> None:
    text = cursor.encode(POSITION, key=b"k", query="Q", actor="a")
    with pytest.raises(Outcome) as caught:
        cursor.decode(text, key=key, query=query, actor=actor)
    assert caught.value.status == 400


@given(st.text() | st.text("ABCabc123-_", min_size=20))
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(Outcome):
        cursor.decode(text, key=b"k", query="Q", actor="a")


def test_any_changed_character_is_noticed() -> None:
    text = cursor.encode(POSITION, key=b"k", query="Q", actor="a")
    for at in range(len(text) - 1):
        changed = text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]
        with pytest.raises(Outcome):
            cursor.decode(changed, key=b"k", query="Q", actor="a")
