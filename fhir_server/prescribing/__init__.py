"""Prescribing, pure: what speaks against a medicine for somebody with these allergies, who takes these others."""

from .cautions import Caution, Taken, cautions
from .substances import Substance, substance

__all__ = ["Caution", "Substance", "Taken", "cautions", "substance"]
