"""What is taken of an acknowledgement."""

from __future__ import annotations

import pytest

from fhir_server.hl7v2.outbound.answer import read_answer


@pytest.mark.parametrize("said", ["Doe^Jane", "JANE DOE", "A1"])
def test_what_is_no_code_is_told_to_people_and_is_none_for_logs(said: str) -> None:
    answer = read_answer(f"MSH|^~\\&|LAB|L|CLINIC|C|20260101||ACK|1|P|2.5.1\rMSA|{said}|7\r".encode())
    assert answer.code == ""
    assert not answer.accepted
    assert answer.told.startswith("no code: ")
