"""How the clinic's pages look, for apps that want to look alike. https://hl7.org/fhir/smart-app-launch/STU2.2/scopes-and-launch-context.html#styling

The colours are those of the pages by day, out of the style sheet itself. Its address changes with what it says, so that apps may keep it.
"""

from __future__ import annotations

import json
import re
from functools import cache
from hashlib import sha256
from typing import Final

from fhir_server.web.pages import stylesheet

PLACE: Final = "/oauth/style.json"

_NAMES: Final = {
    "color_background": "ground",
    "color_error": "wrong",
    "color_highlight": "accent",
    "color_modal_backdrop": "soft",
    "color_success": "right",
    "color_text": "text",
}
_VALUE: Final = re.compile(r"--([a-z-]+): (#[0-9a-f]{6});")
_FONTS: Final = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'Liberation Sans', sans-serif"


@cache
def style() -> bytes:
    """The style as JSON."""
    by_day = stylesheet()[1].decode().partition("@media")[0]
    colours = dict(_VALUE.findall(by_day))
    sizes = {"dim_border_radius": "8px", "dim_font_size": "17px", "dim_spacing_size": "16px"}
    fonts = {"font_family_body": _FONTS, "font_family_heading": _FONTS}
    return json.dumps({**{name: colours[own] for name, own in _NAMES.items()}, **sizes, **fonts}).encode()


def style_url(issuer: str) -> str:
    """Where an app finds it."""
    return f"{issuer}{PLACE}?v={sha256(style()).hexdigest()[:16]}"
