"""The whole application, as the tests of interactions have it."""

from __future__ import annotations

from tests.interactions.conftest import fhir, make_fhir

__all__ = ["fhir", "make_fhir"]
