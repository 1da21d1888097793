"""`/hl7v2/peers` and `/hl7v2/outbox`: who is told of changes by HL7 v2, and what is on its way there."""

from __future__ import annotations

from dataclasses import fields as fields_of
from dataclasses import replace
from typing import Any, Final

from flask import Response
from flask.views import MethodView

from fhir_server.access.audit import Event
from fhir_server.hl7v2.outbound import deliveries, peers
from fhir_server.hl7v2.outbound.deliveries import Delivery
from fhir_server.hl7v2.outbound.peers import CHARSETS, NewPeer, Peer
from fhir_server.outcome import Outcome
from fhir_server.store.database import Connection

from .exchange import Answer, act, answered, check_match, etag, number_of, tagged
from .office import caller, instant, office
from .pages import conditions, moment_before, number_before, paged
from .routes import PREFIX, Routes
from .schemas import hl7v2_outbound as schemas
from .schemas.common import Paging

routes: Final = Routes("hl7v2-outbound", "Changes told to other systems by HL7 v2: who they are, and the messages on their way.")

_KEPT: Final = tuple(each.name for each in fields_of(NewPeer))
_LISTED: Final = ("id", "peer", "control_id", "event", "type", "resource", "version", "state", "attempts", "fault")


@routes.route("/hl7v2/peers")
class Peers(MethodView):
    """All peers."""

    @routes.arguments(Paging, location="query")
    @routes.response(200, schemas.Peers)
    def get(self, asked: dict[str, Any]) -> Response:
        """List peers

        The newest first.
        """
        after = moment_before(asked)
        with office().store.database.connection() as connection:
            rows = peers.page(connection, after, asked["limit"] + 1)
        return paged(asked, rows, lambda row: (row.created.isoformat(), row.id), _shown)

    @routes.arguments(schemas.NewPeer)
    @routes.creates(schemas.Peer)
    def post(self, given: dict[str, Any]) -> Response:
        """Register a peer

        It is told of changes from now on.
        """
        new = NewPeer(**_entered(given))

        def work(connection: Connection) -> Answer:
            body = _shown(peers.add(connection, new, caller().actor, office().now()))
            return tagged(body, made=f"{PREFIX}/hl7v2/peers/{body['id']}")

        return act(work)


@routes.route("/hl7v2/peers/<identity>")
class OnePeer(MethodView):
    """One peer."""

    @routes.tagged(schemas.Peer)
    def get(self, identity: str) -> Response:
        """Show a peer"""
        body = _shown(_peer(identity))
        return answered(body, headers={"ETag": etag(body)})

    @routes.arguments(schemas.PeerChanges)
    @routes.tagged(schemas.Peer)
    @routes.conditional
    def patch(self, given: dict[str, Any], identity: str) -> Response:
        """Change a peer

        What waits for it stays as it was made, and is tried again at once.
        """
        disabled, entered, by = given.pop("disabled", None), _entered(given), caller().actor

        def work(connection: Connection) -> Answer:
            peer: Peer | None = _locked(connection, identity)
            if entered and peer is not None:
                kept = NewPeer(**{name: getattr(peer, name) for name in _KEPT})
                peers.change(connection, identity, replace(kept, **entered), by)
            if disabled is True:
                peers.disable(connection, identity, by, office().now())
            elif disabled is False:
                peers.enable(connection, identity, by)
            body = _shown(_locked(connection, identity, check=False))
            return tagged(body)

        return act(work)

    @routes.empty
    @routes.conditional
    def delete(self, identity: str) -> Response:
        """Tell a peer nothing more

        It is not deleted: messages refer to it.
        """

        def work(connection: Connection) -> Answer:
            _locked(connection, identity)
            peers.disable(connection, identity, caller().actor, office().now())
            return Answer(status=204)

        return act(work)


@routes.route("/hl7v2/peers/<identity>/state")
@routes.response(200, schemas.PeerState)
def state(identity: str) -> Response:
    """Show how it goes with a peer

    How much waits for it, and why, if so, it is not served.
    """
    peer = _peer(identity)
    with office().store.database.connection() as connection:
        waiting, dead = deliveries.counts(connection, identity)
    return answered({"waiting": waiting, "dead": dead, "failures": peer.failures, "fault": peer.fault, "due": instant(peer.due)})


