"""`check`: what is set, what works, and what to do about the rest."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from fhir_server.outcome import Outcome
from fhir_server.settings import Settings, SetupError

from .common import data_option, opened, settings_of, with_database

if TYPE_CHECKING:
    from datetime import datetime

    from fhir_server.store import Store
    from fhir_server.store.rules.scheduling.occupancy import Clash

_SECONDS = 5
_LITTLE_DISK = 2 * 1024**3
_CLOCK_SECONDS = 5
_EXPIRING_DAYS = 7
_NEARLY = 0.8
# Each would wait for the database in vain.
_IN_DATABASE = frozenset({"addresses", "accounts", "apps", "appointments", "exports"})
_OLDEST_SERVER = 15
_MAX_CLASHES = 20
_PORTS = {"smtp": 25, "smtps": 465, "http": 80, "https": 443, "redis": 6379, "rediss": 6379, "amqp": 5672, "amqps": 5671}


class _Doubt(Exception):  # noqa: N818 - no fault: it may be meant so
    """What works, but perhaps not as it was meant; its text says what to do."""


@click.command()
@data_option
def check(data: Path) -> int:
    """Examine configuration, database, HL7 v2, disk, clock, mail, SMS and payment; say what to do about each fault."""
    try:
        settings = settings_of(data)
    except SetupError as error:
        _line("configuration", str(error), "fault")
        return 1
    _line("configuration", "every setting can be used")
    examinations: tuple[tuple[str, Callable[[Settings], str]], ...] = (
        ("database", _database),
        ("addresses", _addresses),
        ("accounts", _accounts),
        ("apps", _apps),
        ("HL7 v2", _messages),
        ("appointments", _appointments),
        ("broker", _broker),
        ("exports", _exports),
        ("disk", _disk),
        ("clock", _clock),
        ("mail", _mail),
        ("SMS", _sms),
        ("payment", _payment),
    )
    faulty: set[str] = set()
    for name, examine in examinations:
        if "database" in faulty and name in _IN_DATABASE:
            _line(name, "not looked at, since the database is at fault", "look")
            continue
        try:
            _line(name, examine(settings))
        except _Doubt as doubt:
            _line(name, str(doubt), "look")
        except SetupError as error:
            _line(name, str(error), "fault")
            faulty.add(name)
    click.echo()
    for name, value in settings.listed():
        click.echo(f"{name:24}{value}")
    return 1 if faulty else 0


def _line(name: str, text: str, state: str = "ok") -> None:
    click.echo(f"{state:7}{name:15}{text}")


def _database(settings: Settings) -> str:
    if not _is_there(settings):
        return f"embedded; `fhir-server serve` makes it in {settings.data}"
    from fhir_server.store import postgres

    with with_database(settings, migrated=False) as found:
        state = postgres.probe(str(found.database_url))
    kind = "embedded" if settings.database_url is None else "DATABASE_URL"
    if state.version < _OLDEST_SERVER:
        raise SetupError(f"PostgreSQL {state.version} is too old; {_OLDEST_SERVER} or newer is needed")
    if abs(state.clock - time.time()) > _CLOCK_SECONDS:
        raise SetupError(f"its clock is {state.clock - time.time():.0f} s from this machine's; set both by NTP")
    if not state.migrated:
        raise SetupError(f"PostgreSQL {state.version} ({kind}) is not at the newest schema; run `fhir-server migrate`")
    return f"PostgreSQL {state.version} ({kind}), at the newest schema, {state.megabytes} MB"


def _is_there(settings: Settings) -> bool:
    """Whether there is a database to look into."""
    return settings.database_url is not None or (settings.data / "postgres" / "PG_VERSION").exists()


@contextmanager
def _store(settings: Settings) -> Iterator[Store]:
    """The store on the database that there is. Raises SetupError where it cannot be looked into."""
    try:
        with with_database(settings, migrated=False) as found, opened(found) as store:
            yield store
    except Outcome as outcome:
        raise SetupError(str(outcome)) from None


def _addresses(settings: Settings) -> str:
    if settings.public_url is not None:
        return f"references below {settings.public_url}/fhir are to the server's own resources"
    if settings.database_url is None:
        return "references below what `serve` answers at are to its own resources; behind a proxy set PUBLIC_URL to what the world sees"
    with _store(settings) as store:
        bases = store.bases
    if not bases:
        raise _Doubt(
            "absolute references to this server would be stored as references to another one, since nothing says where it is found:"
            " set PUBLIC_URL to what the world sees and run `fhir-server migrate`; where you use `serve` and no proxy, its first start settles it"
        )
    raise _Doubt(
        f"only references below {', '.join(bases)}, where a `serve` has answered, are to the server's own resources;"
        " behind `api` or a proxy set PUBLIC_URL to what the world sees and run `fhir-server migrate`"
    )


def _accounts(settings: Settings) -> str:
    if not _is_there(settings):
        return "none yet"
    from fhir_server.access.sealing import unreadable
    from fhir_server.access.vault import Vault

    with _store(settings) as store:
        count = unreadable(store, Vault.of(settings))
    if count:
        raise SetupError(
            f"{count} e-mail addresses, telephone numbers and TOTP secrets cannot be opened; set DATA_KEY to the one they were sealed under"
        )
    own = "DATA_KEY" if settings.data_key is not None else "JWT_SECRET; set DATA_KEY, so that JWT_SECRET can be changed"
    return f"e-mail addresses, telephone numbers and TOTP secrets are sealed by {own}"


def _apps(settings: Settings) -> str:
    if not _is_there(settings):
        return "none yet"
    from fhir_server.access.policy import Policy

    with _store(settings) as store:
        policy = Policy(store).registration()
    told = {
        "open": "anybody may register apps; an administrator closes that at /admin/api/v1/policy",
        "initial-token": "whoever an administrator has handed a token may register an app",
        "closed": "administrators register apps",
    }
    return f"registration is {policy}: {told[policy]}"


def _messages(settings: Settings) -> str:
    from fhir_server.hl7v2.listener.peers import Peers, tls_context

    peers = Peers.of(settings)
    if peers.networks or peers.names:
        who = ", ".join([*map(str, peers.networks), *sorted(peers.names)])
    else:
        who = (
            "this machine alone; MLLP_ALLOW lets others in" if settings.mllp_tls_ca is None else "this machine, and who shows a certificate of the CA"
        )
    if tls_context(settings) is None or settings.mllp_tls_cert is None:
        return f"MLLP is not encrypted; open to {who}"
    return f"MLLP is encrypted, its certificate expires on {_expiry(settings.mllp_tls_cert):%Y-%m-%d}; open to {who}"


def _expiry(path: Path) -> datetime:
    """When the certificate in a file expires. Raises SetupError where that is over, or near."""
    from datetime import UTC, datetime

    from cryptography import x509

    expiry = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
    left = (expiry - datetime.now(UTC)).total_seconds() / 86_400
    if left < _EXPIRING_DAYS:
        said = f"expires on {expiry:%Y-%m-%d}" if left > 0 else f"has expired on {expiry:%Y-%m-%d}"
        raise SetupError(f"the certificate of MLLP_TLS_CERT {said}; replace it; the next connection is shown the new one")
    return expiry


def _appointments(settings: Settings) -> str:
    if not _is_there(settings):
        return "none yet"
    from fhir_server.store.rules.scheduling.occupancy import clashes

    with _store(settings) as store, store.database.connection() as connection:
        clashing = clashes(connection, _MAX_CLASHES + 1)
    if clashing:
        told = "; ".join(_clash(each, settings) for each in clashing[:_MAX_CLASHES])
        more = " and more" if len(clashing) > _MAX_CLASHES else ""
        raise SetupError(f"stored as booked twice before that was refused: {told}{more}; move or cancel one of each")
    return "no two hold the same time, but where staff have overbooked"


def _clash(clash: Clash, settings: Settings) -> str:
    # A Slot is filled at any time, which has no beginning.
    at = f" at {clash.lo.astimezone(settings.clinic_timezone):%Y-%m-%d %H:%M}" if clash.lo.year > 1 else ""
    return f"Appointment/{clash.one} and Appointment/{clash.other} on {clash.actor}{at}"


def _broker(settings: Settings) -> str:
    if settings.broker_url is None and not _is_there(settings):
        return "BROKER_URL is unset; the database will be the broker"
    from fhir_server.jobs import broker

    if settings.broker_url is not None:
        _reach(settings.broker_url, "BROKER_URL")
        broker.reach(settings)
        return "BROKER_URL answers"
    with with_database(settings, migrated=False) as found:
        broker.reach(found)
    return "BROKER_URL is unset; the database is the broker, and answers"


def _exports(settings: Settings) -> str:
    if not _is_there(settings):
        return "none yet"
    from fhir_server.store import exports

    with _store(settings) as store, store.database.connection() as connection:
        held = exports.held(connection)
    said = f"bulk exports take {held // 1_000_000} MB of the {settings.max_exports_mb} MB that MAX_EXPORTS_MB gives them"
    if held > _NEARLY * settings.max_exports:
        raise _Doubt(f"{said}; more are refused soon: they go a day after they were made, or when their callers delete them")
    return said


def _disk(settings: Settings) -> str:
    folder = next(path for path in (settings.data, *settings.data.parents) if path.exists())
    if not os.access(folder, os.W_OK):
        raise SetupError(f"{folder} is not writable for this user; mend its rights or name another directory with --data")
    usage = shutil.disk_usage(folder)
    if usage.free < _LITTLE_DISK:
        raise SetupError(f"{usage.free // 1024**2} MB are free under {folder}; make room, {_LITTLE_DISK // 1024**3} GB at the least")
    return f"{usage.free // 1024**3} GB of {usage.total // 1024**3} GB are free under {folder}"


def _clock(settings: Settings) -> str:
    from datetime import UTC, datetime

    now = datetime.now(UTC)
    # The program cannot be younger than now: a machine that lost its clock wakes up in the past.
    if now.timestamp() < Path(__file__).stat().st_mtime - 24 * 3600:
        raise SetupError(f"{now:%Y-%m-%d %H:%M} UTC is before this program was installed; set the clock, best by NTP")
    return f"{now.astimezone(settings.clinic_timezone):%Y-%m-%d %H:%M:%S %Z} in the clinic's zone {settings.clinic_timezone}"


def _mail(settings: Settings) -> str:
    return (
        "SMTP_URL is unset; no mail is sent, and codes for signing in come from an authenticator app, an SMS or `fhir-server user otp`"
        if settings.smtp_url is None
        else _reach(settings.smtp_url, "SMTP_URL")
    )


def _sms(settings: Settings) -> str:
    if settings.sms_url is None:
        return "SMS_URL is unset; no SMS is sent"
    from fhir_server.sms import sms_fault

    scheme = urlsplit(settings.sms_url).scheme
    if scheme in ("http", "https"):
        return _reach(settings.sms_url, "SMS_URL")
    fault = sms_fault(settings.sms_url)
    if fault is not None:
        raise SetupError(f"no SMS is sent: {fault}; mend SMS_URL")
    return f"SMS_URL is one as {scheme}:// services have it; whether the account is good is seen with the first SMS"


def _payment(settings: Settings) -> str:
    if settings.payment_api_key is None and settings.payment_webhook_secret is None:
        return "PAYMENT_API_KEY is unset; patients pay at the desk"
    missing = [name for name in ("PAYMENT_API_KEY", "PAYMENT_WEBHOOK_SECRET") if getattr(settings, name.lower()) is None]
    if missing:
        raise SetupError(f"{missing[0]} is unset; the gateway needs both the key and the secret of its webhook")
    from fhir_server.clinic.billing.gateway import gateway_of
    from fhir_server.clinic.billing.gateway.gateway import RefusedError, UnreachableError

    where = (
        "the gateway"
        if settings.payment_api_base is None
        else _reach(settings.payment_api_base, "PAYMENT_API_BASE").removesuffix(" takes connections")
    )
    gateway = gateway_of(settings)
    assert gateway is not None
    try:
        gateway.check()
    except UnreachableError:
        raise SetupError(f"{where} does not answer as a payment gateway does; mend PAYMENT_API_BASE or the network") from None
    except RefusedError:
        raise SetupError(
            f"{where} does not accept PAYMENT_API_KEY; take the secret key of the account, or one that may read and write payments"
        ) from None
    webhook = f"{settings.public_url or 'http://…'}/payments/webhook/stripe"
    return f"{where} accepts the key; the webhook's secret is set (only an event that arrives at {webhook} shows that it is the right one)"


def _reach(url: str, name: str) -> str:
    """Says that the host of the URL takes connections; never shows the URL, which may hold a password."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        host = port = None
    if not host or not port:
        raise SetupError(f"{name} names no host and port")
    try:
        with socket.create_connection((host, port), timeout=_SECONDS):
            return f"{host}:{port} takes connections"
    except OSError as error:
        raise SetupError(f"{host}:{port} cannot be reached ({error.strerror or error}); mend {name} or the network") from None


COMMANDS = (check,)
