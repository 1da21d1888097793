"""`/subscriptions` and `/subscription-deliveries`: how it goes with Subscriptions, what they are signed with, and their notifications."""

from __future__ import annotations

from typing import Any, Final

from flask import Response

from fhir_server.access.audit import Event
from fhir_server.clinic.subscriptions import rows
from fhir_server.clinic.subscriptions.rows import Delivery, Subscribed
from fhir_server.store.database import Connection
from fhir_server.store.rules.subscribers import holder_of

from .exchange import Answer, act, number_of
from .office import instant, office
from .pages import conditions, number_before, paged, position
from .routes import Routes
from .schemas import subscriptions as schemas
from .schemas.common import Paging

routes: Final = Routes("subscriptions", "FHIR Subscriptions: how it goes with each, and the notifications on their way.")

_DELIVERY: Final = ("id", "subscription", "type", "resource", "version", "state", "attempts", "fault")


@routes.route("/subscriptions")
@routes.arguments(Paging, location="query")
@routes.response(200, schemas.Subscriptions)
def subscriptions(asked: dict[str, Any]) -> Response:
    """List Subscriptions

    How it goes with each; what it asks for is in the FHIR resource.
    """
    after = position(asked)
    with office().store.database.connection() as connection:
        found = rows.page(connection, str(after[0]) if after else None, asked["limit"] + 1)
        counts = rows.counts(connection, [each.id for each in found])
    return paged(asked, found, lambda row: (row.id,), lambda row: _shown(row, counts.get(row.id, (0, 0))))


@routes.route("/subscriptions/<identity>/rotate-secret", methods=["POST"])
@routes.response(200, schemas.SubscriptionSecret)
@routes.idempotent
def rotate(identity: str) -> Response:
    """Give a Subscription another secret

    That its notifications are signed with, where the subscriber has brought none. The one before is void at once.
    """

    def work(connection: Connection) -> Answer:
        secret = office().subscriptions.rotate_secret(connection, identity)
        return Answer({"secret": secret}, event=Event("client-change", type="Subscription", resource=identity, detail="another secret"))

    return act(work)


@routes.route("/subscription-deliveries")
@routes.arguments(schemas.NotificationsQuery, location="query")
@routes.response(200, schemas.SubscriptionDeliveries)
def deliveries(asked: dict[str, Any]) -> Response:
    """List notifications of Subscriptions

    The newest first; `state=dead` for those that were not taken.
    """
    after = number_before(asked)
    wanted = conditions(asked)
    with office().store.database.connection() as connection:
        found = rows.deliveries(connection, wanted, after, asked["limit"] + 1)
    return paged(asked, found, lambda row: (str(row.id),), _told)


@routes.route("/subscription-deliveries/<identity>/replay", methods=["POST"])
@routes.response(200, schemas.SubscriptionDelivery)
@routes.idempotent
def replay(identity: str) -> Response:
    """Send a notification of a Subscription again

    One that was delivered too. It waits in its old place, and leaves as soon as the Subscription is active. 409 for one that waits.
    """

    def work(connection: Connection) -> Answer:
        found = rows.replay(connection, number_of(identity, "notification"))
        return Answer(_told(found), event=Event("operation", type="subscription-delivery", resource=identity, detail="sent again"))

    return act(work)


def _shown(row: Subscribed, counts: tuple[int, int]) -> dict[str, Any]:
    holder = holder_of(row.holder)
    told = {name: getattr(row, name) for name in ("id", "state", "type", "failures", "fault")}
    moments = {name: instant(getattr(row, name)) for name in ("due", "ends")}
    return told | moments | {"holder": holder.actor, "client": holder.client, "waiting": counts[0], "dead": counts[1]}


def _told(row: Delivery) -> dict[str, Any]:
    return {name: getattr(row, name) for name in _DELIVERY} | {name: instant(getattr(row, name)) for name in ("created", "ended")}
