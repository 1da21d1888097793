"""Which codes a value set has and which codes are below others, from stored resources first and those of R4 next. Pure: no I/O."""

from .code_system import CodeSystem, Concept
from .codes import Codes
from .expansion import MAX_CODES, Expansion, Find
from .terminology import Terminology

__all__ = ["MAX_CODES", "CodeSystem", "Codes", "Concept", "Expansion", "Find", "Terminology"]
