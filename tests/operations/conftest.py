"""The whole application, as the tests of interactions have it, and a count of its statements."""

from __future__ import annotations

from tests.interactions.conftest import fhir, make_fhir
from tests.store.conftest import statements

__all__ = ["fhir", "make_fhir", "statements"]
