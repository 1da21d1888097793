"""A clinic of each module's own: what is due to somebody, and what is in a drawer, is counted over all that was ever paid."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.interactions.conftest import Fhir, MakeFhir


@pytest.fixture(scope="module")
def fhir(make_fhir: MakeFhir, fresh_database: Callable[[], str]) -> Iterator[Fhir]:
    made = make_fhir(fresh_database())
    yield made
    made.close()
