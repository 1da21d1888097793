"""The FHIR REST API over HTTP: decodes a request to an Exchange, hands it to the interactions, renders the Reply or the Outcome."""

from .api import ACTION, REQUEST_ID, blueprint
from .cors import shared
from .messages import messages

__all__ = ["ACTION", "REQUEST_ID", "blueprint", "messages", "shared"]
