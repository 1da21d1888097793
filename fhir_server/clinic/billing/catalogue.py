"""Which templates there are, and which of their versions count: of one url the newest that is active and in effect."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from fhir_server import fhirjson
from fhir_server.outcome import Outcome
from fhir_server.search import Registry
from fhir_server.search.params.date import parse_date
from fhir_server.store.database import Connection
from fhir_server.store.ops import Resource

from .templates import APPLIES_TO, canonical, codes

_ACTIVE: Final = """
SELECT v.body FROM billing_template t JOIN resource r ON r.rid = t.rid JOIN resource_version v ON v.vid = r.vid
WHERE t.active AND {} ORDER BY r.updated DESC, r.rid DESC
"""
_WITH_PARTS: Final = _ACTIVE.format("(t.url = %s OR t.whole && %s::text[])")
_TRIGGERED: Final = _ACTIVE.format("%s = ANY(t.events)")


def current(connection: Connection, registry: Registry, template: Resource, now: datetime) -> list[Resource]:
    """The templates that are parts of one that is to be applied, by their urls; of each the version that counts. One statement.

    Raises Outcome `business-rule` for a template that is not active, not in effect, or replaced by another version.
    """
    if template.get("status") != "active":
        raise Outcome("business-rule", f"The template is {template.get('status')}; only active ones are applied", expression="ChargeItemDefinition")
    if not _in_effect(template, registry, now):
        said = "The template is not in effect today"
        raise Outcome("business-rule", said, expression="ChargeItemDefinition.effectivePeriod")
    found = list(_newest(_read(connection, _WITH_PARTS, template["url"], [template["url"], canonical(template)]), registry, now))
    newest = next((each for each in found if each["url"] == template["url"]), template)
    if newest["id"] != template["id"]:
        said = f"The template was replaced by {canonical(newest)}: apply ChargeItemDefinition/{newest['id']}"
        raise Outcome("business-rule", said, expression="ChargeItemDefinition.version")
    return sorted((each for each in found if each["url"] != template["url"]), key=lambda each: str(each["url"]))


def triggered(connection: Connection, registry: Registry, event: str, source: Mapping[str, Any], now: datetime) -> list[Resource]:
    """The templates that an event applies to what it happened to, by their urls."""
    found = _newest(_read(connection, _TRIGGERED, event), registry, now)
    return sorted((each for each in found if _is_for(each, event, source)), key=lambda each: str(each["url"]))


def _read(connection: Connection, statement: str, *arguments: object) -> Iterator[Resource]:
    return (fhirjson.loads(body.encode()) for (body,) in connection.execute(statement, arguments).fetchall())


def _newest(found: Iterable[Resource], registry: Registry, now: datetime) -> Iterator[Resource]:
    """The first of each url that is in effect."""
    seen = set()
    for each in found:
        if each["url"] not in seen and _in_effect(each, registry, now):
            seen.add(each["url"])
            yield each


def _in_effect(template: Mapping[str, Any], registry: Registry, now: datetime) -> bool:
    period = template.get("effectivePeriod", {})
    try:
        begins = parse_date(period["start"], registry.zone)[0] if "start" in period else now
        ends = parse_date(period["end"], registry.zone)[1] if "end" in period else None
    except (ValueError, OverflowError):
        return False
    return begins <= now and (ends is None or now < ends)


def _is_for(template: Mapping[str, Any], event: str, source: Mapping[str, Any]) -> bool:
    """Whether a template is for a visit, appointment or order: by what it applies to, else an order by its code, and anything else always."""
    wanted = codes(template, APPLIES_TO)
    if not wanted and event.startswith("order-"):
        wanted = template.get("code", {}).get("coding", [])
    if not wanted:
        return True
    there = {(coding.get("system"), coding.get("code")) for coding in _codings(source)}
    return any((coding.get("system"), coding.get("code")) in there for coding in wanted)


def _codings(source: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for name in ("class", "type", "serviceType", "serviceCategory", "appointmentType", "specialty", "code", "category"):
        value = source.get(name)
        for each in value if isinstance(value, list) else [value] if value else []:
            yield from each.get("coding", [each] if "code" in each else ())
