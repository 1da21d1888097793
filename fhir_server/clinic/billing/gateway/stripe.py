"""Stripe, through its own library: https://docs.stripe.com/api

A payment is a Checkout Session, which has a page of Stripe's own; a stand-in that has none answers 404, and is given a PaymentIntent, which our own
page lets be paid. What we call a payment is found again by `clinic_payment` in its metadata.

Stripe counts in the smallest unit, which for some currencies is not that of ISO 4217: https://docs.stripe.com/currencies#zero-decimal
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from itertools import islice
from typing import Any, Final, TypeVar

import stripe

from fhir_server.clinic.billing.money import EXACT, digits, rounded
from fhir_server.outcome import Outcome

from .gateway import TOLERANCE, Dispute, Event, Order, Payment, Refund, RefundState, RefusedError, State, UnreachableError

T = TypeVar("T")
Json = dict[str, Any]

TIMEOUT: Final = (4.0, 9.0)
"""Seconds to connect, and to wait for an answer; with RETRIES that is half a minute at the most."""
RETRIES: Final = 1
MOST: Final = 10_000
"""Payments that one listing goes through."""
OUR_ID: Final = "clinic_payment"
"""The name of our id in the metadata of a payment, and of a refund."""

_BASE: Final = "https://api.stripe.com"
# A gateway without a page of its own is a stand-in, which takes any key that looks like one.
_STAND_IN_KEY: Final = "pk_test_stand_in"
_WHOLE: Final = frozenset({"BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF"})
_THOUSANDTHS: Final = frozenset({"BHD", "JOD", "KWD", "OMR", "TND"})
_UNKNOWN: Final = frozenset({"CLF", "UYW", "IQD", "LYD"})
_NAME: Final = re.compile(r"[A-Za-z0-9_.\-]{1,255}")
_HEADER: Final = re.compile(r"[\x21-\x7e ]{1,4096}")
_STATES: Final[dict[str, State]] = {
    "requires_payment_method": "requires_action",
    "requires_confirmation": "requires_action",
    "requires_action": "requires_action",
    "requires_capture": "processing",
    "processing": "processing",
    "succeeded": "succeeded",
    "canceled": "cancelled",
}
_REFUNDS: Final[dict[str, RefundState]] = {
    "succeeded": "succeeded",
    "pending": "submitted",
    "requires_action": "submitted",
    "failed": "failed",
    "canceled": "failed",
}
# By a code that passes nothing is known of what was done; all others say that nothing was.
_PASSING: Final = (stripe.APIConnectionError, stripe.RateLimitError, stripe.IdempotencyError)
_EXPANDED: Final = ["latest_charge"]
# What moves money is asked for before it is sent again, which the library's own retries would not do.
_ONCE: Final[Any] = {"max_network_retries": 0}

# The library tells whole bodies at debug.
logging.getLogger("stripe").setLevel(logging.WARNING)
stripe.enable_telemetry = False


class Stripe:
    """The gateway. Safe to share between threads."""

    name = "stripe"

    def __init__(self, key: str, base: str | None, secret: str | None) -> None:
        """`key` is the secret one, `base` the address without `/v1`, `secret` that of the webhook."""
        self._base = (base or _BASE).rstrip("/")
        client = stripe.StripeClient(
            key,
            base_addresses={"api": self._base},
            max_network_retries=RETRIES,
            http_client=stripe.RequestsClient(timeout=TIMEOUT),
        )
        self._v1 = client.v1
        self._secret = secret
        self._has_pages = True

    def require(self, amount: Decimal, currency: str) -> None:
        """See `Gateway`."""
        minor(amount, currency)

    def begin(self, order: Order) -> Payment:
        """See `Gateway`."""
        amount, currency = minor(order.amount, order.currency), order.currency.lower()
        options: Any = {"idempotency_key": order.key}
        if self._has_pages:
            item = {"quantity": 1, "price_data": {"currency": currency, "unit_amount": amount, "product_data": {"name": order.title}}}
            asked: Any = {
                "mode": "payment",
                "line_items": [item],
                "client_reference_id": order.id,
                "metadata": {OUR_ID: order.id},
                "payment_intent_data": {"metadata": {OUR_ID: order.id}},
                "success_url": order.back,
                "cancel_url": order.back,
            }
            found = _called(lambda: self._v1.checkout.sessions.create(asked, options), absent=self._is_stand_in)
            if found is not None:
                return _of_session(found)
            self._has_pages = False
        wanted: Any = {"amount": amount, "currency": currency, "metadata": {OUR_ID: order.id}}
        return _of_intent(_called(lambda: self._v1.payment_intents.create(wanted, options)))

    def find(self, order: Order) -> Payment | None:
        """See `Gateway`."""
        since = int(order.since.timestamp()) - TOLERANCE
        if self._has_pages:
            sessions = _called(lambda: self._pages(self._v1.checkout.sessions.list, {"created": {"gte": since}}), absent=self._is_stand_in)
            if sessions is not None:
                return next((_of_session(each) for each in sessions if each.get("client_reference_id") == order.id), None)
            self._has_pages = False
        found = (each for each in self._intents(since, None) if _metadata(each).get(OUR_ID) == order.id)
        return next(map(_of_intent, found), None)

    def ask(self, reference: str | None, session: str | None) -> Payment:
        """See `Gateway`."""
        if reference is not None:
            return _of_intent(_called(lambda: self._v1.payment_intents.retrieve(reference, {"expand": _EXPANDED})))
        if session is None:
            raise ValueError("a payment is asked for by a number")
        asked: Any = {"expand": ["payment_intent.latest_charge"]}
        return _of_session(_called(lambda: self._v1.checkout.sessions.retrieve(session, asked)))

    def cancel(self, reference: str | None, session: str | None) -> Payment:
        """See `Gateway`."""
        try:
            if session is not None:
                return _of_session(_called(lambda: self._v1.checkout.sessions.expire(session)))
            return _of_intent(_called(lambda: self._v1.payment_intents.cancel(str(reference))))
        except RefusedError:
            # It is paid, or being paid, or over already.
            return self.ask(reference, session)

    def confirm(self, reference: str, means: str) -> Payment:
        """See `Gateway`."""
        if not _NAME.fullmatch(means):
            raise RefusedError("no_means")
        changed: Any = {"payment_method": means}
        _called(lambda: self._v1.payment_intents.update(reference, changed))
        try:
            return _of_intent(_called(lambda: self._v1.payment_intents.confirm(reference, options=_ONCE)))
        except UnreachableError:
            return self.ask(reference, None)

    def refund(self, reference: str, identity: str, key: str, amount: Decimal, currency: str) -> Refund:
        """See `Gateway`."""
        asked: Any = {"payment_intent": reference, "amount": minor(amount, currency), "metadata": {OUR_ID: identity}}
        options: Any = {"idempotency_key": key, **_ONCE}
        return _of_refund(_called(lambda: self._v1.refunds.create(asked, options)))

    def find_refund(self, reference: str, identity: str) -> Refund | None:
        """See `Gateway`."""
        found = _called(lambda: self._pages(self._v1.refunds.list, {"payment_intent": reference}))
        return next((_of_refund(each) for each in found if _metadata(each).get(OUR_ID) == identity), None)

    def listed(self, start: datetime, end: datetime) -> Iterator[Payment]:
        """See `Gateway`. Raises UnreachableError beyond MOST."""
        return map(_of_intent, self._intents(int(start.timestamp()), int(end.timestamp())))

    def verify(self, raw: bytes, signature: str, now: float) -> None:
        """See `Gateway`. https://docs.stripe.com/webhooks#verify-manually."""
        if self._secret is None:
            raise Outcome("not-found", "No webhook is set up here")
        fault = Outcome("malformed", "The signature is not that of this body, or too old", code="security")
        if not _HEADER.fullmatch(signature):
            raise fault
        try:
            stripe.WebhookSignature.verify_header(raw, signature, self._secret)
            (signed,) = {int(part[2:]) for part in signature.split(",") if part.startswith("t=")}
        except (stripe.SignatureVerificationError, ValueError):
            raise fault from None
        if abs(now - signed) > TOLERANCE:
            raise fault

    def read(self, raw: bytes) -> Event:
        """See `Gateway`."""
        try:
            event = json.loads(raw)
        except (ValueError, RecursionError):
            raise Outcome("malformed", "The body is not JSON") from None
        found = event.get("data") if isinstance(event, dict) else None
        about = found.get("object") if isinstance(found, dict) else None
        identity, kind = (event.get("id"), event.get("type")) if isinstance(event, dict) else (None, None)
        if not isinstance(about, dict) or not _is_name(identity) or not _is_name(kind):
            raise Outcome("malformed", "The body is no event, which has an id, a type, and data about an object")
        reader = _READERS.get(str(kind))
        if reader is None:
            return Event(str(identity), str(kind))
        try:
            return reader(Event(str(identity), str(kind)), about)
        except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError, Outcome):
            raise Outcome("malformed", f"The object of this event is none of a {str(kind)[:60]}") from None

    def script(self) -> tuple[str, str]:
        """See `Gateway`."""
        return f"{self._base}/js.stripe.com/v3/", _STAND_IN_KEY

    @property
    def _is_stand_in(self) -> bool:
        """Whether it is another server that speaks Stripe's interface, and may not speak all of it."""
        return self._base != _BASE

    def check(self) -> None:
        """See `Gateway`."""
        asked: Any = {"limit": 1}
        _called(lambda: self._v1.payment_intents.list(asked))

    def _intents(self, start: int, end: int | None) -> Iterator[Json]:
        created = {"gte": start} | ({"lt": end} if end is not None else {})
        expanded = [f"data.{name}" for name in _EXPANDED]
        try:
            found = _called(lambda: self._pages(self._v1.payment_intents.list, {"created": created, "expand": expanded}))
        except RefusedError:
            # A stand-in lists all or nothing.
            found = _called(lambda: self._pages(self._v1.payment_intents.list, {}))
        return (each for each in found if start <= each["created"] and (end is None or each["created"] < end))

    @staticmethod
    def _pages(listing: Callable[[Any], Any], asked: Json) -> list[Json]:
        found = [each.to_dict() for each in islice(listing({"limit": 100, **asked}).auto_paging_iter(), MOST)]
        if len(found) == MOST:
            raise UnreachableError("too_many")
        return found


