"""The RESTful interactions, without HTTP: an Exchange in, a Reply out. https://hl7.org/fhir/R4/http.html"""

from .bundle import process
from .dispatch import dispatch
from .engine import Engine
from .exchange import Exchange, Reply

__all__ = ["Engine", "Exchange", "Reply", "dispatch", "process"]
