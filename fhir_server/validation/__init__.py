"""Validation of resources, compiled from the specification. Pure: no I/O, no clock."""

from .validator import Validator

__all__ = ["Validator"]
