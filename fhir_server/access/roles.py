"""What each role may do where no scope narrows it: permissions by group of resource types, as data.

Conservative on purpose: what needs a look at the resource itself (released results, own schedule, prescribing) is closed until that look exists.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

from fhir_server.search import Scope

Role = Literal["admin", "doctor", "staff", "patient"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)

CLINICAL: Final = (
    "AdverseEvent AllergyIntolerance BodyStructure CarePlan CareTeam ClinicalImpression Communication CommunicationRequest Composition Condition "
    "Consent DetectedIssue Device DeviceRequest DeviceUseStatement DiagnosticReport DocumentManifest DocumentReference Encounter EpisodeOfCare "
    "FamilyMemberHistory Flag Goal GuidanceResponse ImagingStudy Immunization ImmunizationEvaluation ImmunizationRecommendation List Media "
    "Medication MedicationAdministration MedicationDispense MedicationRequest MedicationStatement MolecularSequence NutritionOrder Observation "
    "Procedure Provenance QuestionnaireResponse RequestGroup RiskAssessment ServiceRequest Specimen Task VisionPrescription"
)
DIRECTORY: Final = (
    "Organization OrganizationAffiliation Location Practitioner PractitionerRole HealthcareService Endpoint "
    "CodeSystem ValueSet ConceptMap NamingSystem Questionnaire"
)
PERSONAL: Final = "Patient Coverage RelatedPerson"
SCHEDULING: Final = "Schedule Slot Appointment AppointmentResponse"
BILLING: Final = "Account ChargeItem Invoice PaymentNotice PaymentReconciliation"
TEMPLATES: Final = "ChargeItemDefinition"

_TABLE: Final[dict[Role, tuple[tuple[str, str], ...]]] = {
    "admin": (("*", "cruds"),),
    "doctor": ((CLINICAL, "crus"), (DIRECTORY, "rs"), (PERSONAL, "crus"), (SCHEDULING, "rs"), (BILLING, "rs"), (TEMPLATES, "rs")),
    "staff": ((DIRECTORY, "rs"), (PERSONAL, "rs"), (SCHEDULING, "rs"), (TEMPLATES, "rs")),
    "patient": ((CLINICAL, "rs"), (DIRECTORY, "rs"), (PERSONAL, "rs"), (SCHEDULING, "rs"), (BILLING, "rs")),
}

RELEASED: Final = "status=final,amended,corrected"
"""Results that their patient may see."""
_LIMITS: Final = (
    ("DiagnosticReport", RELEASED),
    ("Observation", RELEASED),
    ("Invoice", "status:not=draft"),
)
"""What instances must match for a patient: what is not released does not exist for them."""


def role_limits(role: Role) -> tuple[tuple[str, str], ...]:
    """Types, each with search parameters that its instances must match to be open to a role."""
    return _LIMITS if role == "patient" else ()


def role_scopes(role: Role) -> tuple[Scope, ...]:
    """The scopes of a role. Those of `patient` hold within the patient's own compartment only."""
    return tuple(Scope(name, frozenset(permissions)) for names, permissions in _TABLE[role] for name in names.split())
