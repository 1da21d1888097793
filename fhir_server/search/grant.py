"""What one caller may do: a plain value made once per request and demanded by both doors of the store.

Scopes: https://hl7.org/fhir/smart-app-launch/STU2.2/scopes-and-launch-context.html
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final, Literal, NamedTuple

from fhir_server.spec import r4

Permission = Literal["c", "r", "u", "d", "s"]

ALL: Final = frozenset("cruds")


@dataclass(frozen=True, slots=True)
class Scope:
    """One scope for resources: a type or `*`, and the permissions out of `cruds`.

    With a `query`, search parameters such as `category=laboratory`, it opens what matches these. With a `patient`, an id, it opens what is in that
    patient's compartment, and to reading what is nobody's, as the clinic's directory.
    """

    type: str
    permissions: frozenset[str]
    query: str = ""
    patient: str | None = None

    def opens(self, resource_type: str, permission: Permission) -> bool:
        """Whether some instance of the type may be treated so."""
        return permission in self.permissions and self.type in ("*", resource_type)


@dataclass(frozen=True, slots=True)
class Party:
    """A caller as Consents may name them: references to them, to their roles and to where they work, and what they act for; both sorted."""

    references: tuple[str, ...]
    purposes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Denial:
    """What patients have forbidden: resources of some types in their compartments; only those with one of the `labels`, where there are any.

    A label is a security label as it is searched for, `system|code`. With `unless` it is not about `patients` but about everybody, those left out
    whose Consents permit the type to this party.
    """

    patients: tuple[str, ...]
    types: tuple[str, ...]
    labels: tuple[str, ...] = ()
    unless: Party | None = None


class Way(NamedTuple):
    """One way in which instances of a type are open: those of one patient, None for all, that match a query, empty for all."""

    patient: str | None
    query: str

    @property
    def is_chained(self) -> bool:
        """Whether the query asks other resources."""
        return any("." in part.partition("=")[0] for part in self.query.split("&"))


_OPEN: Final = Way(None, "")


@dataclass(frozen=True, slots=True)
class Grant:
    """Who asks and what is open to them.

    `actor` names them in the audit trail. `denials` take away from what the scopes open; of the types in `editable` an update may change the named
    elements only; of those in `hidden` the named elements are not shown, nor searched by.
    `acts` are what the clinic's operations may do for them, which the plain doors do not.
    `account`, `session` and `client` are the ids of the account that has signed in, of its session, and of the app that it has let in; `user` is who
    the account is in FHIR, as `Practitioner/7`. Each is None where there is none. `break_glass` is the reason for which consent was passed over.
    `reach` is what is open to the person behind an app, or to all apps of its kind, before the scopes narrow it: a Binary is as open as what it
    belongs to is by this. None where it is the scopes themselves.
    `board` is the id of the Location whose queue's board is open to them, where that is all that is.
    """

    actor: str
    roles: frozenset[str]
    scopes: tuple[Scope, ...]
    denials: tuple[Denial, ...] = ()
    editable: tuple[tuple[str, frozenset[str]], ...] = ()
    hidden: tuple[tuple[str, frozenset[str]], ...] = ()
    acts: tuple[Scope, ...] = ()
    account: str | None = None
    session: str | None = None
    client: str | None = None
    user: str | None = None
    break_glass: str = ""
    board: str | None = None
    reach: tuple[Scope, ...] | None = None
    # Asked again and again of the same grant, which a token gives for as long as it is good.
    _known: dict[tuple[str, str], tuple[Way, ...]] = field(default_factory=dict, init=False, compare=False, repr=False)
    _allowed: dict[tuple[str, str], bool] = field(default_factory=dict, init=False, compare=False, repr=False)
    _reaching: dict[str | None, Grant] = field(default_factory=dict, init=False, compare=False, repr=False)

    @property
    def text(self) -> str:
        """The caller and all that is open to them, in one text: a page link, which carries places and totals, is good for the same alone."""
        scopes = sorted({f"{scope.type}.{''.join(sorted(scope.permissions))}?{scope.query}|{scope.patient}" for scope in self.scopes})
        # Sets have an order of their own in every process, and the next page may come from another one.
        hidden = [(name, sorted(elements)) for name, elements in self.hidden]
        return repr((self.actor, sorted(self.roles), scopes, self.denials, hidden, self.break_glass))

    @property
    def patient(self) -> str | None:
        """The id of the one patient whose compartment all reading is held to; None where there is no such bound."""
        found = {scope.patient for scope in self.scopes if scope.permissions & {"r", "s"}}
        return next(iter(found)) if len(found) == 1 else None

    def allows(self, resource_type: str, permission: Permission) -> bool:
        """Whether any instance of the type may be created, read, updated, deleted or searched."""
        key = (resource_type, permission)
        found = self._allowed.get(key)
        if found is None:
            found = self._allowed[key] = any(scope.opens(resource_type, permission) for scope in self.scopes)
        return found

    def ways(self, resource_type: str, permission: Permission = "r") -> tuple[Way, ...]:
        """The ways in which instances are open, any of which is enough; none for a closed type. Reading and searching count as one here."""
        key = (resource_type, permission)
        found = self._known.get(key)
        if found is None:
            asked: Iterable[Permission] = ("r", "s") if permission in "rs" else (permission,)
            all_ways = {Way(scope.patient, scope.query) for scope in self.scopes if any(scope.opens(resource_type, each) for each in asked)}
            # What is open anyway needs no second way.
            wide = {way for way in all_ways if not (way.query and Way(way.patient, "") in all_ways)}
            found = self._known[key] = (_OPEN,) if _OPEN in wide else tuple(sorted(wide, key=repr))
        return found

    def may_act(self, resource_type: str, permission: Permission) -> tuple[Way, ...]:
        """The ways in which the clinic's operations may create or update instances for the caller; none where they may not."""
        return tuple(sorted({Way(scope.patient, scope.query) for scope in self.acts if scope.opens(resource_type, permission)}, key=repr))

    def denials_of(self, resource_type: str) -> tuple[Denial, ...]:
        """What is denied of a type."""
        return tuple(denial for denial in self.denials if resource_type in denial.types)

    def editable_of(self, resource_type: str) -> frozenset[str] | None:
        """The elements that an update may change; None for all."""
        return next((elements for name, elements in self.editable if name == resource_type), None)

    def hidden_of(self, resource_type: str) -> frozenset[str]:
        """The elements of a type that are not shown."""
        return next((elements for name, elements in self.hidden if name == resource_type), frozenset()) if self.hidden else frozenset()

    def looks_into(self, resource_type: str) -> bool:
        """Whether what resources of a type contain is shown, and searched by."""
        return "contained" not in self.hidden_of(resource_type)

    def reaching(self, patient: str | None) -> Grant:
        """The same caller with all of their reach, within one patient's compartment if that is not None.

        Without a role what is held to a patient is that patient's own app: of its reach what is open to all is no part.
        """
        found = self._reaching.get(patient)
        if found is None:
            scopes = self.scopes if self.reach is None else self.reach
            if patient is not None:
                within = (None, patient) if self.roles else (patient,)
                scopes = tuple(replace(scope, patient=patient) for scope in scopes if scope.patient in within)
            found = self._reaching[patient] = replace(self, scopes=scopes, reach=None)
        return found

    def differs_by_content(self, resource_type: str, permission: Permission = "r") -> bool:
        """Whether instances of one type may differ in whether they are open, for another reason than whose they are."""
        if resource_type == "Binary" and not self._shows_all:
            return True
        return any(way.query for way in self.ways(resource_type, permission)) or bool(self.denials_of(resource_type))

    @property
    def narrows(self) -> bool:
        """Whether instances of one type may differ in whether they can be seen."""
        if self.denials or any(scope.query or scope.patient is not None for scope in self.scopes):
            return True
        return self.allows("Binary", "r") and not self._shows_all

    @property
    def _shows_all(self) -> bool:
        """Whether nothing that a Binary may belong to is hidden, so that all Binaries are alike."""
        if self.denials:
            return False
        scopes = self.scopes if self.reach is None else self.reach
        shown = {scope.type for scope in scopes if scope.permissions & {"r", "s"} and not scope.query and scope.patient is None}
        return "*" in shown or shown.issuperset(r4().resource_types)


SYSTEM = Grant("system", frozenset({"admin"}), (Scope("*", ALL),), acts=(Scope("*", ALL),))
"""The server itself: migrations, loading by the operator, jobs."""
