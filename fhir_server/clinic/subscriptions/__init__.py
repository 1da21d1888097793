"""FHIR Subscriptions by rest-hook: criteria that changes are held against under the subscriber's rights, and signed notifications, in order."""

from .subscriptions import CONSUMER, Subscriptions

__all__ = ["CONSUMER", "Subscriptions"]
