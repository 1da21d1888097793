"""The grant as a condition in SQL: what a caller may not see is never found, counted or included.

https://hl7.org/fhir/R4/compartmentdefinition-patient.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from .grant import Grant
from .params import reference
from .registry import Registry
from .sources import CURRENT, Sources
from .statement import NEVER, Statement, any_of

ALWAYS: Final = Statement("TRUE")

PUBLIC: Final = frozenset(
    {
        *("ActivityDefinition", "CapabilityStatement", "CodeSystem", "CompartmentDefinition", "ConceptMap", "Endpoint", "HealthcareService"),
        *("InsurancePlan", "Location", "Medication", "MedicationKnowledge", "NamingSystem", "OperationDefinition", "Organization"),
        *("OrganizationAffiliation", "PlanDefinition", "Practitioner", "PractitionerRole", "Questionnaire", "Schedule", "SearchParameter", "Slot"),
        *("StructureDefinition", "Substance", "ValueSet"),
    }
)
"""Types outside of the patient compartment that whoever is held to one patient may see: the clinic's directory, its free times, terminology."""


def grant_predicate(grant: Grant, registry: Registry, resource_type: str, alias: str) -> Statement:
    """The condition that a row of `resource` of this type, under this alias, may be seen; TRUE where nothing is held back.

    Whether the type is open to the grant at all is part of it.
    """
    return granted(grant, registry, (resource_type,), alias)


def granted(grant: Grant, registry: Registry, types: Sequence[str], alias: str, sources: Sources = CURRENT) -> Statement:
    """The same for rows of several types, read from the tables of `sources`."""
    seen = [name for name in types if grant.allows(name, "r") or grant.allows(name, "s")]
    if grant.patient is None:
        return NEVER if not seen else ALWAYS if len(seen) == len(types) else _of(registry, seen, alias)
    ways = []
    if public := [name for name in seen if name in PUBLIC]:
        ways.append(_of(registry, public, alias) if len(types) > 1 else ALWAYS)
    if "Patient" in seen:
        own = Statement(f"{alias}.id = %s", (grant.patient,))
        ways.append(_of(registry, ["Patient"], alias).and_(own) if len(types) > 1 else own)
    pids = [pid for name in seen if name != "Patient" and name not in PUBLIC for pid in compartment_pids(registry, name)]
    if pids:
        listed, patient, table = ", ".join(map(str, pids)), registry.types["Patient"], sources.table("sp_reference", "g")
        text = f"EXISTS (SELECT FROM {table.text} WHERE g.rid = {alias}.rid AND g.pid IN ({listed}) AND g.id = %s AND g.type = {patient})"
        ways.append(Statement(text, (*table.params, grant.patient)))
    return any_of(ways)


def _of(registry: Registry, types: Sequence[str], alias: str) -> Statement:
    return Statement(f"{alias}.type IN ({', '.join(str(registry.types[name]) for name in types)})")


def compartment_pids(registry: Registry, resource_type: str) -> list[int]:
    """The numbers of the parameters that put a resource of a type into a patient's compartment; none for types outside of it."""
    params = registry.supported_params(resource_type)
    return sorted(params[code].pid for code in registry.spec.compartments["Patient"].get(resource_type, ()) if code in params)


def permits(grant: Grant, registry: Registry, resource: dict[str, Any]) -> bool:
    """Whether the grant may see a resource: the same answer as the predicate's, in memory."""
    name = resource["resourceType"]
    if not (grant.allows(name, "r") or grant.allows(name, "s")):
        return False
    if grant.patient is None or name in PUBLIC:
        return True
    if name == "Patient":
        return bool(resource.get("id") == grant.patient)
    pids = set(compartment_pids(registry, name))
    wanted = reference.Target(grant.patient, registry.types["Patient"])
    return any(row[0] in pids and reference.matches(wanted, row[1:]) for row in registry.rows(resource).get("sp_reference", ()))
