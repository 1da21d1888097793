"""What each role may do where no scope narrows it, as data: permissions by group of resource types, and what of a type they are held to.

An admin reads it by the admin API. What a role may do besides, by the clinic's operations, is in ACTS.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, get_args

from fhir_server.search import Grant, Scope
from fhir_server.search.grant import ALL
from fhir_server.settings import CANON
from fhir_server.spec import r4

from .scopes import MESSAGES

Role = Literal["admin", "doctor", "staff", "patient"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)

CLINICAL: Final = (
    "AdverseEvent AllergyIntolerance Binary BodyStructure CarePlan CareTeam ClinicalImpression Communication CommunicationRequest Composition "
    "Condition DetectedIssue Device DeviceRequest DeviceUseStatement DiagnosticReport DocumentManifest DocumentReference Encounter EpisodeOfCare "
    "FamilyMemberHistory Flag Goal GuidanceResponse ImagingStudy Immunization ImmunizationEvaluation ImmunizationRecommendation List Media "
    "Medication MedicationAdministration MedicationDispense MedicationRequest MedicationStatement MolecularSequence NutritionOrder Observation "
    "Procedure Provenance QuestionnaireResponse RequestGroup RiskAssessment ServiceRequest Specimen Task VisionPrescription"
)
DIRECTORY: Final = (
    "Organization OrganizationAffiliation Location Practitioner PractitionerRole HealthcareService Endpoint "
    "CodeSystem ValueSet ConceptMap NamingSystem Questionnaire"
)
DEFINITIONS: Final = "StructureDefinition SearchParameter OperationDefinition CapabilityStatement CompartmentDefinition ImplementationGuide"
"""How this server is spoken to: its capability statement, which is open, refers programs to these."""
PERSONAL: Final = "Patient Coverage RelatedPerson Consent"
SCHEDULING: Final = "Schedule Slot Appointment AppointmentResponse"
BILLING: Final = "Account ChargeItem Invoice PaymentNotice PaymentReconciliation"
CLAIMS: Final = "Claim ClaimResponse"
TEMPLATES: Final = "ChargeItemDefinition"
AUDIT: Final = "AuditEvent"
AT_THE_DESK: Final = "Encounter ServiceRequest Flag"
"""What staff need to see of the clinical record."""

HELD: Final = {"system": f"{CANON}/CodeSystem/release", "code": "held"}
"""The security label of what a doctor holds back from its patient."""
_NOT_HELD: Final = f"_security:not={HELD['system']}|{HELD['code']}"
RELEASED: Final = f"status=final,amended,corrected&{_NOT_HELD}"
"""Results that their patient may see."""
RESULTS: Final = frozenset({"DiagnosticReport", "Observation"})
DOCUMENTS: Final = frozenset({"Binary", "DocumentReference", "Media"})
"""What results bring besides, which is held back with them."""
NOTES: Final = frozenset({"text", "note", "diagnosis", "reasonReference", "supportingInfo", "contained"})
"""Clinical notes in what staff need to see, with what is contained: that may be the condition which is the reason."""
OWN_DETAILS: Final = frozenset({"telecom", "address", "contact", "communication", "photo"})
"""What patients may change of their own Patient."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a role may do with some types: permissions out of `cruds`.

    `held_to` are searches, at least one of which an instance must match; `{user}` stands for who the account is in FHIR, as `Practitioner/7`.
    An update may change the elements in `editable` only, where there are any; those in `hidden` are not shown, nor searched by.
    """

    types: str
    permissions: str
    held_to: tuple[str, ...] = ()
    editable: frozenset[str] = frozenset()
    hidden: frozenset[str] = frozenset()


def _others() -> str:
    grouped = set(f"{CLINICAL} {AUDIT}".split())
    return " ".join(name for name in r4().resource_types if name not in grouped)


_OWN_SCHEDULE: Final = ("actor={user}", "actor:PractitionerRole.practitioner={user}")

RULES: Final[dict[Role, tuple[Rule, ...]]] = {
    # A Binary may be a letterhead as well as a finding.
    "admin": (Rule(CLINICAL, "rs"), Rule("Binary", "cud"), Rule(AUDIT, "rs"), Rule(_others(), "cruds")),
    "doctor": (
        Rule(CLINICAL, "crus"),
        Rule(f"{DIRECTORY} {DEFINITIONS}", "rs"),
        Rule(PERSONAL, "crus"),
        Rule("Schedule Slot", "rs"),
        Rule("Schedule Appointment", "crus", _OWN_SCHEDULE),
        Rule("AppointmentResponse", "crus", _OWN_SCHEDULE),
        Rule("Slot", "cru", ("schedule.actor={user}", "schedule.actor:PractitionerRole.practitioner={user}")),
        Rule(BILLING, "rs"),
        Rule(CLAIMS, "rs"),
        Rule("ChargeItem", "c"),
        Rule(TEMPLATES, "rs"),
    ),
    "staff": (
        Rule(AT_THE_DESK, "rs", hidden=NOTES),
        Rule(f"{DIRECTORY} {DEFINITIONS}", "rs"),
        Rule(PERSONAL, "crus"),
        Rule(SCHEDULING, "cruds"),
        Rule(BILLING, "cruds"),
        Rule(CLAIMS, "crus"),
        Rule(TEMPLATES, "rs"),
    ),
    # All of it within the patient's own compartment.
    "patient": (
        Rule(" ".join(name for name in CLINICAL.split() if name not in RESULTS | DOCUMENTS), "rs"),
        Rule(" ".join(sorted(RESULTS)), "rs", (RELEASED,)),
        Rule(" ".join(sorted(DOCUMENTS)), "rs", (_NOT_HELD,)),
        Rule(f"{DIRECTORY} {DEFINITIONS}", "rs"),
        Rule(PERSONAL, "rs"),
        Rule("Patient", "u", editable=OWN_DETAILS),
        Rule(SCHEDULING, "rs"),
        Rule("Account ChargeItem", "rs"),
        Rule("PaymentNotice PaymentReconciliation", "rs", ("status:not=draft",)),
        # A cancelled one may have been a draft until then, without a number.
        Rule("Invoice", "rs", ("status=issued,balanced", f"status=cancelled&identifier={CANON}/sid/invoice-number|")),
        Rule(CLAIMS, "rs", ("status=active,cancelled",)),
    ),
}

ACTS: Final[dict[Role, tuple[Rule, ...]]] = {
    "admin": (Rule("Appointment Encounter Account ChargeItem Invoice PaymentReconciliation Claim ClaimResponse", "cu"),),
    "doctor": (
        Rule("Appointment Encounter ChargeItem", "cu"),
        Rule("DiagnosticReport", "u"),
    ),
    "staff": (Rule("Appointment Encounter Account ChargeItem Invoice PaymentReconciliation Claim ClaimResponse", "cu"),),
    # Of their own: an operation looks whose it is.
    "patient": (Rule("Appointment", "cu"), Rule("Invoice", "u")),
}
"""What each role may do by the clinic's operations alone: these keep rules of their own that a plain write could not be held to."""