def minor(amount: Decimal, currency: str) -> int:
    """An amount as Stripe counts it. Raises Outcome `business-rule` for one, or a currency, that it cannot."""
    step = Decimal(1).scaleb(-_exponent(currency))
    if currency in _THOUSANDTHS:
        step = Decimal("0.01")
    if currency in {"ISK", "UGX"}:
        step = Decimal(1)
    if currency in _UNKNOWN or EXACT.remainder(amount, step):
        said = f"takes amounts in {currency} in steps of {step}" if currency not in _UNKNOWN else f"takes no {currency}"
        raise Outcome("business-rule", f"The gateway {said}; pay such an amount at the desk", expression="amount")
    return int(amount.scaleb(_exponent(currency)))


def _exponent(currency: str) -> int:
    return 0 if currency in _WHOLE else 3 if currency in _THOUSANDTHS else 2


def _major(amount: Any, currency: str) -> Decimal:
    if not isinstance(amount, int) or isinstance(amount, bool):
        raise TypeError("an amount is a whole number")
    digits(currency)
    return rounded(Decimal(amount).scaleb(-_exponent(currency)), currency)


def _called(call: Callable[[], Any], *, absent: bool = False) -> Any:
    """What a call gives, as plain data; with `absent` None where the gateway has no such address at all."""
    try:
        found = call()
    except _PASSING:
        raise UnreachableError("unreachable") from None
    except stripe.StripeError as error:
        status = error.http_status or 0
        # What is not there at all is answered without an object of Stripe's.
        if absent and status in {404, 405} and (error.error is None or not error.code):
            return None
        if status == 0 or status >= 500 or isinstance(error, stripe.APIError):  # noqa: PLR2004 - the server's own fault
            raise UnreachableError("unreachable") from None
        raise RefusedError(_reason(error)) from None
    return found if isinstance(found, list) else found.to_dict()


