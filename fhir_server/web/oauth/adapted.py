"""Requests and clients as Authlib asks for them."""

from __future__ import annotations

from typing import Final

from authlib.oauth2.rfc6749 import ClientMixin, OAuth2Payload, OAuth2Request
from werkzeug.datastructures import Headers

from fhir_server.access.apps import Client

from .services import Services

METHODS: Final = ["private_key_jwt", "client_secret_basic", "client_secret_post", "none"]
"""The ways in which clients authenticate, in the order in which they are looked for."""

_SECRET: Final = frozenset({"client_secret_basic", "client_secret_post"})


class Asked(OAuth2Request):  # type: ignore[misc] # The library has no types.
    """A request to one of the endpoints: a form whose fields stand there once, and the headers."""

    def __init__(self, form: dict[str, str], headers: Headers) -> None:
        """Takes what was read."""
        # Whether the way here is encrypted is for the proxy in front to see: what arrives through it says http.
        super().__init__("POST", "https://localhost/", headers=headers)
        self._fields = form
        self.payload = _Payload(form)

    @property
    def form(self) -> dict[str, str]:
        """The fields."""
        return self._fields

    @property
    def args(self) -> dict[str, str]:
        """Nothing: what stands in the address gets into logs."""
        return {}


class Known(ClientMixin):  # type: ignore[misc] # The library has no types.
    """A client as the library asks it."""

    def __init__(self, client: Client, services: Services) -> None:
        """Takes the client, and what its secret is compared by."""
        self.client = client
        self._services = services

    def get_client_id(self) -> str:
        """Its id."""
        return self.client.id

    def check_client_secret(self, secret: str) -> bool:
        """Whether a secret is its own."""
        return self._services.clients.is_secret(self.client.id, secret)

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        """Whether it may show who it is in this way."""
        del endpoint
        # Libraries send a secret in the header or in the form, whatever was registered.
        return method == self.client.auth_method or {method, self.client.auth_method} <= _SECRET

    def check_grant_type(self, grant_type: str) -> bool:
        """Whether it was registered for a grant type."""
        return grant_type in self.client.grant_types


class _Payload(OAuth2Payload):  # type: ignore[misc] # The library has no types.
    def __init__(self, fields: dict[str, str]) -> None:
        self._fields = fields

    @property
    def data(self) -> dict[str, str]:
        return self._fields

    @property
    def datalist(self) -> dict[str, list[str]]:
        return {name: [value] for name, value in self._fields.items()}
