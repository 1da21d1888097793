"""Accounts: who may sign in, as whom, and with which second factor.

invited → active → locked → active, active → disabled. An account is never deleted, since what was done refers to it.
"""

from __future__ import annotations

import secrets
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, Literal

from fhir_server.access.roles import ROLES, Role
from fhir_server.access.tokens import Person
from fhir_server.access.vault import Vault
from fhir_server.outcome import Outcome
from fhir_server.store import Store
from fhir_server.store.database import Connection

from . import passwords

State = Literal["invited", "active", "locked", "disabled"]

_LONGEST_LOGIN: Final = 100
_CONTACTS: Final = frozenset({"email", "phone"})
_COLUMNS: Final = (
    "id, login, state, roles, practitioner, patient, related_person, email, email_proved, phone, phone_proved,"
    " password_hash, password_expired, totp_secret, totp_offered, applicant, demo, created"
)


@dataclass(frozen=True, slots=True)
class Account:
    """One account as it stood when it was read; what is encrypted at rest is in the clear, None where it cannot be opened."""

    id: str
    login: str
    state: State
    roles: tuple[str, ...]
    practitioner: str | None
    patient: str | None
    related_person: str | None
    email: str | None
    email_proved: bool
    phone: str | None
    phone_proved: bool
    password_hash: str
    password_expired: bool
    totp_secret: str | None
    totp_offered: str | None
    applicant: str | None
    demo: bool
    created: datetime

    @property
    def fhir_user(self) -> str | None:
        """The resource that this person is, as `Practitioner/7`."""
        return _fhir_user(self.practitioner, self.patient, self.related_person)

    def __repr__(self) -> str:
        return f"Account({self.id!r}, {self.login!r}, {self.state!r})"


@dataclass(frozen=True, slots=True)
class NewAccount:
    """What an account is made from. E-mail and phone that an operator enters count as proved."""

    login: str
    password: str = field(repr=False)
    roles: tuple[str, ...]
    state: State = "active"
    practitioner: str | None = None
    patient: str | None = None
    related_person: str | None = None
    email: str | None = None
    phone: str | None = None
    proved: bool = True
    password_expired: bool = False
    applicant: str | None = None
    demo: bool = False