def _reason(error: stripe.StripeError) -> str:
    """A code that says why, and never more: the library's texts repeat keys and numbers."""
    if isinstance(error, stripe.AuthenticationError | stripe.PermissionError):
        return "key_not_accepted"
    code = error.code or "refused"
    return code if _NAME.fullmatch(code) else "refused"


def _metadata(found: Json) -> Json:
    metadata = found.get("metadata")
    return metadata if isinstance(metadata, dict) else {}


def _of_intent(found: Json) -> Payment:
    currency = str(found["currency"]).upper()
    charge = found.get("latest_charge")
    refunded = charge.get("amount_refunded") or 0 if isinstance(charge, dict) else 0
    state = _STATES.get(found.get("status", ""), "unknown")
    return Payment(
        "failed" if state == "requires_action" and found.get("last_payment_error") else state,
        _major(found.get("amount_received") or found["amount"], currency),
        currency,
        _known(_metadata(found).get(OUR_ID)),
        _known(found["id"]),
        refunded=_major(refunded, currency),
    )


def _of_session(found: Json) -> Payment:
    intent = found.get("payment_intent")
    order = _known(found.get("client_reference_id")) or _known(_metadata(found).get(OUR_ID))
    currency = str(found["currency"]).upper()
    status, is_paid = found.get("status"), found.get("payment_status") in {"paid", "no_payment_required"}
    state: State = "succeeded" if is_paid else {"complete": "processing", "expired": "cancelled"}.get(str(status), "requires_action")  # type: ignore[assignment]
    reference, refunded = intent if isinstance(intent, str) else None, Decimal(0)
    if isinstance(intent, dict):
        whole = _of_intent(intent)
        reference, refunded = whole.reference, whole.refunded
    amount = _major(found["amount_total"], currency)
    return Payment(state, amount, currency, order, _known(reference), _known(found["id"]), found.get("url"), refunded)


