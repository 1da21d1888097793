"""What it costs to know who asks: the token of a session, the grant and the audit trail on a read, a search held to one patient, sessions ended."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from fhir_server.access.accounts.accounts import Account, Accounts, NewAccount
from fhir_server.access.accounts.sessions import Sessions
from fhir_server.access.tokens import Person, issue_session
from fhir_server.access.vault import Vault
from fhir_server.store import Store
from fhir_server.store.postgres import connect_to_running

from .clients import Client, Figures, run
from .resources import observation
from .server import Server
from .workloads import PATIENTS

_HELD = 20
"""Patients who have results."""
_RESULTS = 60
_SESSIONS = 1_000
_PASSWORD = "a password of the benchmark"


def measure(server: Server) -> Iterator[Figures]:
    """Reads and searches by callers of each kind, after `workloads.read` has made the patients."""
    client = Client(server)
    for number in range(_HELD):
        for result in range(_RESULTS):
            client.json("POST", "Observation", observation(number * _RESULTS + result, f"Patient/bench-{number}"))
    with _people(server) as people:
        doctor = people.signed_in("doctor", practitioner="bench")
        patient = people.signed_in("patient", patient="bench-0")
    for name, token in (("an operator's token", server.token), ("a doctor's session", doctor)):
        yield run(replace(server, token=token), f"read by id, {name}", _read, loops=16000)
    for name, token in (("an operator's token", server.token), ("a doctor's session", doctor), ("the patient's session", patient)):
        yield run(replace(server, token=token), f"a patient's results, newest first, {name}", _search, loops=4000)


def _read(client: Client, number: int) -> int:
    client.send("GET", f"Patient/bench-{number % PATIENTS}", expect=(200,))
    return 1


def _search(client: Client, _: int) -> int:
    client.send("GET", "Observation?patient=bench-0&_count=20", expect=(200,))
    return 1


def end_sessions(server: Server) -> float:
    """Seconds that it takes to end a thousand sessions by one request, until a token of one is refused."""
    with _people(server) as people:
        tokens = [people.signed_in("staff") for _ in range(_SESSIONS)]
        admin = people.signed_in("admin")
    client = Client(replace(server, token=tokens[-1]))
    client.send("GET", "Patient/bench-0", expect=(200,))
    url = f"http://{server.host}:{server.port}/admin/api/v1/sessions/revoke"
    headers = {"Authorization": f"Bearer {admin}", "Content-Type": "application/json"}
    started = time.perf_counter()
    request = urllib.request.Request(url, json.dumps({"role": "staff"}).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        revoked = json.load(answer)["revoked"]
    client.send("GET", "Patient/bench-0", expect=(401,))
    spent = time.perf_counter() - started
    if revoked != _SESSIONS:
        raise RuntimeError(f"{revoked} sessions ended in place of {_SESSIONS}")
    return spent


class _People:
    def __init__(self, store: Store, secret: str, data_key: str) -> None:
        self.secret = secret
        vault = Vault(secret, data_key)
        self.accounts, self.sessions = Accounts(store, vault), Sessions(store, vault)
        self.known: dict[str, Account] = {}
        self.made = 0

    def signed_in(self, role: str, practitioner: str | None = None, patient: str | None = None) -> str:
        """The token of a new session. One account has twenty sessions at the most."""
        now = datetime.now(UTC)
        self.made += 1
        new = NewAccount(f"{role}-{time.time_ns()}-{self.made // 15}", _PASSWORD, (role,), practitioner=practitioner, patient=patient)
        key = f"{role}-{self.made // 15}"
        account = self.known.get(key) or self.accounts.add(new, now)
        if account is None:
            raise RuntimeError("the login is taken")
        self.known[key] = account
        opened = self.sessions.begin(account, "127.0.0.1", "bench", now)
        person = Person(account.login, account.roles, account.patient, account.fhir_user, account=account.id)
        return issue_session(self.secret, person, session=opened.id, ttl=3600, now=now.timestamp())


@contextmanager
def _people(server: Server) -> Iterator[_People]:
    secret, data_key = ((server.data / name).read_text().strip() for name in ("jwt-secret", "data-key"))
    with connect_to_running(server.data) as url:
        store = Store(url, zone=ZoneInfo("UTC"), connections=2)
        try:
            yield _People(store, secret, data_key)
        finally:
            store.close()