@routes.route("/hl7v2/outbox")
class Outbox(MethodView):
    """All messages on their way, and for a while those that have arrived."""

    @routes.arguments(schemas.DeliveryQuery, location="query")
    @routes.response(200, schemas.Deliveries)
    def get(self, asked: dict[str, Any]) -> Response:
        """List outgoing messages

        The newest first; `state=dead` for those that need somebody.
        """
        after = number_before(asked)
        wanted = conditions(asked)
        with office().store.database.connection() as connection:
            rows = deliveries.page(connection, wanted, after, asked["limit"] + 1)
        return paged(asked, rows, lambda row: (str(row.id),), _listed)


@routes.route("/hl7v2/outbox/<identity>")
@routes.response(200, schemas.Delivery)
def message(identity: str) -> Response:
    """Show an outgoing message

    That somebody has read it is in the audit trail.
    """

    def work(connection: Connection) -> Answer:
        found = _delivery(connection, identity)
        return Answer(_whole(connection, found), event=_looked_at(found))

    return act(work)


@routes.route("/hl7v2/outbox/<identity>/replay", methods=["POST"])
@routes.response(200, schemas.DeliveryInList)
@routes.idempotent
def replay(identity: str) -> Response:
    """Send a dead message again

    In its old place. One that the peer has refused is made anew from the same version, under another control id. 409 for one that is not dead.
    """

    def work(connection: Connection) -> Answer:
        found = office().outbound.replay(connection, _delivery(connection, identity, lock=True))
        detail = f"replayed as {found.event} {found.control_id}"
        return Answer(_listed(found), event=Event("operation", type="hl7v2-delivery", resource=identity, detail=detail))

    return act(work)


def _peer(identity: str) -> Peer:
    with office().store.database.connection() as connection:
        found = peers.get(connection, identity)
    if found is None:
        raise Outcome("not-found", "There is no such peer")
    return found


def _locked(connection: Connection, identity: str, *, check: bool = True) -> Peer:
    """The peer, for as long as the transaction lasts, in the state that If-Match names if there is one."""
    found = peers.locked(connection, identity)
    if found is None:
        raise Outcome("not-found", "There is no such peer")
    if check:
        check_match(_shown(found))
    return found


def _delivery(connection: Connection, identity: str, *, lock: bool = False) -> Delivery:
    found = deliveries.get(connection, number_of(identity, "message"), lock=lock)
    if found is None:
        raise Outcome("not-found", "There is no such message")
    return found


def _entered(given: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if name == "events" else value for name, value in given.items()}


def _shown(peer: Peer) -> dict[str, Any]:
    told = {name: getattr(peer, name) for name in ("id", *_KEPT, "created_by")}
    return told | {"events": list(peer.events), "created": instant(peer.created), "disabled": instant(peer.disabled)}


def _listed(delivery: Delivery) -> dict[str, Any]:
    moments = {name: instant(getattr(delivery, name)) for name in ("created", "sent", "ended")}
    return {name: getattr(delivery, name) for name in _LISTED} | moments


def _whole(connection: Connection, delivery: Delivery) -> dict[str, Any]:
    peer = peers.get(connection, delivery.peer)
    codec = CHARSETS[peer.charset] if peer is not None else "utf-8"
    texts = {name: _text(getattr(delivery, name), codec) for name in ("message", "answer")}
    return _listed(delivery) | texts


def _text(raw: bytes | None, codec: str) -> str | None:
    return raw.decode(codec, "replace").replace("\r", "\n").replace("\0", "\N{REPLACEMENT CHARACTER}") if raw is not None else None


def _looked_at(delivery: Delivery) -> Event:
    patients = (delivery.patient,) if delivery.patient is not None else ()
    return Event("read", type=delivery.type, resource=delivery.resource, version=delivery.version, patients=patients, detail="as an HL7 v2 message")
