"""Bank accounts of Organizations: an IBAN whose check digits do not fit would be printed on invoices, and paid to nobody or somebody else."""

from __future__ import annotations

from typing import Any

from fhir_server import iban

from .faults import Check, Faults, Scope, fault, place


def account_check(check: Check) -> Check:
    """The check of Organizations, which looks at their IBANs too."""

    def checked(value: Any, scope: Scope) -> Faults | None:
        faults = check(value, scope)
        identifiers = value.get("identifier") if type(value) is dict else None
        for n, each in enumerate(identifiers if type(identifiers) is list else ()):
            if type(each) is dict and each.get("system") == iban.SYSTEM and type(each.get("value")) is str and iban.normal(each["value"]) is None:
                found = fault("value", "This is no IBAN: its form or its check digits are not right")
                faults = place(faults, f".identifier[{n}].value", found)
        return faults

    return checked
