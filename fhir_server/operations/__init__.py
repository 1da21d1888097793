"""Operations: a registry by name and level. https://hl7.org/fhir/R4/operations.html"""

from .export import export
from .registry import dispatch_operation, names

__all__ = ["dispatch_operation", "export", "names"]
