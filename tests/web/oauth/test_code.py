from __future__ import annotations

from .conftest import House


def test_a_patient_lets_an_app_in(house: House) -> None:
    client, _ = house.app()
    tokens = house.tokens(house.account(), client)
    assert {"token_type": "Bearer", "patient": "p1", "need_patient_banner": True}.items() <= tokens.items()
    assert house.status(tokens["access_token"]) == 200
    assert house.status(tokens["access_token"], "Patient/p2") == 404
