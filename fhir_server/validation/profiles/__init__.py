"""Resources against profiles: what a StructureDefinition asks for beyond the specification. Pure: no I/O, no clock.

https://hl7.org/fhir/R4/profiling.html
"""

from .checker import Profiles

__all__ = ["Profiles"]
