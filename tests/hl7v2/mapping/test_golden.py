"""What real messages become, kept as files. A difference in one is a change of what a sender's data mean here.

They are written anew by `FHIR_WRITE_GOLDEN=1 pytest tests/hl7v2/mapping/test_golden.py`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

import pytest

from fhir_server import fhirjson
from fhir_server.hl7v2.mapping import KNOWN, Converted, Converter
from fhir_server.hl7v2.text.message import read
from fhir_server.spec import r4
from fhir_server.validation import Validator

from .samples import ZONE

DATA: Final = Path(__file__).parents[1] / "data"
GOLDEN: Final = Path(__file__).with_name("golden")
OURS: Final = [*range(1, 40), 44]
UNWANTED: Final = [40, 41, 42]
REFUSED: Final = {"p32": "102", "p35": "102"}
"""Messages that cannot be taken, and why: pictures that are none, a placeholder where base64 should be."""


OF_A_SPECIMEN: Final = 32
"""OUL^R22, whose results have no place before the specimen that they are of, and are told."""


def sample(number: int) -> Path:
    (found,) = DATA.glob(f"p{number:02}_*.hl7")
    return found


def told(converted: Converted) -> Any:
    """A conversion as JSON that can be read line by line."""
    return {
        "structure": converted.structure,
        "faults": [f"{each.severity} {each.code} {each.segment}[{each.sequence}]-{each.field or 0} {each.text}" for each in converted.faults],
        "unhandled": [f"{each.name}[{each.sequence}]" for each in converted.unhandled],
        "resources": [{"urn": each.urn, "label": each.label, "key": each.key, "resource": each.resource} for each in converted.made],
    }


@pytest.mark.parametrize("number", OURS)
def test_a_real_message_becomes_what_its_file_says(converter: Converter, number: int) -> None:
    path = sample(number)
    found = json.loads(fhirjson.dumps(told(converter.convert(read(path.read_bytes()), ZONE))))
    file = GOLDEN / f"{path.stem}.json"
    if os.environ.get("FHIR_WRITE_GOLDEN"):
        file.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    assert found == json.loads(file.read_text())


@pytest.mark.parametrize("number", OURS)
def test_a_real_message_becomes_valid_resources_or_is_refused_for_a_reason(converter: Converter, number: int) -> None:
    path = sample(number)
    name = path.stem[:3]
    converted = converter.convert(read(path.read_bytes()), ZONE)
    refusals = {fault.code for fault in converted.faults if fault.severity == "E"}
    assert refusals == ({REFUSED[name]} if name in REFUSED else set())
    validator = Validator(r4())
    for made in converted.made:
        # What is only mentioned is never written; what is refused is not either.
        if made.key != KNOWN and name not in REFUSED:
            validator.require(made.resource)


@pytest.mark.parametrize("number", [number for number in OURS if number != OF_A_SPECIMEN])
def test_a_segment_that_stands_elsewhere_than_it_should_has_a_place_still(converter: Converter, number: int) -> None:
    """Each in its turn comes three segments earlier or later: senders have orders of their own, and nothing is lost for it."""
    head, *lines = [line for line in sample(number).read_bytes().replace(b"\r\n", b"\r").replace(b"\n", b"\r").split(b"\r") if line.strip()]
    for place, line in enumerate(lines):
        others = [*lines[:place], *lines[place + 1 :]]
        for there in {max(place - 3, 0), min(place + 3, len(others))}:
            converted = converter.convert(read(b"\r".join([head, *others[:there], line, *others[there:]])), ZONE)
            assert [fault.place for fault in converted.faults if fault.code == "100"] == [], (line[:3], there - place)


@pytest.mark.parametrize("number", UNWANTED)
def test_an_event_that_is_not_wanted_has_no_structure(converter: Converter, number: int) -> None:
    assert converter.structure_of(read(sample(number).read_bytes())) is None
