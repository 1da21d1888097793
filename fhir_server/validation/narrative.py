"""Narrative: XHTML that is safe to show.

https://hl7.org/fhir/R4/narrative.html#rules (txt-1, txt-2): HTML 4.0 formatting elements of chapters 7 to 11 and 15, links, images and inline styles;
no scripts, forms, frames, objects or event attributes. About 20 µs for a short one.
"""

from __future__ import annotations

import re
from typing import Any, Final

from lxml import etree

from fhir_server.fhirpath.narrative import MAX_ATTRIBUTES, crowded

from .faults import MAX_FAULTS, Fault, Faults, Scope, fault, kind, shown

_NAMESPACE: Final = "http://www.w3.org/1999/xhtml"
_MAX: Final = 4 * 1024 * 1024
# fmt: off
_ELEMENTS: Final = frozenset({
    "p", "br", "div", "h1", "h2", "h3", "h4", "h5", "h6", "a", "span", "b", "em", "i", "strong", "small", "big", "tt", "dfn", "q", "var",
    "abbr", "acronym", "cite", "blockquote", "hr", "address", "bdo", "kbd", "sub", "sup", "ul", "ol", "li", "dl", "dt", "dd", "pre", "table",
    "caption", "colgroup", "col", "thead", "tr", "tfoot", "tbody", "th", "td", "code", "samp", "img", "map", "area", "ins", "del",
})
_ATTRIBUTES: Final = frozenset({
    "title", "style", "class", "id", "lang", "dir", "accesskey", "tabindex", "span", "width", "align", "valign", "char", "charoff", "abbr",
    "axis", "headers", "scope", "rowspan", "colspan", "href", "name", "rel", "rev", "charset", "type", "hreflang", "shape", "coords", "src",
    "alt", "longdesc", "height", "usemap", "ismap", "border", "cellpadding", "cellspacing", "frame", "rules", "summary", "nowrap", "nohref",
    "cite", "datetime",
})
# fmt: on
_XML_LANG: Final = "{http://www.w3.org/XML/1998/namespace}lang"
_LINKS: Final = frozenset({"href", "src", "longdesc", "cite", "usemap"})
_safe_link = re.compile(r"(?:https?|ftp|mailto|tel|urn|cid):|data:image/(?!svg)|[^:]*(?:[/?#]|$)", re.IGNORECASE).match
_unsafe_style = re.compile(r"expression\s*\(|javascript:|behaviou?r\s*:|-moz-binding|@import|\\", re.IGNORECASE).search
# HL7's own publisher draws its tables with backgrounds beside the page; what a style may not do is to fetch from elsewhere.
_style_links = re.compile(r"url\s*\(\s*['\"]?([^'\")]*)", re.IGNORECASE).findall
_beside = re.compile(r"data:image/(?!svg)|(?!//)[^:]*$", re.IGNORECASE).match
_declaration = re.compile(r"<!(?!--)|<\?").search
_spaces = re.compile(r"[\s\x00-\x20]+")


def check_xhtml(value: Any, scope: Scope) -> Faults | None:  # noqa: PLR0911 - one for each fault
    """Faults of `Narrative.div`."""
    if not isinstance(value, str):
        return fault("structure", f"The narrative is written as a JSON string, not as {kind(value)}")
    if len(value) > _MAX:
        return fault("too-long", f"A narrative may have {_MAX:,} characters; this one has {len(value):,}")
    if _declaration(value):
        return fault("structure", "The narrative may not have a DOCTYPE, CDATA or processing instruction")
    if crowded(value):
        return fault("too-long", f"An element of a narrative may have {MAX_ATTRIBUTES} attributes")
    # Reading and checking takes up to 0.8 µs a tag.
    scope.budget.steps -= value.count("<")
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_comments=True)
    try:
        root = etree.fromstring(value.encode(), parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        return fault("structure", f"The narrative is not well-formed XHTML: {error}")
    if root.tag != f"{{{_NAMESPACE}}}div":
        return fault("structure", f'The narrative is one <div xmlns="{_NAMESPACE}">…</div>')
    found = _unsafe(root) or ([] if _says_something(root) else ["txt-2: the narrative has some text or an image"])
    return [Fault("", "invariant", text) for text in found[:MAX_FAULTS]] or None


def _unsafe(root: Any) -> list[str]:
    found: list[str] = []
    for element in root.iter():
        if len(found) >= MAX_FAULTS:
            break
        if not isinstance(element.tag, str):
            found.append("The narrative has no entities: write the characters themselves")
            continue
        space, _, name = element.tag[1:].rpartition("}") if element.tag.startswith("{") else ("", "", element.tag)
        if space != _NAMESPACE or name not in _ELEMENTS:
            found.append(f"txt-1: <{name[:40]}> is not allowed in a narrative")
        for key, text in element.attrib.items():
            if key not in _ATTRIBUTES and key != _XML_LANG:
                found.append(f"txt-1: the attribute {shown(key)} is not allowed in a narrative")
            elif key in _LINKS and not _safe_link(_spaces.sub("", text)):
                found.append(f"txt-1: a link of this kind is not allowed in a narrative: {shown(text)}")
            elif key == "style" and (_unsafe_style(text) or not all(map(_beside, _style_links(text)))):
                found.append("txt-1: a style that loads or runs something is not allowed in a narrative")
    return found


def _says_something(root: Any) -> bool:
    return any(text.strip() for text in root.itertext()) or root.find(f".//{{{_NAMESPACE}}}img") is not None