class Accounts:
    """The accounts of one database. Changes that take rights away end the account's sessions in the same transaction."""

    def __init__(self, store: Store, vault: Vault) -> None:
        """Works on the store's database; `vault` opens what is sealed there."""
        self._store = store
        self._vault = vault

    def add(self, new: NewAccount, now: datetime) -> Account | None:
        """The account that was made; None where the login is taken, whatever its capitals.

        Raises Outcome `invalid` for a login, password or roles that cannot be.
        """
        with self._store.database.connection() as connection:
            return self.insert(connection, new, now)

    def insert(self, connection: Connection, new: NewAccount, now: datetime) -> Account | None:
        """`add` within a transaction of the caller's."""
        check_login(new.login)
        passwords.check(new.password, new.login)
        _check_roles(new)
        identity = secrets.token_hex(12)
        values: dict[str, Any] = {
            "id": identity,
            "login": new.login,
            "folded": folded(new.login),
            "state": new.state,
            "roles": [role for role in ROLES if role in new.roles],
            "practitioner": new.practitioner,
            "patient": new.patient,
            "related_person": new.related_person,
            "email": self._sealed(identity, "email", new.email),
            "email_proved": new.proved and new.email is not None,
            "phone": self._sealed(identity, "phone", new.phone),
            "phone_proved": new.proved and new.phone is not None,
            "password_hash": passwords.hashed(new.password),
            "password_expired": new.password_expired,
            "applicant": self._sealed(identity, "applicant", new.applicant),
            "demo": new.demo,
            "created": now,
        }
        names = ", ".join(values)
        marks = ", ".join(f"%({name})s" for name in values)
        statement = f"INSERT INTO account ({names}) VALUES ({marks}) ON CONFLICT (folded) DO NOTHING RETURNING {_COLUMNS}"  # noqa: S608 - our names
        row = connection.execute(statement, values).fetchone()
        return None if row is None else self._account(row)

    def update(self, connection: Connection, account: Account, changes: Mapping[str, Any]) -> Account:
        """The account with these fields of `Account` changed, within a transaction of the caller's, who has locked it by `select`.

        What an administrator enters as `email` or `phone` counts as proved. Raises Outcome `invalid` for roles that cannot be.
        """
        changed = replace(account, **changes)
        _check_roles(changed)
        values: dict[str, Any] = dict(changes)
        if "roles" in values:
            values["roles"] = list(values["roles"])
        for name in _CONTACTS & changes.keys():
            values[name] = self._sealed(account.id, name, changes[name])
            values[f"{name}_proved"] = changes[name] is not None
        sets = ", ".join(f"{name} = %({name})s" for name in values)
        statement = f"UPDATE account SET {sets} WHERE id = %(id)s RETURNING {_COLUMNS}"  # noqa: S608 - our names
        row = connection.execute(statement, values | {"id": account.id}).fetchall()[0]
        return self._account(row)

    def select(self, connection: Connection, condition: str, values: Sequence[Any]) -> list[Account]:
        """The accounts that meet a condition in SQL of our own making, which may go on with an order, a limit and a lock."""
        rows = connection.execute(f"SELECT {_COLUMNS} FROM account WHERE {condition}", values).fetchall()  # noqa: S608 - our conditions
        return [self._account(row) for row in rows]

    def by_login(self, login: str) -> Account | None:
        """The account of a login, whatever its capitals."""
        return self._one("folded", folded(login))

    def by_id(self, identity: str) -> Account | None:
        """The account of an id."""
        return self._one("id", identity)

    def all(self) -> list[Account]:
        """Every account, by login. For clinics: thousands, not millions."""
        with self._store.database.connection() as connection:
            rows = connection.execute(f"SELECT {_COLUMNS} FROM account ORDER BY folded").fetchall()  # noqa: S608 - our names
        return [self._account(row) for row in rows]

    def of_role(self, role: Role) -> list[Account]:
        """The active accounts with a role, by login."""
        statement = f"SELECT {_COLUMNS} FROM account WHERE state = 'active' AND %s = ANY(roles) ORDER BY folded"  # noqa: S608 - our names
        with self._store.database.connection() as connection:
            rows = connection.execute(statement, (role,)).fetchall()
        return [self._account(row) for row in rows]

    def set_state(self, identity: str, state: State, now: datetime) -> None:
        """Changes the state. Any but `active` ends the sessions."""
        with self._store.database.connection() as connection, connection.transaction():
            connection.execute("UPDATE account SET state = %s WHERE id = %s", (state, identity))
            if state != "active":
                end_sessions(connection, identity, state, now)

    def set_password(self, account: Account, password: str, now: datetime, *, expired: bool = False) -> None:
        """Changes the password and ends the sessions; an `expired` one is good for nothing but to set another. Raises Outcome `invalid`."""
        passwords.check(password, account.login)
        with self._store.database.connection() as connection, connection.transaction():
            self.keep_password(connection, account.id, password, now, expired=expired)

    def keep_password(self, connection: Connection, identity: str, password: str, now: datetime, *, expired: bool) -> None:
        """`set_password` within a transaction of the caller's, for a password that was checked."""
        statement = "UPDATE account SET password_hash = %s, password_expired = %s WHERE id = %s"
        connection.execute(statement, (passwords.hashed(password), expired, identity))
        connection.execute("UPDATE challenge SET ended = true WHERE account = %s", (identity,))
        end_sessions(connection, identity, "password changed", now)

    def replace_applicant(self, account: Account, new: NewAccount, now: datetime) -> None:
        """Gives the login of a registration that nobody has proved to another one."""
        values = (
            passwords.hashed(new.password),
            self._sealed(account.id, "email", new.email),
            self._sealed(account.id, "phone", new.phone),
            self._sealed(account.id, "applicant", new.applicant),
        )
        with self._store.database.connection() as connection, connection.transaction():
            connection.execute("UPDATE challenge SET ended = true WHERE account = %s", (account.id,))
            connection.execute(
                "UPDATE account SET password_hash = %s, email = %s, phone = %s, applicant = %s, created = %s, email_proved = false,"
                " phone_proved = false WHERE id = %s AND state = 'invited' AND created = %s",
                (*values, now, account.id, account.created),
            )

    def rehash(self, account: Account, password: str) -> None:
        """Keeps the same password under today's parameters."""
        with self._store.database.connection() as connection, connection.transaction():
            connection.execute("SELECT set_config('audit.who', '{\"detail\": \"the same password under newer parameters\"}', true)")
            statement = "UPDATE account SET password_hash = %s WHERE id = %s AND password_hash = %s"
            connection.execute(statement, (passwords.hashed(password), account.id, account.password_hash))

    def offer_totp(self, account: Account, secret: str) -> None:
        """Keeps a secret that counts once its owner has shown a code of it."""
        with self._store.database.connection() as connection:
            connection.execute("UPDATE account SET totp_offered = %s WHERE id = %s", (self._sealed(account.id, "totp", secret), account.id))

    def accept_totp(self, account: Account) -> None:
        """The offered secret is the second factor from now on."""
        with self._store.database.connection() as connection:
            connection.execute("UPDATE account SET totp_secret = totp_offered, totp_offered = NULL WHERE id = %s", (account.id,))

    def reset_totp(self, identity: str, now: datetime) -> None:
        """Takes the authenticator app off the account, and ends its sessions."""
        with self._store.database.connection() as connection, connection.transaction():
            self.drop_totp(connection, identity, now)

    def drop_totp(self, connection: Connection, identity: str, now: datetime) -> None:
        """`reset_totp` within a transaction of the caller's."""
        connection.execute("UPDATE account SET totp_secret = NULL, totp_offered = NULL WHERE id = %s", (identity,))
        connection.execute("UPDATE challenge SET ended = true WHERE account = %s", (identity,))
        end_sessions(connection, identity, "second factor reset", now)

    def prove(self, account: Account, method: str) -> None:
        """E-mail or phone (`sms`) is known to be theirs. Whoever hands a code over at the desk vouches for the e-mail address."""
        column = "phone_proved" if method == "sms" else "email_proved"
        with self._store.database.connection() as connection:
            connection.execute(f"UPDATE account SET {column} = true WHERE id = %s", (account.id,))  # noqa: S608 - our names

    def set_contact(self, account: Account, kind: Literal["email", "phone"], value: str) -> None:
        """Changes the e-mail address or the telephone number to one that is proved."""
        with self._store.database.connection() as connection:
            statement = f"UPDATE account SET {kind} = %s, {kind}_proved = true WHERE id = %s"  # noqa: S608 - our names
            connection.execute(statement, (self._sealed(account.id, kind, value), account.id))

    def accept(self, account: Account, password: str, method: str, now: datetime) -> bool:
        """Makes an invited account active, with the password that its owner has chosen; False where it is not invited any more.

        The way that the invitation went, if by `email` or `sms`, is proved to be theirs by that. Raises Outcome `invalid` for the password.
        """
        passwords.check(password, account.login)
        kept = passwords.hashed(password)
        with self._store.database.connection() as connection, connection.transaction():
            row = connection.execute(
                "UPDATE account SET state = 'active', password_hash = %s, password_expired = false,"
                " email_proved = email_proved OR (%s = 'email' AND email IS NOT NULL),"
                " phone_proved = phone_proved OR (%s = 'sms' AND phone IS NOT NULL)"
                " WHERE id = %s AND state = 'invited' AND applicant IS NULL RETURNING 1",
                (kept, method, method, account.id),
            ).fetchone()
            if row is not None:
                end_sessions(connection, account.id, "invitation accepted", now)
        return row is not None

    def welcome(self, account: Account, patient: str) -> None:
        """Makes an invited account active, as the patient of this id."""
        with self._store.database.connection() as connection:
            statement = "UPDATE account SET state = 'active', patient = %s, applicant = NULL WHERE id = %s AND state = 'invited'"
            connection.execute(statement, (patient, account.id))

    def _one(self, column: str, value: str) -> Account | None:
        with self._store.database.connection() as connection:
            row = connection.execute(f"SELECT {_COLUMNS} FROM account WHERE {column} = %s", (value,)).fetchone()  # noqa: S608 - our names
        return None if row is None else self._account(row)

    def _account(self, row: Sequence[Any]) -> Account:
        fields = dict(zip(_COLUMNS.replace(" ", "").split(","), row, strict=True))
        places = {"email": "email", "phone": "phone", "totp_secret": "totp", "totp_offered": "totp", "applicant": "applicant"}
        for name, place in places.items():
            fields[name] = self._vault.open(fields[name], f"{fields['id']} {place}")
        return Account(**fields | {"roles": tuple(fields["roles"])})

    def _sealed(self, identity: str, place: str, text: str | None) -> bytes | None:
        return None if text is None else self._vault.seal(text, f"{identity} {place}")


