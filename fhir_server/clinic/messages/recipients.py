"""Whom a message reaches, and how: the proved address of a patient's account, else what their record has. Pure.

https://hl7.org/fhir/R4/datatypes.html#ContactPoint
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from fhir_server.access.accounts.notifications import Choice
from fhir_server.search.params.date import parse_date

from .events import CHANNELS, Channel

Json = dict[str, Any]

_EMAIL: Final = re.compile(r"[!-?A-~]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9\-]{0,62}\.){0,8}[A-Za-z0-9\-]{1,63}", re.ASCII)
_PHONE: Final = re.compile(r"\+?[0-9]{5,15}", re.ASCII)
_MOBILE: Final = ("mobile", None)


@dataclass(frozen=True, slots=True)
class Recipient:
    """Where messages reach a patient: an address by channel, of those that exist; and the channels that are welcome."""

    email: str | None
    sms: str | None
    welcome: frozenset[Channel]

    def address(self, channel: Channel) -> str | None:
        """The address of a channel."""
        return self.email if channel == "email" else self.sms

    @property
    def channels(self) -> tuple[Channel, ...]:
        """The welcome channels that there is an address for."""
        return tuple(each for each in CHANNELS if each in self.welcome and self.address(each) is not None)


def recipient(patient: Json, choice: Choice, now: datetime, zone: ZoneInfo) -> Recipient:
    """Where messages reach a patient, of whose record this is the content, now."""
    told = [each for each in patient.get("telecom", ()) if _holds(each, now, zone)]
    told.sort(key=lambda each: each.get("rank", 1_000))
    email = choice.email or next((text for each in told if each.get("system") == "email" and (text := _email(each))), None)
    texting = next((text for each in told if each.get("system") == "sms" and (text := _phone(each))), None)
    mobile = next(
        (text for use in _MOBILE for each in told if each.get("system") == "phone" and each.get("use") == use and (text := _phone(each))), None
    )
    # A number that is there for SMS says that these are welcome, as long as nobody has decided otherwise.
    sms_wanted = choice.wanted.sms or (texting is not None and not choice.decided)
    yes = {"email": choice.wanted.email, "sms": sms_wanted}
    welcome = {each for each in CHANNELS if yes[each] and each not in choice.refused}
    return Recipient(email, choice.phone or texting or mobile, frozenset(welcome))


def languages(patient: Json) -> tuple[str, ...]:
    """The languages that a patient is spoken to in, the preferred ones first."""
    spoken = sorted(patient.get("communication", ()), key=lambda each: not each.get("preferred", False))
    found = (coding.get("code") for each in spoken for coding in each.get("language", {}).get("coding", ()))
    return tuple(dict.fromkeys(each for each in found if each))


def given_name(patient: Json) -> str:
    """What a patient is greeted by; empty where their record has no name."""
    names = patient.get("name", ())
    chosen = next((each for use in ("usual", "official") for each in names if each.get("use") == use), names[0] if names else {})
    return str(next(iter(chosen.get("given", ())), "") or chosen.get("text", ""))


def is_alive(patient: Json) -> bool:
    """Whether messages make sense: not after a death, and not to a record that another one has taken the place of."""
    return not (patient.get("deceasedBoolean") or "deceasedDateTime" in patient or patient.get("active") is False)


def _holds(point: Json, now: datetime, zone: ZoneInfo) -> bool:
    if point.get("use") == "old":
        return False
    try:
        end = point.get("period", {}).get("end")
        return end is None or parse_date(end, zone)[1] > now
    except (ValueError, OverflowError):
        return True


def _email(point: Json) -> str | None:
    text = str(point.get("value", "")).strip().removeprefix("mailto:")
    return text if _EMAIL.fullmatch(text) else None


def _phone(point: Json) -> str | None:
    text = re.sub(r"[\s()./\-]", "", str(point.get("value", "")).removeprefix("tel:"))
    return text if _PHONE.fullmatch(text) else None
