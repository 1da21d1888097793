"""What JSON and pages have in common when a patient registers: the fields to be told, and the record made of them."""

from __future__ import annotations

import json
from datetime import UTC, date, timedelta
from typing import Final

from fhir_server.access.accounts.accounts import Account, NewAccount
from fhir_server.access.accounts.desk import Caller, Desk
from fhir_server.access.accounts.registration import Registration, applicant_resource
from fhir_server.interactions import Engine, Exchange, dispatch
from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM
from fhir_server.settings import Settings

NEEDED: Final = ("login", "password", "email", "given", "family", "birthDate")
OPTIONAL: Final = ("phone",)
_OLDEST: Final = date(1880, 1, 1)
_LONGEST_NAME: Final = 100


class Registering:
    """Registers patients and makes their records."""

    def __init__(self, engine: Engine, settings: Settings, desk: Desk) -> None:
        """Writes records by the engine."""
        self._engine = engine
        self._base = f"{settings.public_url or ''}/fhir"
        self._desk = desk
        self._rules = Registration(desk)

    def take(self, given: dict[str, str], caller: Caller) -> None:
        """Takes the fields NEEDED and OPTIONAL, and sends a code. Raises as `Registration.register`, and for what is no name and no date."""
        told = {name: _name(name, given[name]) for name in ("given", "family")} | {"birthDate": self._birth_date(given["birthDate"])}
        new = NewAccount(
            given["login"],
            given["password"],
            ("patient",),
            "invited",
            email=given["email"],
            phone=given.get("phone"),
            proved=False,
            applicant=json.dumps(told),
        )
        self._rules.register(new, caller)

    def confirm(self, login: str, code: str, caller: Caller) -> Account:
        """The account, active from now on, with a Patient of its own under the account's id. Raises as `Registration.confirm`."""
        account = self._rules.confirm(login, code, caller)
        # Always a record of its own: name and date of birth prove nobody to be the patient of an older one. With the account's id as its own, so that
        # what breaks off here can be repeated.
        body = applicant_resource(account) | {"id": account.id}
        dispatch(self._engine, Exchange("update", SYSTEM, self._base, "Patient", account.id, body=body))
        self._desk.accounts.welcome(account, account.id)
        return account

    def _birth_date(self, text: str) -> str:
        try:
            born = date.fromisoformat(text)
        except ValueError:
            born = None
        # A day ahead of UTC somewhere.
        latest = (self._desk.now().astimezone(UTC) + timedelta(days=1)).date()
        if born is None or born.isoformat() != text or not _OLDEST <= born <= latest:
            raise Outcome("invalid", "'birthDate' is not a date as 1990-05-17", expression="birthDate")
        return text


def _name(field: str, text: str) -> str:
    stripped = " ".join(text.split())
    if not stripped or len(stripped) > _LONGEST_NAME or not stripped.isprintable():
        raise Outcome("invalid", f"'{field}' is not a name", expression=field)
    return stripped
