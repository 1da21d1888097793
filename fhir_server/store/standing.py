"""What a grant stands on, for a read that asks it along with its own statement: a round trip less, a third of what a read by id costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fhir_server.search import Grant, Statement


@dataclass(frozen=True, slots=True)
class Standing:
    """A presumption that is still to be confirmed.

    `open` is the condition that the caller's session is open. `settle`, given the generation of Consents and whether the session is open, gives the
    grant that holds, the presumed one itself where nothing has changed; it raises Outcome `unauthenticated` where the session is over.
    """

    open: Statement
    settle: Callable[[int, bool], Grant]
