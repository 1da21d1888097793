"""What a grant stands on, for a read that asks it along with its own statement: a round trip less, a fifth of what such a read costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fhir_server.search import Grant, Statement


@dataclass(frozen=True, slots=True)
class Standing:
    """What a grant is presumed under.

    `open` is the condition that the caller's session is open, `generation` that of the Consents which the grant goes by. `settle`, given what holds
    of both, gives the grant that holds; it may ask the database, and raises Outcome `unauthenticated` where the session is over.
    """

    open: Statement
    generation: int | None
    settle: Callable[[int, bool], Grant]


class Unsettled(Exception):  # noqa: N818 - an event, not a fault: the grant is settled and the read done again
    """A read has found that its grant was presumed wrongly: the generation of the Consents, and whether the session is open."""

    def __init__(self, generation: int, is_open: bool) -> None:  # noqa: FBT001 - as the database gives it
        """Takes what holds."""
        super().__init__(generation, is_open)
        self.generation = generation
        self.is_open = is_open
