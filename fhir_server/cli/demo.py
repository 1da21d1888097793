"""The demo clinic of `serve --demo`: the people who sign in to it, and their accounts."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from fhir_server.access.accounts.accounts import Accounts, NewAccount
from fhir_server.access.accounts.passwords import random_password
from fhir_server.access.policy import Policy
from fhir_server.access.vault import Vault
from fhir_server.demo import open_clinic
from fhir_server.search import SYSTEM
from fhir_server.settings import Settings, SetupError
from fhir_server.store import Store
from fhir_server.store.ops import Put

FILE: Final = "demo-accounts.json"
_FIELDS: Final = ("role", "login", "password", "email", "phone")
_PRACTITIONERS: Final = {"doctor": "demo-doctor", "staff": "demo-staff"}
_ONCE: Final = b"demo people 2"

PEOPLE: Final[tuple[dict[str, Any], ...]] = (
    {"resourceType": "Practitioner", "id": "demo-staff", "active": True, "name": [{"family": "Brandt", "given": ["Jonas"]}]},
    {
        "resourceType": "Patient",
        "id": "demo-patient",
        "active": True,
        "name": [{"family": "Castellano", "given": ["Mira"]}],
        "gender": "female",
        "birthDate": "1986-03-09",
        "telecom": [{"system": "email", "value": "patient@demo.example"}],
    },
)
"""Who signs in, besides the first doctor of the clinic."""


def prepare(store: Store, settings: Settings) -> list[dict[str, str]]:
    """The demo accounts, one per role, with their passwords; made where they are not there, and kept in the data directory.

    An account whose password the directory has lost gets another one. Raises SetupError where the file cannot be used, Outcome as the store.
    """
    open_clinic(store)
    store.transact([Put(resource, resource["id"]) for resource in PEOPLE], SYSTEM, once=_ONCE)
    path = settings.data / FILE
    known = {each["login"]: each for each in _read(path)}
    listed = []
    for number, role in enumerate(("admin", "doctor", "staff", "patient"), 1):
        login = f"{role}@demo"
        fresh = {"role": role, "login": login, "password": random_password(), "email": f"{role}@demo.example", "phone": f"+1202555010{number}"}
        listed.append(known.get(login, fresh))
    if listed != list(known.values()):
        _write(path, listed)
    accounts = Accounts(store, Vault.of(settings))
    now = datetime.now(UTC)
    for each in listed:
        new = NewAccount(
            each["login"],
            each["password"],
            (each["role"],),
            email=each["email"],
            phone=each["phone"],
            practitioner=_PRACTITIONERS.get(each["role"]),
            patient="demo-patient" if each["role"] == "patient" else None,
            demo=True,
        )
        account = accounts.by_login(new.login)
        if account is None:
            accounts.add(new, now)
        elif new.login not in known:
            accounts.set_password(account, new.password, now)
    # Apps are tried out here; an admin's own decision stays.
    policy = Policy(store)
    policy.set_registration("open", "demo", undecided=True)
    policy.set_subscriptions("any", "demo", undecided=True)
    return listed


def _read(path: Path) -> list[dict[str, str]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return [{name: str(each[name]) for name in _FIELDS} for each in found]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, KeyError):
        raise SetupError(f"{path} cannot be used; remove it, and the demo accounts get other passwords") from None


def _write(path: Path, accounts: list[dict[str, str]]) -> None:
    draft = path.with_name(f".{FILE}-{os.getpid()}")
    try:
        with os.fdopen(os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
            json.dump(accounts, stream, indent=2)
        draft.replace(path)
    except OSError as error:
        raise SetupError(f"{path} cannot be written ({error.strerror})") from None
