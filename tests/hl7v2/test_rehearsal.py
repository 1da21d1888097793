"""What a listener goes through before it takes messages: the first of them finds everything compiled, and nothing is in the record."""

from __future__ import annotations

import pytest

from fhir_server.hl7v2.landing.rehearsal import rehearse
from fhir_server.hl7v2.mapping import Converter
from fhir_server.search import Registry

from .conftest import Lab
from .test_intake import fresh, oru


def versions(lab: Lab) -> object:
    with lab.store.database.connection() as connection:
        return connection.execute("SELECT count(*) FROM resource_version").fetchall()


def test_the_first_result_after_a_rehearsal_compiles_nothing(lab: Lab, converter: Converter, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    compile_type = Registry._compile

    def watched(registry: Registry, resource_type: str) -> object:
        compiled.append(resource_type)
        return compile_type(registry, resource_type)

    monkeypatch.setattr(Registry, "_compile", watched)
    before = versions(lab)
    rehearse(lab.engine, converter)
    assert versions(lab) == before
    assert {"Patient", "Observation", "DiagnosticReport", "Provenance"} <= set(compiled)
    compiled.clear()
    lab.ok(oru(fresh(), fresh()).decode())
    assert compiled == []
    assert versions(lab) != before
