from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.clinic.billing.gateway.stand_in import Clinic, StandIn, clinic, localstripe


@pytest.fixture(scope="package")
def stripe() -> Iterator[StandIn]:
    with localstripe() as made:
        yield made


@pytest.fixture(scope="package")
def here(fresh_database: Callable[[], str], stripe: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    made = clinic(fresh_database(), tmp_path_factory.mktemp("clinic"), stripe)
    yield made
    made.fhir.close()
