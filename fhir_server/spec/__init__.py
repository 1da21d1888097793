"""FHIR R4 4.0.1 as data, compiled from the official package by `python -m fhir_server.spec.build`."""

from .load import digest, profiles, r4, terminology
from .model import Binding, Constraint, Element, SearchParam, Spec, TypeDef

__all__ = [
    "Binding",
    "Constraint",
    "Element",
    "SearchParam",
    "Spec",
    "TypeDef",
    "digest",
    "profiles",
    "r4",
    "terminology",
]
