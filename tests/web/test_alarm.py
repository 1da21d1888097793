"""Administrators hear of it when a doctor breaks the glass."""

from __future__ import annotations

import time

from fhir_server.rest import REQUEST_ID
from tests.web.conftest import Clinic


def test_each_administrator_gets_one_mail_that_names_no_patient(clinic: Clinic) -> None:
    admin = clinic.account("admin")
    doctor = clinic.account("doctor", practitioner="d1")
    token = clinic.session(doctor)["access_token"]
    headers = {"Authorization": f"Bearer {token}", "X-Break-Glass": "Mr Smith is unconscious"}
    environ = {"REMOTE_ADDR": clinic.address, REQUEST_ID: "glass-7"}
    for _ in range(3):
        assert clinic("GET", "/fhir/Observation?patient=p9", headers=headers, environ_overrides=environ).status_code == 200
    mail = clinic.outside.mails.get(timeout=10)
    assert mail["To"] == admin.email
    text = mail.get_payload(decode=True)
    assert isinstance(text, bytes)
    assert doctor.login.encode() in text
    assert b"glass-7" in text
    assert b"Smith" not in text
    assert b"p9" not in text
    # A quarter of an hour later it is news again.
    clinic.clock.seconds += 901
    again = clinic.session(doctor)["access_token"]
    assert clinic("GET", "/fhir/Patient", headers=headers | {"Authorization": f"Bearer {again}"}).status_code == 200
    assert clinic.outside.mails.get(timeout=10)["To"] == admin.email
    time.sleep(0.2)
    assert clinic.outside.mails.empty()
