"""The grant as a condition in SQL: what a caller may not see is never found, counted or included.

https://hl7.org/fhir/R4/compartmentdefinition-patient.html
"""

from __future__ import annotations

from typing import Any, Final

from .grant import Grant
from .params import reference
from .registry import Registry
from .statement import NEVER, Statement

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
    if not (grant.allows(resource_type, "r") or grant.allows(resource_type, "s")):
        return NEVER
    if grant.patient is None:
        return ALWAYS
    if resource_type == "Patient":
        return Statement(f"{alias}.id = %s", (grant.patient,))
    if resource_type in PUBLIC:
        return ALWAYS
    pids = compartment_pids(registry, resource_type)
    if not pids:
        return NEVER
    listed, patient = ", ".join(map(str, pids)), registry.types["Patient"]
    text = f"EXISTS (SELECT FROM sp_reference g WHERE g.rid = {alias}.rid AND g.pid IN ({listed}) AND g.id = %s AND g.type = {patient})"
    return Statement(text, (grant.patient,))


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
