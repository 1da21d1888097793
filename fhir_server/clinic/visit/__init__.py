"""The visit: what a doctor decides besides what is written into the record."""

from .cautions import cautions_of
from .follow_up import propose_follow_up
from .release import hold_release

__all__ = ["cautions_of", "hold_release", "propose_follow_up"]
