"""What an administrator does to accounts, within a transaction of the caller's, so that what belongs to it happens with it or not at all.

An account is locked by `one` before it is changed. Taking away the last way in is refused: once there is an active account with the role admin, there
is always one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from fhir_server.access.roles import ROLES
from fhir_server.outcome import Outcome
from fhir_server.store import Store
from fhir_server.store.database import Connection, scalar

from . import passwords
from .accounts import Account, Accounts, NewAccount, State, end_sessions, folded
from .desk import check_email, check_phone

_ADMINS: Final = 0x46484955
IDENTITIES: Final = {"practitioner": "Practitioner", "patient": "Patient", "related_person": "RelatedPerson"}
"""What an account can be in FHIR, by the name of its property."""
_NEXT: Final[Mapping[State, frozenset[State]]] = {
    "invited": frozenset({"disabled"}),
    "active": frozenset({"locked", "disabled"}),
    "locked": frozenset({"active", "disabled"}),
    "disabled": frozenset({"active"}),
}
"""Where an administrator may lead an account. From `invited` only its owner leads to `active`."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which accounts are asked for: those whose login begins so, whatever its capitals, with this role, in this state."""

    login: str | None = None
    role: str | None = None
    state: str | None = None


class Administration:
    """The rules over one database."""

    def __init__(self, store: Store, accounts: Accounts) -> None:
        """`store` knows whether there is a Practitioner, Patient or RelatedPerson of an id."""
        self._store = store
        self._accounts = accounts

    def page(self, connection: Connection, wanted: Wanted, after: str | None, limit: int) -> list[Account]:
        """So many accounts after a login, in the order of their logins as `folded` has them."""
        conditions, values = ["folded > %s"], [after or ""]
        if wanted.login is not None:
            conditions.append("starts_with(folded, %s)")
            values.append(folded(wanted.login))
        if wanted.role is not None:
            conditions.append("%s = ANY(roles)")
            values.append(wanted.role)
        if wanted.state is not None:
            conditions.append("state = %s")
            values.append(wanted.state)
        return self._accounts.select(connection, f"{' AND '.join(conditions)} ORDER BY folded LIMIT %s", [*values, limit])

    def place(self, account: Account) -> str:
        """Where an account stands in that order."""
        return folded(account.login)

    def one(self, connection: Connection, identity: str, *, lock: bool = False) -> Account:
        """The account of an id; with `lock` nobody else changes it, or begins a session of it, until the transaction ends.

        Raises Outcome `not-found`.
        """
        found = self._accounts.select(connection, "id = %s FOR UPDATE" if lock else "id = %s", [identity])
        if not found:
            raise Outcome("not-found", "There is no such account")
        return found[0]

    def add(self, connection: Connection, new: NewAccount, now: datetime) -> Account:
        """A new account. Raises Outcome `conflict` where the login is taken, `invalid` for what cannot be, also for who is not in the record."""
        _check_contacts(new.email, new.phone)
        self._check_identities(connection, {name: getattr(new, name) for name in IDENTITIES})
        account = self._accounts.insert(connection, new, now)
        if account is None:
            raise Outcome("conflict", "There is an account with this login already", code="duplicate")
        return account

    def change(self, connection: Connection, account: Account, changes: Mapping[str, Any], now: datetime) -> Account:
        """The account with some of roles, email, phone, practitioner, patient, related_person and state changed.

        Sessions end where rights or identities change, or the state is not `active` any more; codes on their way to an old address are void.
        Raises Outcome `invalid` as `add`, `business-rule` for a state that does not follow, and for what would leave no administrator.
        """
        asked = dict(changes)
        if "roles" in asked:
            asked["roles"] = tuple(role for role in ROLES if role in asked["roles"])
        real = {name: value for name, value in asked.items() if value != getattr(account, name)}
        if not real:
            return account
        _check_contacts(real.get("email"), real.get("phone"))
        self._check_identities(connection, real)
        state: State = real.get("state", account.state)
        if state != account.state and state not in _NEXT[account.state]:
            raise Outcome("business-rule", f"An account that is {account.state} does not become {state} this way")
        if _governs(account) and not (state == "active" and "admin" in real.get("roles", account.roles)):
            self._keep_an_administrator(connection, account)
        changed = self._accounts.update(connection, account, real)
        if real.keys() & {"email", "phone", "state"}:
            connection.execute("UPDATE challenge SET ended = true WHERE account = %s", (account.id,))
        if state != "active" or real.keys() - {"email", "phone", "state"}:
            end_sessions(connection, account.id, state if state != "active" else "rights changed", now)
        return changed

    def reset_password(self, connection: Connection, account: Account, now: datetime) -> str:
        """A new password, to be told to the account's owner, who has to change it at the next sign-in; sessions end.

        Raises Outcome `conflict` for an account whose owner has set none yet.
        """
        if account.state == "invited":
            raise Outcome("conflict", "The account has no password yet; invite its owner instead")
        password = passwords.random_password()
        self._accounts.keep_password(connection, account.id, password, now, expired=True)
        return password

    def _check_identities(self, connection: Connection, values: Mapping[str, Any]) -> None:
        for name, resource_type in IDENTITIES.items():
            identity = values.get(name)
            if identity is not None and not self._store.is_there(connection, resource_type, identity):
                raise Outcome("invalid", f"'{name}': there is no {resource_type} of this id", expression=name)

    def _keep_an_administrator(self, connection: Connection, account: Account) -> None:
        # One after the other: two administrators who take the role from each other must not both find the other one there.
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_ADMINS,))
        others = "SELECT EXISTS (SELECT FROM account WHERE state = 'active' AND 'admin' = ANY(roles) AND id <> %s)"
        if not scalar(connection, others, account.id):
            raise Outcome("business-rule", "This is the last active administrator; make another one first")


def _governs(account: Account) -> bool:
    return account.state == "active" and "admin" in account.roles


def _check_contacts(email: str | None, phone: str | None) -> None:
    if email is not None:
        check_email(email)
    if phone is not None:
        check_phone(phone)
