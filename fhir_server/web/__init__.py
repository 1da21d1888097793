"""What people sign in by: the JSON interface under `/auth`; the pages come to it."""

from .auth import blueprint

__all__ = ["blueprint"]