def _of_refund(found: Json) -> Refund:
    return Refund(_REFUNDS.get(found.get("status") or "succeeded", "unknown"), str(found["id"]))


def _known(name: Any) -> str | None:
    return name if _is_name(name) else None


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def _about_intent(event: Event, about: Json) -> Event:
    state: State = {"payment_intent.succeeded": "succeeded", "payment_intent.canceled": "cancelled"}.get(event.type, "failed")  # type: ignore[assignment]
    amount, currency = _told(about, about.get("amount_received") or about.get("amount"))
    return replace(event, payment=Payment(state, amount, currency, _known(_metadata(about).get(OUR_ID)), _known(about["id"])))


def _about_session(event: Event, about: Json) -> Event:
    ending: dict[str, State] = {"checkout.session.expired": "cancelled", "checkout.session.async_payment_failed": "failed"}
    is_paid = about.get("payment_status") in {"paid", "no_payment_required"}
    state: State = ending.get(event.type, "succeeded" if is_paid else "processing")
    amount, currency = _told(about, about.get("amount_total"))
    order = _known(about.get("client_reference_id")) or _known(_metadata(about).get(OUR_ID))
    payment = Payment(state, amount, currency, order, _known(about.get("payment_intent")), _known(about["id"]))
    return replace(event, payment=payment, doubtful=event.type not in ending and "payment_status" not in about)


def _about_charge(event: Event, about: Json) -> Event:
    amount, currency = _told(about, about.get("amount_captured") or about.get("amount"))
    refunded = _major(about["amount_refunded"], str(about["currency"]).upper())
    order, reference = _known(_metadata(about).get(OUR_ID)), _known(about.get("payment_intent"))
    return replace(event, payment=Payment("succeeded", amount, currency, order, reference, refunded=refunded))


def _about_dispute(event: Event, about: Json) -> Event:
    dispute = Dispute(str(about["id"])[:255], str(about.get("reason") or "")[:100])
    payment = Payment("unknown", None, None, _known(_metadata(about).get(OUR_ID)), _known(about.get("payment_intent")))
    return replace(event, payment=payment, dispute=dispute)


def _told(about: Json, amount: Any) -> tuple[Decimal | None, str | None]:
    """The amount and the currency of an event's object; None where it does not tell them."""
    if amount is None or about.get("currency") is None:
        return None, None
    currency = str(about["currency"]).upper()
    return _major(amount, currency), currency


_READERS: Final[dict[str, Callable[[Event, Json], Event]]] = {
    "payment_intent.succeeded": _about_intent,
    "payment_intent.payment_failed": _about_intent,
    "payment_intent.canceled": _about_intent,
    "checkout.session.completed": _about_session,
    "checkout.session.async_payment_succeeded": _about_session,
    "checkout.session.async_payment_failed": _about_session,
    "checkout.session.expired": _about_session,
    "charge.refunded": _about_charge,
    "charge.dispute.created": _about_dispute,
}