def role_acts(role: Role, patient: str | None = None) -> tuple[Scope, ...]:
    """What the operations may do for a role; those of `patient` for that patient, and none without."""
    bound = patient if role == "patient" else None
    if role == "patient" and patient is None:
        return ()
    return tuple(Scope(name, frozenset(rule.permissions), "", bound) for rule in ACTS[role] for name in rule.types.split())


def role_scopes(role: Role, user: str | None = None, patient: str | None = None) -> tuple[Scope, ...]:
    """The scopes of a role, for whoever the account is in FHIR; those of `patient` in the compartment of a patient, and none without."""
    if role == "patient" and patient is None:
        return ()
    return tuple(_scopes(role, user, patient if role == "patient" else None))


def _scopes(role: Role, user: str | None, patient: str | None) -> Iterator[Scope]:
    for rule in RULES[role]:
        queries = [text.format(user=user) for text in rule.held_to if user is not None or "{user}" not in text] if rule.held_to else [""]
        for name in rule.types.split():
            for query in queries:
                yield Scope(name, frozenset(rule.permissions), query, patient)


def is_administrator(grant: Grant) -> bool:
    """Whether a grant is an administrator's own, whole one: not an app's that one of them uses, and not narrowed by scopes."""
    return "admin" in grant.roles and grant.client is None and set(role_scopes("admin")) <= set(grant.scopes)


def may_send_messages(grant: Grant) -> bool:
    """Whether a caller may hand in messages of HL7 v2, which may change any record: an administrator, or a service that may do all or just that."""
    if grant.roles:
        return is_administrator(grant)
    whole = (scope.type == "*" and scope.permissions == ALL and not scope.query and scope.patient is None for scope in grant.scopes)
    return any(scope.type == MESSAGES for scope in grant.scopes) or any(whole)


def editable(roles: Iterable[str]) -> tuple[tuple[str, frozenset[str]], ...]:
    """Types with the elements that an update may change, where no role may change all."""
    found: dict[str, frozenset[str]] = {}
    free: set[str] = set()
    for name, rule in _ruled(roles, "u"):
        if rule.editable:
            found[name] = found.get(name, frozenset()) | rule.editable
        else:
            free.add(name)
    return tuple((name, elements) for name, elements in found.items() if name not in free)


def hidden(roles: Iterable[str]) -> tuple[tuple[str, frozenset[str]], ...]:
    """Types with the elements that are not shown, where no role shows them."""
    found: dict[str, frozenset[str]] = {}
    for name, rule in _ruled(roles, "r"):
        found[name] = found.get(name, rule.hidden) & rule.hidden
    return tuple((name, elements) for name, elements in found.items() if elements)


def _ruled(roles: Iterable[str], permission: str) -> Iterator[tuple[str, Rule]]:
    for role in (role for role in ROLES if role in roles):
        yield from ((name, rule) for rule in RULES[role] if permission in rule.permissions for name in rule.types.split())
