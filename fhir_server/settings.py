"""The settings, read once at start from the environment and a `.env` file, then passed down as one frozen value."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

T = TypeVar("T")

CANON: Final = "https://clinic-fhir.example.org"
"""Below this stand the definitions that the server brings along: extensions, code systems, search parameters, operations."""
THREADS: Final = 3
"""Requests one API process works on at the same time; its pool of database connections is as large."""
NETWORK: Final[dict[str, Any]] = {
    "connect_timeout": 3,
    "tcp_user_timeout": 20_000,
    "keepalives_idle": 20,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}
"""Of connections to PostgreSQL: without these one over a network that swallows packets would hang for hours; they do nothing on a Unix socket."""

_UTC: Final = ZoneInfo("UTC")
_PREFIX: Final = "FHIR_SERVER_"
_LOG_LEVELS: Final = ("debug", "info", "warning", "error")


class SetupError(Exception):
    """What stands in the way of starting: one line for the operator that says what to do."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set; the name in the environment is the field's in capitals. `repr` leaves the secrets out.

    `data` is the data directory. `database_url` is None until the embedded server has started. `clinic_timezone` places dates without a zone.
    `approval_limit` is how much of an invoice, in its currency, one person alone may take off or write off. `max_body_mb` is in MiB,
    `max_exports_mb`, the room for all bulk exports, in MB, `hold_seconds` in seconds, `auth_address_limit` in failed sign-ins per address and 15
    minutes.
    """

    data: Path
    jwt_secret: str = field(repr=False)
    data_key: str | None = field(default=None, repr=False)
    database_url: str | None = field(default=None, repr=False)
    broker_url: str | None = field(default=None, repr=False)
    public_url: str | None = None
    clinic_timezone: ZoneInfo = _UTC
    max_body_mb: int = 64
    max_exports_mb: int = 10_000
    reference_integrity: bool = False
    profile_check: str = "off"
    metrics_token: str | None = field(default=None, repr=False)
    currency: str = "EUR"
    approval_limit: int = 50
    hold_seconds: int = 300
    auth_address_limit: int = 100
    log_level: str = "info"
    payment_api_key: str | None = field(default=None, repr=False)
    payment_api_base: str | None = None
    payment_webhook_secret: str | None = field(default=None, repr=False)
    smtp_url: str | None = field(default=None, repr=False)
    sms_url: str | None = field(default=None, repr=False)
    mllp_tls_cert: Path | None = None
    mllp_tls_key: Path | None = None
    mllp_tls_ca: Path | None = None
    mllp_allow: tuple[str, ...] = ()
    hl7v2_mappings: Path | None = None

    @property
    def max_body(self) -> int:
        """The largest request body, in bytes."""
        return self.max_body_mb * 1024 * 1024

    @property
    def max_exports(self) -> int:
        """How much all bulk exports may take that are kept, in bytes."""
        return self.max_exports_mb * 1_000_000

    @classmethod
    def read(cls, environ: Mapping[str, str], data: Path) -> Settings:
        """The settings of an environment. An empty value counts as not set.

        Makes the data directory and `jwt-secret` in it (mode 0600) where no JWT_SECRET is given, and `data-key` where there is no DATA_KEY and the
        database is in the data directory too. With a database elsewhere, which several hosts may share, JWT_SECRET seals until DATA_KEY is set.
        Raises SetupError for a value that cannot be used and for an unknown FHIR_SERVER_* name.
        """
        for name in sorted(environ):
            if name.startswith(_PREFIX):
                known = ", ".join(sorted(_READERS))
                raise SetupError(f"{name} is not a setting of this server; unset it. The settings are {known}")
        values: dict[str, Any] = {}
        for name, read in _READERS.items():
            text = environ.get(name, "").strip()
            if text:
                try:
                    values[name.lower()] = read(text)
                except ValueError as error:
                    raise SetupError(f"{name}: {error}") from None
        if ("mllp_tls_cert" in values) != ("mllp_tls_key" in values):
            raise SetupError("MLLP_TLS_CERT and MLLP_TLS_KEY are set together or not at all")
        if "mllp_tls_ca" in values and "mllp_tls_cert" not in values:
            raise SetupError("MLLP_TLS_CA is for connections that are encrypted; set MLLP_TLS_CERT and MLLP_TLS_KEY too")
        if "jwt_secret" not in values:
            values["jwt_secret"] = _kept_secret(data, "jwt-secret", "JWT_SECRET")
        if "data_key" not in values and "database_url" not in values:
            values["data_key"] = _kept_secret(data, "data-key", "DATA_KEY")
        return cls(data=data, **values)

    def listed(self) -> list[tuple[str, str]]:
        """Each setting's name and value in order, a secret as `set` or `unset`."""
        rows = [("data", str(self.data))]
        for entry in fields(self)[1:]:
            value = getattr(self, entry.name)
            if not entry.repr:
                text = "set" if value else "unset"
            elif isinstance(value, bool):
                text = "on" if value else "off"
            elif isinstance(value, tuple):
                text = ",".join(value) or "unset"
            else:
                text = "unset" if value is None else str(value)
            rows.append((entry.name.upper(), text))
        return rows


