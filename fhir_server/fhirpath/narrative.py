"""The rules for XHTML in a narrative.

https://hl7.org/fhir/R4/narrative.html#xhtml
"""

from __future__ import annotations

import re
from typing import Final

from lxml import etree

MAX_ATTRIBUTES: Final = 64
"""Attributes of one element: more than there are allowed ones. The XML parser compares each with all others: 80,000 took 9 s."""

_NAMESPACE: Final = "{http://www.w3.org/1999/xhtml}"
_ELEMENTS: Final = frozenset({
    "a", "abbr", "acronym", "b", "big", "blockquote", "br", "caption", "cite", "code", "col", "colgroup", "dd", "dfn", "div", "dl", "dt",
    "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "img", "li", "map", "area", "ol", "p", "pre", "q", "s", "samp", "small", "span",
    "strike", "strong", "sub", "sup", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "tt", "u", "ul", "var", "bdo", "del", "ins",
    "kbd", "center",
})  # fmt: skip
_ATTRIBUTES: Final = frozenset({
    "title", "style", "class", "id", "lang", "dir", "accesskey", "tabindex", "span", "width", "align", "valign", "char", "charoff", "abbr",
    "axis", "headers", "scope", "rowspan", "colspan", "href", "hreflang", "charset", "name", "rel", "rev", "type", "cite", "src", "alt",
    "longdesc", "height", "usemap", "ismap", "border", "cellpadding", "cellspacing", "frame", "rules", "summary", "start", "value",
    "reversed", "shape", "coords", "nohref", "nowrap", "bgcolor", "clear", "compact", "datetime", "noshade", "color", "size", "face",
    "hspace", "vspace",
})  # fmt: skip
_ACTIVE: Final = ("javascript:", "vbscript:", "data:text")
_XML_NAMES: Final = "{http://www.w3.org/XML/1998/namespace}"
_inside_tag = re.compile(r"""(?:[^"'>]++|"[^"]*+"|'[^']*+')*+""").match
_values = re.compile(r""""[^"]*+"|'[^']*+'""").findall


def is_narrative(xhtml: str) -> bool:
    """Whether the text is one XHTML `div` of the allowed elements and attributes, with some content and nothing active."""
    if crowded(xhtml):
        return False
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(xhtml.encode(), parser)
    except (etree.XMLSyntaxError, UnicodeEncodeError, ValueError):
        return False
    if root.tag != _NAMESPACE + "div" or root.getroottree().docinfo.internalDTD is not None:
        return False
    content = False
    for element in root.iter():
        if element.tag is etree.Comment:
            continue
        if not isinstance(element.tag, str) or not _allowed(element):
            return False
        content = content or element.tag == _NAMESPACE + "img" or bool((element.text or "").strip()) or bool((element.tail or "").strip())
    return content


def crowded(xhtml: str) -> bool:
    """Whether an element has more than MAX_ATTRIBUTES attributes; to be asked before the text is parsed."""
    return xhtml.count("=") > MAX_ATTRIBUTES and any(
        part.count("=") > MAX_ATTRIBUTES and (tag := _inside_tag(part)) is not None and len(_values(tag[0])) > MAX_ATTRIBUTES
        for part in xhtml.split("<")
    )


def _allowed(element: etree._Element) -> bool:
    tag = str(element.tag)
    if not tag.startswith(_NAMESPACE) or tag.removeprefix(_NAMESPACE) not in _ELEMENTS:
        return False
    return all(
        str(name).startswith(_XML_NAMES) or (str(name) in _ATTRIBUTES and not str(value).strip().lower().startswith(_ACTIVE))
        for name, value in element.attrib.items()
    )