def standing(store: Store, login: str) -> tuple[State, Person] | None:
    """The state of the account of a login, and what a session of it would say of its owner; None where there is no such account."""
    with store.database.connection() as connection:
        statement = "SELECT state, login, roles, patient, practitioner, related_person, id FROM account WHERE folded = %s"
        row = connection.execute(statement, (folded(login),)).fetchone()
    if row is None:
        return None
    state, login, roles, patient, practitioner, related_person, identity = row
    return state, Person(login, tuple(roles), patient, _fhir_user(practitioner, patient, related_person), account=identity)


def _fhir_user(practitioner: str | None, patient: str | None, related_person: str | None) -> str | None:
    # A RelatedPerson's account has a patient too: whose record it opens, not who they are. The same in SQL: account_fhir_user.
    for kind, identity in (("Practitioner", practitioner), ("RelatedPerson", related_person), ("Patient", patient)):
        if identity is not None:
            return f"{kind}/{identity}"
    return None


def end_sessions(connection: Connection, account: str, reason: str, now: datetime) -> None:
    """Ends every session of an account; its tokens fail from the commit on."""
    connection.execute("UPDATE session SET ended = %s, reason = %s WHERE account = %s AND ended IS NULL", (now, reason, account))


def count_accounts(connection: Connection) -> list[tuple[str, str, int]]:
    """Roles, states and how many accounts have both; one of several roles counts under each."""
    return connection.execute("SELECT role, state, count(*) FROM account, unnest(roles) AS role GROUP BY role, state ORDER BY role, state").fetchall()


def folded(login: str) -> str:
    """The form in which logins are compared: without blanks around them, which none has and telephones put there."""
    return unicodedata.normalize("NFKC", login).casefold().strip()


def check_login(login: str) -> None:
    """Raises Outcome `invalid` for what cannot be a login: empty, too long, or with blanks or unprintable characters in it."""
    if not (0 < len(login) <= _LONGEST_LOGIN and login.isprintable() and not any(each.isspace() for each in login)):
        raise Outcome("invalid", f"A login has 1 to {_LONGEST_LOGIN} characters, without blanks", expression="login")


def _check_roles(new: NewAccount | Account) -> None:
    unknown = [role for role in new.roles if role not in ROLES]
    if unknown or not new.roles:
        raise Outcome("invalid", f"The roles are {', '.join(ROLES)}; at least one is needed")
    if "patient" in new.roles and new.patient is None and new.applicant is None:
        raise Outcome("invalid", "An account with the role patient needs the id of the Patient")
