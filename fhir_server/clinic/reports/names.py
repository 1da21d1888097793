"""The names of whom and what rows of reports are about, as people know them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from fhir_server import fhirjson

from .report import Desk

_NAMED: Final = """
SELECT t.name || '/' || r.id, v.body FROM unnest(%s::text[]) AS x(reference)
JOIN resource_type t ON t.name = split_part(x.reference, '/', 1)
JOIN resource r ON r.type = t.tid AND r.id = split_part(x.reference, '/', 2) AND NOT r.deleted JOIN resource_version v USING (vid)
"""
_TEMPLATES: Final = """
SELECT x.canonical, v.body FROM unnest(%s::text[]) AS x(canonical)
JOIN billing_template b ON b.url = split_part(x.canonical, '|', 1) AND b.version = split_part(x.canonical, '|', 2)
JOIN resource r ON r.rid = b.rid JOIN resource_version v USING (vid)
"""
ROLES: Final = """
roles AS (
    SELECT DISTINCT ON (role.id) 'PractitionerRole/' || role.id AS role, 'Practitioner/' || s.id AS doctor
    FROM resource role JOIN sp_reference s ON s.rid = role.rid AND s.pid = %(role_of)s AND s.type = %(practitioners)s
    WHERE role.type = %(roles)s AND NOT role.deleted ORDER BY role.id, s.id)
"""
"""Who is in which role: to be put before a statement, with the arguments of `role_arguments`."""

Json = Mapping[str, Any]


def role_arguments(desk: Desk) -> dict[str, Any]:
    """What ROLES asks for."""
    types = desk.registry.types
    numbers = {"roles": types["PractitionerRole"], "practitioners": types["Practitioner"]}
    return {"role_of": desk.registry.supported_params("PractitionerRole")["practitioner"].pid, **numbers}


def names(desk: Desk, references: Iterable[Any]) -> dict[Any, str | None]:
    """The names of Practitioners, Locations and the like, by reference; None for what is not there, or has no name. One statement, or none."""
    wanted = sorted({each for each in references if each})
    rows = desk.connection.execute(_NAMED, (wanted,)).fetchall() if wanted else []
    found = {reference: _name(fhirjson.loads(body.encode())) for reference, body in rows}
    return {each: found.get(each) for each in (*wanted, "", None)}


def titles(desk: Desk, canonicals: Iterable[Any]) -> dict[Any, str | None]:
    """The titles of bill templates, by canonical with version."""
    wanted = sorted({each for each in canonicals if each})
    rows = desk.connection.execute(_TEMPLATES, (wanted,)).fetchall() if wanted else []
    found = {canonical: _title(fhirjson.loads(body.encode())) for canonical, body in rows}
    return {each: found.get(each) for each in (*wanted, "", None)}


def _name(resource: Json) -> str | None:
    name = resource.get("name")
    if isinstance(name, str):
        return name
    if not isinstance(name, list) or not name or not isinstance(name[0], dict):
        return None
    first = name[0]
    text = first.get("text") or " ".join([*first.get("prefix", ()), *first.get("given", ()), first.get("family", "")]).strip()
    return text or None


def _title(template: Json) -> str | None:
    code = template.get("code", {})
    return template.get("title") or code.get("text") or next((each["display"] for each in code.get("coding", ()) if "display" in each), None)
