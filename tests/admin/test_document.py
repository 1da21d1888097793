"""The OpenAPI document: valid, kept to by what is answered, and shown on a page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

from tests.web.conftest import Clinic

from .conftest import ADDRESSES, Desk, token_of

CHECKS = [
    not_a_server_error,
    checks.content_type_conformance,
    checks.negative_data_rejection,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.status_code_conformance,
]


def document(clinic: Clinic) -> dict[str, Any]:
    answer = clinic("GET", "/admin/openapi.json")
    assert answer.status_code == 200
    found: dict[str, Any] = json.loads(answer.data)
    return found


def test_the_document_is_valid_and_there_for_everybody(clinic: Clinic) -> None:
    found = document(clinic)
    assert found["openapi"].startswith("3.1.")
    OPENAPI_31_VALIDATOR.validate(found)
    operations = [operation for each in found["paths"].values() for method, operation in each.items() if method != "parameters"]
    assert all(operation["summary"] and operation["tags"] for operation in operations)
    assert len({operation["operationId"] for operation in operations}) == len(operations)


@pytest.fixture(scope="module")
def schema(shared: Clinic) -> Any:
    # What is longer than a body may be is refused for that.
    statuses = ["400", "401", "403", "404", "405", "406", "409", "413", "415", "422", "428", "429", "5xx"]
    config = schemathesis.Config.from_dict({"checks": {"negative_data_rejection": {"expected-statuses": statuses}}})
    return schemathesis.openapi.from_wsgi("/admin/openapi.json", shared.app, config=config)


# Threads of the pool of connections use chance too, which Hypothesis takes for a fault of the strategy.
@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisDeprecationWarning")
@pytest.mark.parametrize(("method", "path"), ADDRESSES)
def test_what_is_answered_is_what_the_document_says(clinic: Clinic, schema: Any, method: str, path: str) -> None:
    operation = schema[path][method]
    # Made once: that takes longer than what is then drawn from them.
    cases = [operation.as_strategy(generation_mode=mode) for mode in GenerationMode]
    account = clinic.account()
    headers = {"Authorization": f"Bearer {token_of(clinic.clock())}"}

    @given(case=st.sampled_from(cases).flatmap(lambda found: found))
    # Half as many where there is no body, of which most kinds of fault are.
    @settings(max_examples=40 if method in ("POST", "PATCH") else 20, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    def run(case: Any) -> None:
        # What leaves no trace in the address cannot be refused.
        assume(not any(value in ([], {}) for value in (case.query or {}).values()))
        # Nobody would guess it.
        if "users/{identity}" in path and case.body != {"state": "disabled"}:
            case.path_parameters["identity"] = account.id
        case.call_and_validate(headers=headers, checks=CHECKS)

    run()


def test_the_page_has_nothing_from_elsewhere(clinic: Clinic) -> None:
    page = clinic("GET", "/admin/docs")
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert not re.search(r"<script(?! src)| on[a-z]+=| style=", page.text)
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(addresses) == 5
    for address in addresses:
        answer = clinic("GET", f"/admin/{address}")
        assert answer.status_code == 200
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert clinic("GET", "/admin/docs/index.css", token=token_of(clinic.clock())).status_code == 404


def test_behind_a_path_of_a_proxy_addresses_lead_through_it(make_clinic: Callable[..., Clinic]) -> None:
    clinic = make_clinic(public_url="https://example.org/clinic")
    desk = Desk(clinic, token_of(clinic.clock()))
    assert document(clinic)["servers"] == [{"url": "https://example.org/clinic"}]
    job = desk("POST", "/reindex-jobs", {"type": "Library"})
    assert job.headers["Location"].startswith("https://example.org/clinic/admin/api/v1/reindex-jobs/")
    desk("POST", "/reindex-jobs", {"type": "Measure"})
    assert desk.ok("GET", "/reindex-jobs?limit=1")["next"].startswith("https://example.org/clinic/admin/api/v1/reindex-jobs?")
