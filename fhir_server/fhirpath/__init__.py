"""FHIRPath: parse once, run often, over plain JSON.

https://hl7.org/fhirpath/N1/, https://hl7.org/fhir/R4/fhirpath.html
"""

from . import ast
from .budget import Budget
from .errors import FhirPathError
from .expression import Expression, compile, locate  # noqa: A004 - the word for it, as in `re.compile`
from .model import Node
from .parser import parse
from .quantity import Quantity
from .temporal import Temporal

__all__ = ["Budget", "Expression", "FhirPathError", "Node", "Quantity", "Temporal", "ast", "compile", "locate", "parse"]
