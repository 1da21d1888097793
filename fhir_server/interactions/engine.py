"""What every interaction works with, put together once per process."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import parse_qsl

from fhir_server import fhirjson
from fhir_server.access.idempotency import Idempotency
from fhir_server.access.vault import Vault
from fhir_server.outcome import Outcome
from fhir_server.search import Query, Registry
from fhir_server.settings import Settings
from fhir_server.spec import Spec, r4
from fhir_server.store import Store
from fhir_server.validation import Validator

from . import bill_templates, search_parameters, subscriptions

MAX_VALUES: Final = 2_000_000
"""Values in a body, as its commas and opening brackets count them. 64 MB of patient records have 1.8 million; of a hostile body 20 million, which
took 2 GB of memory."""


@dataclass(frozen=True)
class Engine:
    """The record, the rules of the specification, the key that signs page links, answers that are given again, what seals secrets, and operations.

    A time is held for `hold_seconds`. `currency` is that of amounts that name none, `approval_limit` how much one person alone may take off an
    invoice. `settings` are those that it was made with.
    """

    spec: Spec
    store: Store
    validator: Validator
    page_key: bytes
    idempotency: Idempotency
    vault: Vault
    operations: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    hold_seconds: int = 300
    currency: str = "EUR"
    approval_limit: int = 50
    settings: Settings | None = field(default=None, repr=False)

    @classmethod
    def build(cls, store: Store, settings: Settings, operations: Mapping[str, Mapping[str, str]] | None = None) -> Engine:
        """An engine over a store; nothing is compiled until it is used. `operations` are the URLs of operations by type and name."""
        key = hashlib.blake2b(settings.jwt_secret.encode(), person=b"page-links").digest()
        vault = Vault.of(settings)
        made = cls(r4(), store, Validator(r4()), key, Idempotency(vault), vault, operations or {})
        return replace(
            made, hold_seconds=settings.hold_seconds, currency=settings.currency, approval_limit=settings.approval_limit, settings=settings
        )

    @property
    def registry(self) -> Registry:
        """The search parameters as they are now."""
        return self.store.registry

    def known_type(self, name: str | None) -> str:
        """The resource type itself. Raises Outcome `not-found` for what is none."""
        if name is None or name not in self.registry.types:
            raise Outcome("not-found", f"'{name}' is not a resource type of FHIR R4", code="not-supported")
        return name

    def criteria(self, resource_type: str, condition: str | list[tuple[str, str]]) -> Query:
        """The Query of a condition such as `identifier=a|b`; always strict, since a condition that is half understood is another condition."""
        parameters = parse_parameters(condition) if isinstance(condition, str) else condition
        try:
            return self.registry.parse(resource_type, parameters, strict=True)
        except Outcome:
            # Another process may have brought a parameter that this one has not heard of.
            known = self.registry
            newest = self.store.refreshed().registry
            if newest is known:
                raise
            return newest.parse(resource_type, parameters, strict=True)

    def checked(self, resource: Any, resource_type: str) -> dict[str, Any]:
        """The resource, known to be valid and of the type. Raises Outcome `malformed` (400) or `invalid` (422) with every fault."""
        found = resource.get("resourceType") if isinstance(resource, dict) else None
        if isinstance(found, str) and found != resource_type:
            raise Outcome("malformed", f"The body is a {found[:64]}, but the address is that of a {resource_type}", expression=found[:64])
        self.validator.require(resource)
        if resource_type == "SearchParameter":
            search_parameters.require(resource, self.registry)
        if resource_type == "ChargeItemDefinition":
            bill_templates.require(resource, self.spec)
        if resource_type == "Subscription":
            return subscriptions.concealed(resource, self.vault)
        return dict(resource)


def read_json(data: bytes) -> Any:
    """The values of a JSON text that a caller sent. Raises Outcome `malformed` as `fhirjson.loads` does, `too-large` beyond MAX_VALUES."""
    # Narratives are read as XML, whose tags may hide behind escapes.
    if max(sum(map(data.count, counted)) for counted in ((b"{", b"[", b","), (b"<", b"\\u003"))) > MAX_VALUES:
        raise Outcome("too-large", f"The body has more than {MAX_VALUES:,} values or tags; send less at a time")
    try:
        return fhirjson.loads(data)
    except RecursionError:
        raise Outcome("malformed", "The JSON is nested too deeply", code="too-long") from None


def parse_parameters(text: str) -> list[tuple[str, str]]:
    """Names and values of a query string, decoded, in order, empty values kept. Raises Outcome `parameter` for what is not UTF-8."""
    try:
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=1_000)
    except ValueError as error:
        raise Outcome("parameter", f"The query cannot be decoded: {error}") from None
