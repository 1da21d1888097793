"""Units of measure: what a UCUM code means, and quantities brought to base units exactly.

https://ucum.org/ucum
"""

from .units import MAX_CODE, Powers, Unit, canonical, unit

__all__ = ["MAX_CODE", "Powers", "Unit", "canonical", "unit"]
