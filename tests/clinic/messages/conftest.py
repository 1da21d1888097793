"""A clinic whose time the test sets, with its worker's part in messages, a mail server and an SMS gateway that keep what they are given."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.header import decode_header, make_header
from email.message import Message as Mail
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from fhir_server import fhirjson
from fhir_server.access.accounts.accounts import Accounts, NewAccount
from fhir_server.access.accounts.notifications import Wanted, want
from fhir_server.access.vault import Vault
from fhir_server.clinic.messages import CONSUMER, Messages, rules
from fhir_server.search import SYSTEM, Grant
from fhir_server.settings import Settings
from fhir_server.store import Store
from fhir_server.store.ops import Delete, Put
from fhir_server.store.outbox import drain
from tests.web.conftest import Outside, outside

__all__ = ["outside"]

Json = dict[str, Any]
ZONE = ZoneInfo("Europe/Berlin")
DESK = replace(SYSTEM, actor="staff@clinic", roles=frozenset({"staff"}))
HOLD = "https://clinic-fhir.example.org/StructureDefinition/hold-expires"


class Clock:
    """The time, as the test has it."""

    def __init__(self) -> None:
        self.at = datetime(2031, 3, 3, 9, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at

    def go(self, **by: float) -> None:
        self.at += timedelta(**by)


class House:
    """The clinic. Each patient has an address of their own, so that tests share its database and its sinks."""

    def __init__(self, url: str, data: Path, sinks: Outside, clock: Clock, **options: Any) -> None:
        self.url, self.sinks, self.clock = url, sinks, clock
        self.store = Store(url, zone=ZONE, bases=("https://clinic.example.org/fhir",), connections=8, clock=self.clock)
        given: Json = {"smtp_url": sinks.smtp_url, "sms_url": sinks.sms_url, "database_url": url, **options}
        self.settings = Settings(data=data, jwt_secret="x" * 32, clinic_timezone=ZONE, **given)
        self.messages = Messages(self.store, self.settings)
        self.accounts = Accounts(self.store, Vault.of(self.settings))

    def patient(self, **fields: Any) -> str:
        identity = uuid.uuid4().hex
        telecom = [{"system": "email", "value": address_of(identity)}]
        self.put({"resourceType": "Patient", "id": identity, "name": [{"given": ["Mira"], "family": "Castellano"}], "telecom": telecom, **fields})
        return identity

    def account(self, patient: str, *, email: bool = True, sms: bool = False, phone: str | None = None) -> str:
        login = f"{uuid.uuid4().hex}@example.org"
        made = self.accounts.add(NewAccount(login, "correct horse battery", ("patient",), patient=patient, email=login, phone=phone), self.clock())
        assert made is not None
        want(self.store.database, made.id, Wanted(email, sms), SYSTEM, "")
        return login

    def appointment(self, patient: str, start: datetime, status: str = "booked", identity: str | None = None, **fields: Any) -> Json:
        return {
            "resourceType": "Appointment",
            "id": identity or uuid.uuid4().hex,
            "status": status,
            "start": start.isoformat(),
            "end": (start + timedelta(minutes=20)).isoformat(),
            "reasonCode": [{"text": "a secret cough"}],
            "serviceType": [{"text": "a secret service"}],
            "participant": [{"actor": {"reference": f"Patient/{patient}"}, "status": "accepted"}],
            **fields,
        }

    def put(self, resource: Json, grant: Grant = DESK) -> Json:
        (written,) = self.store.transact([Put(resource, resource["id"])], grant).written
        assert written.version is not None
        assert written.version.body is not None
        found: Json = fhirjson.loads(written.version.body)
        return found

    def delete(self, kind: str, identity: str) -> None:
        self.store.transact([Delete(kind, identity)], DESK)

    def rule(self, **changes: Any) -> None:
        with self.store.database.connection() as connection, connection.transaction():
            rules.set_rules(self.store, connection, changes, "tests")

    def hear(self) -> None:
        while drain(self.store.database, CONSUMER, self.messages.hear) == "some":
            pass

    def work(self) -> None:
        """All that is to be done now."""
        self.hear()
        self.messages.send()

    def mails(self, to: str) -> list[Mail]:
        """What has come to an address; the test that asks is the only one that has it."""
        return [each for each in list(self.sinks.mails.queue) if each["To"] == to]

    def subjects(self, patient: str) -> list[str]:
        return [subject_of(each) for each in self.mails(address_of(patient))]

    def texts(self, to: str) -> list[str]:
        return [str(each["text"]) for each in list(self.sinks.texts.queue) if each["to"] == to]

    def rows(self, patient: str, what: str = "event, channel, state, reason") -> list[Any]:
        with self.store.database.connection() as connection:
            return connection.execute(f"SELECT {what} FROM message WHERE patient = %s ORDER BY id", (patient,)).fetchall()

    def found(self, kind: str, patient: str) -> list[Json]:
        statement = (
            "SELECT v.body FROM resource r JOIN resource_version v ON v.vid = r.vid JOIN resource_type t ON t.tid = r.type"
            " WHERE t.name = %s AND NOT r.deleted AND v.body LIKE %s ORDER BY r.rid"
        )
        with self.store.database.connection() as connection:
            rows = connection.execute(statement, (kind, f"%Patient/{patient}%")).fetchall()
        return [fhirjson.loads(body.encode()) for (body,) in rows]


def address_of(patient: str) -> str:
    return f"{patient[:20]}@patients.example.org"


def subject_of(mail: Mail) -> str:
    return str(make_header(decode_header(str(mail["Subject"])))).replace("\r\n", "")


def parts_of(mail: Mail) -> dict[str, str]:
    """The texts of a mail by their types."""
    found = {}
    for part in mail.walk():
        payload = part.get_payload(decode=True)
        if isinstance(payload, bytes):
            found[part.get_content_type()] = payload.decode()
    return found


@pytest.fixture(scope="module")
def shared(fresh_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory, outside: Outside) -> Iterator[House]:
    made = House(fresh_database(), tmp_path_factory.mktemp("data"), outside, Clock())
    yield made
    made.store.close()


@pytest.fixture
def house(shared: House) -> Iterator[House]:
    """The clinic of the module, at nine o'clock UTC of a Monday, under the usual rules."""
    shared.clock.at = datetime(2031, 3, 3, 9, tzinfo=UTC)
    yield shared
    with shared.store.database.connection() as connection:
        connection.execute("DELETE FROM policy WHERE name = 'messages'")