def environment(directory: Path) -> dict[str, str]:
    """The process's environment over the names in `directory/.env`.

    The file has a `NAME=value` in each line; quotes around a value, `export ` before a name, blank lines and lines that begin with # are allowed.
    Raises SetupError for any other line.
    """
    path = directory / ".env"
    found: dict[str, str] = {}
    if path.is_file():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SetupError(f"{path} cannot be read: {error}") from None
        for number, line in enumerate(lines, 1):
            stripped = line.strip().removeprefix("export ")
            if not stripped or stripped.startswith("#"):
                continue
            name, equals, value = stripped.partition("=")
            if not equals or not name.strip().isidentifier():
                raise SetupError(f"{path}, line {number}: NAME=value is expected")
            value = value.strip()
            if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
                value = value[1:-1]
            found[name.strip()] = value
    return found | os.environ


def make_data_directory(data: Path) -> None:
    """Makes the directory if it is not there: closed to others, except that a server run by root lets its database's account pass through.

    Raises SetupError where it cannot be made.
    """
    try:
        data.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(f"the data directory {data} cannot be made ({error.strerror}); name another with --data") from None


def _kept_secret(data: Path, file: str, setting: str) -> str:
    make_data_directory(data)
    path = data / file
    try:
        if not path.exists():
            # Written aside and linked into place, so that of two processes at the same moment both read the same secret.
            draft = data / f".{file}-{os.getpid()}"
            descriptor = os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as stream:
                stream.write(secrets.token_urlsafe(48))
            try:
                os.link(draft, path)
            except FileExistsError:
                pass
            finally:
                draft.unlink()
        return _secret_text(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError) as error:
        raise SetupError(f"{path} cannot be used: {error}; mend it, remove it, or set {setting}") from None


def _text(value: str) -> str:
    return value


def _secret_text(value: str) -> str:
    if len(value.encode()) < 32:  # noqa: PLR2004 - the digest size of HS256, https://www.rfc-editor.org/rfc/rfc7518#section-3.2
        raise ValueError("a secret of at least 32 bytes is needed")
    return value


def _url(*schemes: str) -> Callable[[str], str]:
    # The messages leave the value out: it may hold a password.
    def read(value: str) -> str:
        try:
            scheme = urlsplit(value).scheme
        except ValueError:
            scheme = ""
        if schemes and scheme not in schemes:
            raise ValueError(f"a URL that begins with {' or '.join(s + '://' for s in schemes)} is expected")
        if not scheme:
            raise ValueError("a URL is expected")
        return value

    return read


def _database_url(value: str) -> str:
    return _url("postgresql", "postgres")(value).replace("postgres://", "postgresql://", 1)


def _public_url(value: str) -> str:
    parts = urlsplit(_url("http", "https")(value))
    if not parts.hostname or parts.query or parts.fragment:
        raise ValueError("a URL as https://fhir.example.org is expected, without query and fragment")
    return value.rstrip("/")


def _zone(value: str) -> ZoneInfo:
    try:
        return ZoneInfo(value)
    except (OSError, ValueError, LookupError):
        raise ValueError(f"'{value}' is not a time zone; names are as Europe/Berlin") from None


def _number(low: int, high: int) -> Callable[[str], int]:
    def read(value: str) -> int:
        if not (value.isascii() and value.isdigit() and len(value) < 10 and low <= int(value) <= high):  # noqa: PLR2004 - beyond any bound
            raise ValueError(f"a whole number from {low} to {high} is expected, not '{value}'")
        return int(value)

    return read


def _one_of(*names: str) -> Callable[[str], str]:
    def read(value: str) -> str:
        if value.lower() not in names:
            raise ValueError(f"one of {', '.join(names)} is expected, not '{value}'")
        return value.lower()

    return read


def _switch(value: str) -> bool:
    return _one_of("off", "on")(value) == "on"


def _currency(value: str) -> str:
    if not (len(value) == 3 and value.isascii() and value.isalpha() and value.isupper()):  # noqa: PLR2004 - ISO 4217
        raise ValueError(f"a code of ISO 4217 as EUR is expected, not '{value}'")
    return value


def _folder(text: str) -> Path:
    path = Path(text).expanduser().absolute()
    if not path.is_dir():
        raise ValueError("is not a folder")
    return path


def _file(value: str) -> Path:
    path = Path(value)
    if not path.is_file():
        raise ValueError(f"the file {value} is not there")
    return path


def _list(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


_READERS: Final[dict[str, Callable[[str], Any]]] = {
    "DATABASE_URL": _database_url,
    "BROKER_URL": _url(),
    "JWT_SECRET": _secret_text,
    "DATA_KEY": _secret_text,
    "PUBLIC_URL": _public_url,
    "CLINIC_TIMEZONE": _zone,
    "MAX_BODY_MB": _number(1, 2048),
    "MAX_EXPORTS_MB": _number(1, 100_000_000),
    "REFERENCE_INTEGRITY": _switch,
    "PROFILE_CHECK": _one_of("off", "declared"),
    "METRICS_TOKEN": _text,
    "CURRENCY": _currency,
    "APPROVAL_LIMIT": _number(0, 100_000_000),
    "HOLD_SECONDS": _number(1, 86_400),
    "AUTH_ADDRESS_LIMIT": _number(1, 1_000_000),
    "LOG_LEVEL": _one_of(*_LOG_LEVELS),
    "PAYMENT_API_KEY": _text,
    "PAYMENT_API_BASE": _url("http", "https"),
    "PAYMENT_WEBHOOK_SECRET": _text,
    "SMTP_URL": _url("smtp", "smtps"),
    "SMS_URL": _url(),
    "MLLP_TLS_CERT": _file,
    "MLLP_TLS_KEY": _file,
    "MLLP_TLS_CA": _file,
    "MLLP_ALLOW": _list,
    "HL7V2_MAPPINGS": _folder,
}

NAMES: Final = tuple(_READERS)
"""The names of all settings in the environment."""
