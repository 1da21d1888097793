"""FHIR XML to JSON values and back, driven by the specification's elements and their order.

https://hl7.org/fhir/R4/xml.html, https://hl7.org/fhir/R4/json.html#xml, https://hl7.org/fhir/R4/narrative.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import deepcopy
from difflib import get_close_matches
from itertools import zip_longest
from typing import Any, Final, NamedTuple

from lxml import etree

from fhir_server.fhirjson import MAX_NUMBER, Number
from fhir_server.outcome import Outcome
from fhir_server.spec import Element, Spec, TypeDef

MAX_TAGS: Final = 1_500_000
"""Tags of a body, closing ones included: each costs about 350 bytes of memory while it is read, and 4 µs."""
_FHIR: Final = "{http://hl7.org/fhir}"
_DIV: Final = "{http://www.w3.org/1999/xhtml}div"
_XSI: Final = "{http://www.w3.org/2001/XMLSchema-instance}"
_BOOLEAN: Final = {"true": True, "false": False}
_DECIMAL: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_INTEGER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)")
_FORBIDDEN: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_DIV_MARKUP: Final = re.compile(
    rb"""<!--.*?-->|<!\[CDATA\[.*?\]\]>|<\?.*?\?>|<div(?=[\s/>])(?:[^>"']++|"[^"]*"|'[^']*')*+>|</div\s*>""",
    re.DOTALL,
)
# A newline or tab that stands bare in an attribute reaches the reader as a space.
_ESCAPES: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\n": "&#10;", "\r": "&#13;", "\t": "&#9;"})


def from_xml(spec: Spec, data: bytes) -> dict[str, Any]:
    """The resource in an XML document in UTF-8, as the values of its JSON form; comments and processing instructions are dropped.

    Decimals keep their digits. A primitive whose text is no number or boolean where one belongs stays a string, for the validator to point at.
    Raises Outcome `malformed`, with the line, for what is not well-formed or not FHIR XML, for a DTD, and beyond 256 levels of nesting,
    `too-large` beyond MAX_TAGS.
    """
    if data.count(b"<") > MAX_TAGS:
        raise Outcome("too-large", f"The body has more than {MAX_TAGS:,} tags; send less at a time")
    try:
        root: Any = etree.fromstring(data, _parser())
    except etree.XMLSyntaxError as error:
        raise Outcome("malformed", f"The body is not well-formed XML: {error.msg}") from None
    if root.getroottree().docinfo.doctype:
        raise Outcome("malformed", "The body has a document type declaration, which FHIR XML may not have")
    try:
        return _read_resource(_Source(spec, _divs(data)), root)
    except RecursionError:
        raise Outcome("malformed", "The XML is nested too deeply", code="too-long") from None


def to_xml(spec: Spec, resource: dict[str, Any], *, pretty: bool = False) -> bytes:
    """The XML document of a resource, in the specification's element order; the narrative's div stands in it letter for letter.

    Raises Outcome `not-acceptable` where XML has no form for the content: control characters, properties that R4 does not know.
    """
    out: list[str] = ['<?xml version="1.0" encoding="UTF-8"?>']
    try:
        _write_resource(spec, out, resource, "\n" if pretty else "", ' xmlns="http://hl7.org/fhir"')
    except (RecursionError, AttributeError, KeyError, TypeError):
        raise _no_xml("its structure is not that of an R4 resource") from None
    text = "".join(out)
    if _FORBIDDEN.search(text):
        raise _no_xml("it holds a control character")
    return text.encode()


class _Source(NamedTuple):
    """What the reader goes by: the specification, and the letters of the narratives to come."""

    spec: Spec
    divs: Iterator[bytes]


def _parser() -> etree.XMLParser:
    # Without huge_tree libxml2 itself refuses more than 256 levels and entities that multiply.
    return etree.XMLParser(encoding="utf-8", resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True, remove_pis=True)


def _fault(node: Any, message: str) -> Outcome:
    return Outcome("malformed", f"Line {node.sourceline}: {message}")


def _read_resource(source: _Source, node: Any) -> dict[str, Any]:
    name = node.tag.removeprefix(_FHIR) if isinstance(node.tag, str) and node.tag.startswith(_FHIR) else None
    if name is None:
        raise _fault(node, f"a resource in the namespace http://hl7.org/fhir belongs here, not '{node.tag}'")
    definition = source.spec.types.get(name)
    if definition is None or definition.kind != "resource" or definition.abstract:
        raise _fault(node, f"'{name}' is not a resource type of R4{_meant(name, source.spec.resource_types)}")
    return {"resourceType": name, **_read(source, definition, node)}


def _read(source: _Source, definition: TypeDef, node: Any) -> dict[str, Any]:
    """The JSON object of an element; of a primitive, the object that stands beside its value."""
    found: dict[str, Any] = {}
    for name, text in node.attrib.items():
        attribute = definition.elements.get(name)
        if attribute is not None and attribute.xml_attribute:
            found[name] = text
        elif not name.startswith(_XSI) and (name != "value" or definition.kind != "primitive"):
            raise _fault(node, f"'{name}' is not an attribute of {definition.name}")
    if node.text and not node.text.isspace():
        raise _fault(node, f"there is text in {definition.name}, where only elements belong")
    repeats: dict[str, list[Any]] = {}
    for child in node:
        repeats.setdefault(_key(definition, child), []).append(child)
    for key, children in repeats.items():
        element = definition.elements[key]
        if len(children) > 1 and not element.many:
            raise _fault(children[1], f"'{key}' stands more than once in {definition.name}")
        _read_repeats(source, element, children, found)
    return found


def _key(definition: TypeDef, child: Any) -> str:
    tag: str = child.tag if isinstance(child.tag, str) else "&"
    name = tag.removeprefix(_FHIR) if tag.startswith(_FHIR) else "div" if tag == _DIV else ""
    element = definition.elements.get(name)
    if element is None or element.xml_attribute or (element.type == "xhtml") != (tag == _DIV):
        raise _fault(child, f"'{name or tag}' is not an element of {definition.name}{_meant(name, definition.elements)}")
    if child.tail and not child.tail.isspace():
        raise _fault(child, f"there is text in {definition.name}, where only elements belong")
    return name


def _read_repeats(source: _Source, element: Element, children: list[Any], found: dict[str, Any]) -> None:
    definition = source.spec.types[element.type]
    key, values = element.key, []
    if definition.kind == "primitive" and definition.name != "xhtml":
        values = [_primitive(definition.name, child) for child in children]
        beside = [_read(source, definition, child) or None for child in children]
        if any(beside):
            found["_" + key] = beside if element.many else beside[0]
        if all(value is None for value in values):
            return
    elif definition.name == "xhtml":
        values = [_xhtml(source, child) for child in children]
    elif element.type == "Resource":
        values = [_read_resource(source, _only_child(child)) for child in children]
    else:
        values = [_read(source, definition, child) for child in children]
    found[key] = values if element.many else values[0]


def _only_child(node: Any) -> Any:
    if len(node) != 1 or node.attrib or (node.text and not node.text.isspace()):
        raise _fault(node, "one resource belongs here and nothing else")
    return node[0]


def _primitive(name: str, node: Any) -> Any:
    text = node.get("value")
    if text is None:
        return None
    if name == "boolean":
        return _BOOLEAN.get(text, text)
    if name in {"integer", "positiveInt", "unsignedInt"}:
        return int(text) if len(text) <= MAX_NUMBER and _INTEGER.fullmatch(text) else text
    if name != "decimal" or not _DECIMAL.fullmatch(text):
        return text
    if len(text) <= MAX_NUMBER and _INTEGER.fullmatch(text):
        return int(text)
    try:
        return Number(text)
    except ValueError as error:
        raise _fault(node, str(error)) from None


def _xhtml(source: _Source, node: Any) -> str:
    """The div as it is written, where that says the same by itself; else as the parser writes it."""
    if node.prefix is not None:
        raise _fault(node, 'the narrative is to be written as <div xmlns="http://www.w3.org/1999/xhtml">, without a prefix')
    if len(node.nsmap) > 1:
        # Declarations of the document around it would be copied onto the div.
        node = deepcopy(node)
        etree.cleanup_namespaces(node)
    plain = etree.tostring(node, encoding="unicode", with_tail=False)
    written = next(source.divs, b"")
    try:
        same = b"<!" not in written and b"<?" not in written and etree.tostring(etree.fromstring(written, _parser()), encoding="unicode") == plain
    except etree.XMLSyntaxError:
        same = False
    return written.decode() if same else plain


def _divs(data: bytes) -> Iterator[bytes]:
    """The outermost div elements in document order, letter for letter."""
    depth = start = 0
    for match in _DIV_MARKUP.finditer(data):
        token = match[0]
        if token.startswith(b"<div"):
            start = start if depth else match.start()
            depth += not token.endswith(b"/>")
        elif token.startswith(b"</div"):
            depth -= 1
        else:
            continue
        if depth == 0:
            yield data[start : match.end()]


def _meant(name: str, known: Any) -> str:
    near = get_close_matches(name[:64], known, 1)
    return f"; did you mean '{near[0]}'?" if near else ""


def _no_xml(reason: str) -> Outcome:
    return Outcome("not-acceptable", f"The resource has no XML form, {reason}; ask for JSON")


def _write_resource(spec: Spec, out: list[str], resource: dict[str, Any], pad: str, namespace: str = "") -> None:
    name = resource["resourceType"]
    out.append(f"{pad}<{name}{namespace}>")
    _write_children(spec, out, spec.types[name], resource, pad)
    out.append(f"{pad}</{name}>")


def _write_children(spec: Spec, out: list[str], definition: TypeDef, node: dict[str, Any], pad: str) -> None:
    present = {key.removeprefix("_") for key in node}
    present.discard("resourceType")
    elements = [element for key, element in definition.elements.items() if key in present]
    if len(elements) != len(present):
        raise _no_xml(f"'{min(present - definition.elements.keys())}' is not an element of {definition.name}")
    inner = pad and pad + "  "
    for element in elements:
        if element.xml_attribute:
            continue
        value = node.get(element.key)
        target = spec.types[element.type]
        if target.kind == "primitive":
            beside = node.get("_" + element.key)
            for one, other in zip_longest(value if type(value) is list else [value], beside if type(beside) is list else [beside]):
                _write_primitive(spec, out, element, (one, other), inner)
            continue
        for one in value if type(value) is list else [value]:
            _write_complex(spec, out, element, one, inner)


def _write_complex(spec: Spec, out: list[str], element: Element, value: Any, pad: str) -> None:
    if element.type == "Resource":
        out.append(f"{pad}<{element.key}>")
        _write_resource(spec, out, value, pad and pad + "  ")
    else:
        definition = spec.types[element.type]
        out.append(f"{pad}<{element.key}")
        out.extend(f' {key}="{value[key].translate(_ESCAPES)}"' for key in ("id", "url") if key in value and definition.elements[key].xml_attribute)
        out.append(">")
        _write_children(spec, out, definition, value, pad)
    out.append(f"{pad}</{element.key}>")


def _write_primitive(spec: Spec, out: list[str], element: Element, parts: tuple[Any, dict[str, Any] | None], pad: str) -> None:
    value, beside = parts
    if element.type == "xhtml":
        out.append(pad + _checked_div(value))
        return
    out.append(f"{pad}<{element.key}")
    if beside and "id" in beside:
        out.append(f' id="{beside["id"].translate(_ESCAPES)}"')
    if value is not None:
        out.append(f' value="{_text(value)}"')
    if beside and "extension" in beside:
        out.append(">")
        _write_children(spec, out, spec.types[element.type], beside, pad)
        out.append(f"{pad}</{element.key}>")
    else:
        out.append("/>")


def _text(value: Any) -> str:
    if type(value) is str:
        return value.translate(_ESCAPES)
    if type(value) is bool:
        return "true" if value else "false"
    return value.text if type(value) is Number else str(value)


def _checked_div(text: str) -> str:
    """The div as it is, once it is certain that it cannot break out of its place in the document."""
    try:
        root = etree.fromstring(text.encode(), _parser())
    except (etree.XMLSyntaxError, UnicodeEncodeError):
        root = None
    if root is None or root.tag != _DIV or text.lstrip().startswith(("<?", "<!")):
        raise _no_xml("its narrative is not well-formed XHTML")
    return text.strip()
