"""What the clinic has decided about payments: which coins there are, and whether cash is taken in a shift alone."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any, Final

import msgspec

from fhir_server.access.policy import Policy
from fhir_server.clinic import ruling
from fhir_server.clinic.billing.money import ZERO, digits, rounded
from fhir_server.outcome import Outcome
from fhir_server.store import Store
from fhir_server.store.database import Connection

COINS: Final[dict[str, str]] = {
    **dict.fromkeys(("AUD", "CAD", "CHF", "MYR"), "0.05"),
    **dict.fromkeys(("ILS", "NZD", "ZAR"), "0.10"),
    **dict.fromkeys(("CZK", "NOK", "SEK"), "1"),
    "DKK": "0.50",
    "HUF": "5",
}
"""The smallest coin of currencies whose smaller ones are gone. Where a country of the euro rounds, its clinics decide so."""
_MOST: Final = 20
_LONGEST: Final = 10


class Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`coins` are the smallest by currency, besides or instead of those in COINS; 0 for no rounding.

    With `shift_required` cash is taken, and given back, in a shift alone.
    """

    coins: dict[str, str] = {}
    shift_required: bool = False

    def step(self, currency: str) -> Decimal | None:
        """The smallest amount of cash of a currency; None where every amount can be counted out."""
        coin = Decimal(self.coins.get(currency, COINS.get(currency, "0")))
        return coin if coin > 0 else None

    def checked(self) -> Rules:
        """The rules themselves. Raises Outcome `invalid` for what cannot be."""
        if len(self.coins) > _MOST:
            raise Outcome("invalid", f"There are up to {_MOST} currencies", expression="coins")
        for currency, text in self.coins.items():
            digits(currency)
            try:
                coin = Decimal(text) if len(text) <= _LONGEST else Decimal("NaN")
                known = coin.is_finite() and ZERO <= coin == rounded(coin, currency)
            except InvalidOperation:
                known = False
            if not known:
                raise Outcome("invalid", "A coin is an amount such as 0.05, or 0 for no rounding", expression="coins")
        return self


def rules_of(store: Store, connection: Connection) -> Rules:
    """The rules that count now."""
    return ruling.read(Rules, Policy(store).payments(connection))


def set_rules(store: Store, connection: Connection, changes: dict[str, Any], by: str) -> Rules:
    """The rules with some of them changed, within the caller's transaction. Raises Outcome `invalid`."""
    found = ruling.changed(rules_of(store, connection), changes)
    Policy(store).set_payments(ruling.kept(found), by, connection)
    return found
