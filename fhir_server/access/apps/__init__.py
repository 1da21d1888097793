"""Apps and backend services: who they are, what people let them in to, and the keys for it. Without HTTP and OAuth library."""

from .clients import Client, Clients
from .discovery import endpoints, issuer_of, openid_configuration, smart_configuration
from .keys import SigningKeys
from .registration import NewClient
from .requests import Requests
from .sessions import AppSessions

__all__ = [
    "AppSessions",
    "Client",
    "Clients",
    "NewClient",
    "Requests",
    "SigningKeys",
    "endpoints",
    "issuer_of",
    "openid_configuration",
    "smart_configuration",
]
