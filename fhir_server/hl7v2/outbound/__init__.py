"""FHIR out as HL7 v2: peers, the events that changes mean to them, messages by the files of `mappings/outbound`, and their delivery by MLLP."""

from .outbound import Outbound
from .peers import CONSUMER, EVENTS, Peer

__all__ = ["CONSUMER", "EVENTS", "Outbound", "Peer"]
