"""`user`: accounts, for an operator who has shell access."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fhir_server.settings import SetupError

from .common import data_option, opened, settings_of, with_database

if TYPE_CHECKING:
    from fhir_server.access.accounts.accounts import Account
    from fhir_server.access.accounts.sign_in import SignIn

_LOGIN = click.argument("login", metavar="LOGIN")


@click.group()
def user() -> None:
    """Accounts: make, list, disable, unlock, and help people who cannot sign in."""


@user.command()
@_LOGIN
@click.option("--role", "roles", multiple=True, required=True, type=click.Choice(["admin", "doctor", "staff", "patient"]), help="May be repeated.")
@click.option("--email", metavar="ADDRESS", help="Where codes go by mail.")
@click.option("--phone", metavar="NUMBER", help="Where codes go by SMS.")
@click.option("--practitioner", metavar="ID", help="The Practitioner that they are.")
@click.option("--patient", metavar="ID", help="The Patient that they are; needed for the role patient.")
@click.option("--related-person", metavar="ID", help="The RelatedPerson that they are; --patient is then whose record they open.")
@click.option("--password-stdin", is_flag=True, help="Read the password from the first line of stdin.")
@data_option
def add(  # noqa: PLR0913 - one for each option
    login: str,
    roles: tuple[str, ...],
    email: str | None,
    phone: str | None,
    practitioner: str | None,
    patient: str | None,
    related_person: str | None,
    *,
    password_stdin: bool,
    data: Path,
) -> None:
    """Make an account.

    Prints a password that has to be changed at the first sign-in, unless one comes by stdin.
    """
    from fhir_server.access.accounts.accounts import NewAccount
    from fhir_server.access.accounts.passwords import random_password
    from fhir_server.access.accounts.registration import check_contact

    password = sys.stdin.readline().rstrip("\r\n") if password_stdin else random_password()
    new = NewAccount(
        login,
        password,
        roles,
        email=email,
        phone=phone,
        practitioner=practitioner,
        patient=patient,
        related_person=related_person,
        password_expired=not password_stdin,
    )
    check_contact(new)
    with _signing_in(data) as sign_in:
        if sign_in.accounts.add(new, sign_in.now()) is None:
            raise SetupError(f"there is an account {login} already; `user list` shows them")
    if not password_stdin:
        click.echo(password)


@user.command("list")
@data_option
def list_accounts(data: Path) -> None:
    """List the accounts: login, state, roles, who they are in FHIR, how their codes reach them."""
    with _signing_in(data) as sign_in:
        for each in sign_in.accounts.all():
            ways = (
                ("totp", each.totp_secret),
                ("email", each.email if each.email_proved else None),
                ("sms", each.phone if each.phone_proved else None),
            )
            second = ",".join(name for name, value in ways if value is not None) or "-"
            click.echo(f"{each.login}\t{each.state}\t{','.join(each.roles)}\t{each.fhir_user or '-'}\t{second}")


@user.command()
@_LOGIN
@data_option
def disable(login: str, data: Path) -> None:
    """Shut an account, and end its sessions at once; an administrator can open it again."""
    with _signing_in(data) as sign_in:
        sign_in.accounts.set_state(_found(sign_in, login).id, "disabled", sign_in.now())


@user.command()
@_LOGIN
@data_option
def unlock(login: str, data: Path) -> None:
    """Forget the failures of an account, and open it if it is locked."""
    with _signing_in(data) as sign_in:
        sign_in.unlock(_found(sign_in, login))


@user.command("reset-password")
@_LOGIN
@data_option
def reset_password(login: str, data: Path) -> None:
    """Print a new password, which has to be changed at the next sign-in; sessions end at once."""
    from fhir_server.access.accounts.passwords import random_password

    with _signing_in(data) as sign_in:
        password = random_password()
        sign_in.accounts.set_password(_found(sign_in, login), password, sign_in.now(), expired=True)
    click.echo(password)


@user.command("reset-otp")
@_LOGIN
@data_option
def reset_otp(login: str, data: Path) -> None:
    """Take a lost authenticator app off an account; sessions end at once."""
    with _signing_in(data) as sign_in:
        sign_in.accounts.reset_totp(_found(sign_in, login).id, sign_in.now())


@user.command()
@_LOGIN
@data_option
def otp(login: str, data: Path) -> None:
    """Print a one-time code for the sign-in that is under way, in place of any sent before.

    For demo accounts without mail, and for people whose mail does not arrive.
    """
    with _signing_in(data) as sign_in:
        code = sign_in.code_for_shell(_found(sign_in, login))
    if code is None:
        raise SetupError(f"no sign-in of {login} waits for a code; give login and password first")
    click.echo(code)


@contextmanager
def _signing_in(data: Path) -> Iterator[SignIn]:
    from datetime import UTC, datetime

    from fhir_server.access.accounts.sign_in import SignIn
    from fhir_server.messaging import Messenger

    chosen = settings_of(data)
    if chosen.database_url is None and not (chosen.data / "postgres").exists():
        raise SetupError(f"there is no database in {data}; name the data directory of a server with --data")
    with with_database(chosen) as settings, opened(settings) as store:
        yield SignIn(store, settings, Messenger(settings), lambda: datetime.now(UTC))


def _found(sign_in: SignIn, login: str) -> Account:
    account = sign_in.accounts.by_login(login)
    if account is None:
        raise SetupError(f"there is no account {login}; `user list` shows them")
    return account


COMMANDS = (user,)
