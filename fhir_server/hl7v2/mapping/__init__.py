"""HL7 v2 to FHIR by the files of `mappings/`. https://build.fhir.org/ig/HL7/v2-to-fhir/"""

from .convert import Converter
from .made import ANYWHERE, BY_IDENTIFIER, FILLED, KNOWN, MENTIONED, Converted, Made
from .rows import MappingFault

__all__ = ["ANYWHERE", "BY_IDENTIFIER", "FILLED", "KNOWN", "MENTIONED", "Converted", "Converter", "Made", "MappingFault"]
