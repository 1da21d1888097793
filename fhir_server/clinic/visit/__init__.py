"""The visit: what a doctor decides besides what is written into the record."""

from .follow_up import propose_follow_up
from .release import hold_release

__all__ = ["hold_release", "propose_follow_up"]
