"""What is cut of Slots, without a database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from fhir_server.clinic.scheduling.offers import Wanted, covers, cut
from fhir_server.store.rules.scheduling.openings import Piece

START = datetime(2031, 3, 3, 8, tzinfo=UTC)


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


@st.composite
def days(draw: st.DrawFn) -> list[Piece]:
    """Slots of two Schedules behind each other, with gaps."""
    found = []
    for schedule in ("a", "b"):
        at = START
        for number in range(draw(st.integers(0, 6))):
            at += minutes(draw(st.sampled_from([0, 0, 10])))
            length = minutes(draw(st.integers(5, 60)))
            found.append(Piece(f"{schedule}{number}", schedule, at, at + length, "free", False, ()))
            at += length
    return sorted(found, key=lambda piece: piece.lo)


@given(days(), st.none() | st.integers(1, 120).map(minutes), st.integers(-30, 120), st.integers(0, 300))
def test_offers_are_what_covers_takes_and_all_of_it(found: list[Piece], duration: timedelta | None, shift: int, length: int) -> None:
    lo = START + minutes(shift)
    hi = lo + minutes(length)
    wanted = Wanted(["a", "b"], START, START + minutes(600), duration)
    offers = cut(found, wanted, lo, hi)
    assert [offer.lo for offer in offers] == sorted(offer.lo for offer in offers)
    for offer in offers:
        assert lo <= offer.lo < hi
        assert covers(offer.pieces, offer.lo, offer.hi)
        assert duration is None or offer.hi - offer.lo == duration
    # In two parts it is the same.
    middle = lo + (hi - lo) / 2
    assert sorted(offers) == sorted(cut(found, wanted, lo, middle) + cut(found, wanted, middle, hi))
    if duration is not None:
        for piece in found:
            for number in range((piece.hi - piece.lo) // duration):
                begins = piece.lo + number * duration
                assert (lo <= begins < hi) == any(offer.lo == begins and offer.pieces == (piece,) for offer in offers)


def test_a_slot_of_centuries_is_no_trouble() -> None:
    piece = Piece("x", "a", datetime(1800, 1, 1, tzinfo=UTC), datetime(2400, 1, 1, tzinfo=UTC), "free", False, ())
    offers = cut([piece], Wanted(["a"], START, START + minutes(5), minutes(1)), START, START + minutes(5))
    assert [offer.lo for offer in offers] == [START + minutes(number) for number in range(5)]
