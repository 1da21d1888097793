"""What people sign in by: the JSON interface under `/auth`, and the pages."""

from .browser import Browser
from .forms import FormGuard
from .live import Live
from .pages import Pages
from .site import blueprint, elsewhere

__all__ = ["Browser", "FormGuard", "Live", "Pages", "blueprint", "elsewhere"]
