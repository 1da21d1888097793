"""What the clinic has decided about its appointments, by role and for all: kept in the database, and in force from the next request on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, Literal, get_args

from fhir_server.clinic.acting import Act
from fhir_server.store.database import Connection

Role = Literal["patient", "doctor", "staff"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)


@dataclass(frozen=True, slots=True)
class Policy:
    """What a role is held to when it books; None for no limit.

    Bookings begin `notice_minutes` from now at the soonest and `horizon_days` from now at the latest, and take `longest_minutes` at the most; a
    patient has up to `open_bookings` to come. What begins within `cancel_minutes` is neither cancelled nor moved.
    """

    notice_minutes: int | None = None
    horizon_days: int | None = None
    longest_minutes: int | None = None
    open_bookings: int | None = None
    cancel_minutes: int | None = None


@dataclass(frozen=True, slots=True)
class Practice:
    """What holds for all: who is booked and has not come `no_show_minutes` after the start is a no-show, None for never.

    Who waits for a time has `offer_minutes` to take one that is offered. `country` and `subdivision` (ISO 3166) say which public holidays the clinic
    is closed on, none without, and `closed` further days.
    """

    no_show_minutes: int | None = None
    offer_minutes: int = 30
    country: str | None = None
    subdivision: str | None = None
    closed: list[str] = field(default_factory=list)


DEFAULTS: Final[dict[Role, Policy]] = {"patient": Policy(longest_minutes=240, open_bookings=20), "doctor": Policy(), "staff": Policy()}
_PRACTICE: Final = "practice"


def role_of(act: Act) -> Role:
    """By which policy somebody books."""
    return "staff" if act.is_desk else "doctor" if act.is_clinical else "patient"


def policy(connection: Connection, role: Role) -> Policy:
    """What a role is held to."""
    return Policy(**{**asdict(DEFAULTS[role]), **_known(Policy, _stored(connection, role))})


def practice(connection: Connection) -> Practice:
    """What holds for all."""
    return Practice(**_known(Practice, _stored(connection, _PRACTICE)))


def decide(connection: Connection, role: Role | None, changes: dict[str, Any]) -> None:
    """Changes some of what a role is held to, or of what holds for all. In the caller's transaction; the values are known to be good."""
    connection.execute(
        "INSERT INTO scheduling_setting (name, value) VALUES (%s, %s::jsonb)"
        " ON CONFLICT (name) DO UPDATE SET value = scheduling_setting.value || excluded.value",
        (role or _PRACTICE, json.dumps(changes)),
    )


def _stored(connection: Connection, name: str) -> dict[str, Any]:
    row = connection.execute("SELECT value FROM scheduling_setting WHERE name = %s", (name,)).fetchone()
    return dict(row[0]) if row is not None else {}


def _known(kind: type[Policy | Practice], value: dict[str, Any]) -> dict[str, Any]:
    names = {each.name for each in fields(kind)}
    return {name: each for name, each in value.items() if name in names}
