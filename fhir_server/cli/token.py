"""`token`: a bearer token for scripts of an operator who has shell access."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fhir_server.settings import Settings, SetupError

from .common import data_option, opened, settings_of, with_database

if TYPE_CHECKING:
    from fhir_server.access.accounts.accounts import Account

_TEN_YEARS = 10 * 366 * 24 * 3600


@click.command()
@click.option(
    "--role", type=click.Choice(["admin", "doctor", "staff", "patient"]), help="Whose rights it has; admin where neither role nor scope is given."
)
@click.option(
    "--user", metavar="LOGIN", help="The account whose name stands in the audit trail, and who that is in FHIR; with --scope alone any name."
)
@click.option("--patient", metavar="ID", help="The patient that the role patient or a patient/ scope is bound to.")
@click.option("--scope", metavar="S", help="SMART scopes, separated by blanks, as 'system/*.cruds'; they narrow a role.")
@click.option("--location", metavar="ID", help="The location whose board of the queue the scope board opens, and nothing else.")
@click.option("--ttl", type=click.IntRange(1, _TEN_YEARS), metavar="SECONDS", default=3600, show_default=True, help="How long it is good.")
@data_option
def token(*, role: str | None, user: str | None, patient: str | None, scope: str | None, location: str | None, ttl: int, data: Path) -> None:
    """Print one bearer token and nothing else.

    It is good for the server that runs, or will run, on the same data directory, or with the same JWT_SECRET.
    """
    from fhir_server.access import ROLES, issue, issue_board

    known = data.exists()
    settings = settings_of(data)
    account = _account(settings, user) if user is not None else None
    if user is not None:
        _check(user, account, named=role is None and scope is not None)
    if role is None and scope is None:
        role = account.roles[0] if account is not None else "admin"
    chosen = next((name for name in ROLES if name == role), None)
    if account is not None and chosen == "patient" and patient is None:
        patient = account.patient
    fhir_user = account.fhir_user if account is not None else None
    if location is not None:
        _check_board(scope, role or user or patient)
        made = issue_board(settings.jwt_secret, location, ttl=ttl, now=time.time())
    else:
        made = issue(settings.jwt_secret, role=chosen, user=user, patient=patient, scope=scope, ttl=ttl, now=time.time(), fhir_user=fhir_user)
    if not known and settings.data.exists():
        # A slip in --data would otherwise show only as a token that no server takes.
        click.echo(f"fhir-server: {data} was not there; the token is good for a server that will run on it", err=True)
    click.echo(made)


def _check_board(scope: str | None, others: str | None) -> None:
    if scope != "board" or others is not None:
        raise SetupError("--location goes with --scope board, and with nothing else")


def _check(login: str, account: Account | None, *, named: bool) -> None:
    """Refuses a token in the name of somebody who could not sign in; where a name is enough, of somebody who may not."""
    if account is None and not named:
        raise SetupError(f"there is no account {login}; `user list` shows them")
    if account is not None and account.state != "active":
        raise SetupError(f"the account {login} is {account.state}; an administrator can make it active")


def _account(settings: Settings, login: str) -> Account | None:
    """The account of a login, where there is a database to look it up in."""
    from fhir_server.access.accounts.accounts import Accounts
    from fhir_server.access.vault import Vault

    if settings.database_url is None and not (settings.data / "postgres").exists():
        return None
    with with_database(settings) as found, opened(found) as store:
        return Accounts(store, Vault.of(settings)).by_login(login)


COMMANDS = (token,)
