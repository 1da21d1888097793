"""What people sign in by: the JSON interface under `/auth`, and the pages."""

from .browser import Browser
from .forms import FormGuard
from .pages import Pages
from .site import blueprint

__all__ = ["Browser", "FormGuard", "Pages", "blueprint"]
