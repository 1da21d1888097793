"""FHIR packages: profiles, value sets, search parameters and the like, read from a file and written as resources.

Each resource keeps its id and says in `meta.source` which package brought it. The package stands as an ImplementationGuide, its own or one made here.

https://confluence.hl7.org/display/FHIR/NPM+Package+Specification, https://hl7.org/fhir/R4/implementationguide.html
"""

from __future__ import annotations

import gzip
import hashlib
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fhir_server import fhirjson
from fhir_server.interactions import Engine, Exchange
from fhir_server.interactions.bundle import transaction
from fhir_server.interactions.dispatch import read_in
from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM
from fhir_server.store import Store

_SOURCE: Final = "urn:fhir-package:"
_FILES: Final = 20_000
_FILE: Final = 64 * 1024 * 1024
_ALL: Final = 1024 * 1024 * 1024
_CHUNK: Final = 200
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9.\-_]{0,99}")
_VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.\-_+]{0,49}")
_NOT_ID: Final = re.compile(r"[^A-Za-z0-9\-.]")


@dataclass(frozen=True, slots=True)
class Package:
    """What a package says of itself, and its definitions. `needs` are the packages that it builds on, as `name#version`."""

    name: str
    version: str
    title: str
    canonical: str
    needs: tuple[str, ...]
    resources: tuple[dict[str, Any], ...] = field(repr=False)

    @property
    def source(self) -> str:
        """What `meta.source` says of its resources."""
        return f"{_SOURCE}{self.name}:{self.version}"


@dataclass(slots=True)
class Installed:
    """What came of it: resources that are there now, and a line for each that was left out."""

    resources: int = 0
    left_out: list[str] = field(default_factory=list)


def read(file: Path) -> Package:
    """The package in a `.tgz`: its definitions, which have a canonical URL or are its ImplementationGuide; examples are left aside.

    Raises Outcome `malformed` for what is no package, `business-rule` for one of another version of FHIR, `too-large`; OSError.
    """
    about: dict[str, Any] | None = None
    found: list[dict[str, Any]] = []
    try:
        for name, data in _files(file):
            content = fhirjson.loads(data)
            if not isinstance(content, dict):
                continue
            if name == "package.json":
                about = content
            elif isinstance(content.get("resourceType"), str) and isinstance(content.get("url"), str) and isinstance(content.get("id"), str):
                found.append(content)
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise Outcome("malformed", f"{file} is no FHIR package, or is damaged: {error}") from None
    if about is None:
        raise Outcome("malformed", f"{file} is no FHIR package: it has no package/package.json")
    return _described(file, about, found)


def install(engine: Engine, package: Package, progress: Callable[[int, int], None] = lambda _done, _total: None) -> Installed:
    """Writes the definitions; a second time changes nothing. What is refused is left out.

    What would take the id of another definition, as packages have them in common, gets its own behind it: the start of a hash of its URL.

    Some 500 resources a second. New search parameters can be searched by when their index rows are made, as after any write of one.
    Raises Outcome `unavailable`.
    """
    installed = Installed()
    wanted = _with_guide(package)
    present = _present(engine.store, wanted)
    marked = [_marked(each, package.source, present.get((each["resourceType"], each["id"]), each).get("url", "")) for each in wanted]
    present |= _present(engine.store, [each for each in marked if (each["resourceType"], each["id"]) not in present])
    resources = [each for each in marked if _bare(present.get((each["resourceType"], each["id"]), {})) != _bare(each)]
    installed.resources = len(marked) - len(resources)
    for start in range(0, len(resources), _CHUNK):
        _write(engine, resources[start : start + _CHUNK], installed)
        progress(min(start + _CHUNK, len(resources)), len(resources))
    return installed


def listed(store: Store) -> list[tuple[str, str, str]]:
    """Name, version and title of each package that was installed, by name. Raises Outcome `unavailable`."""
    rows = []
    with store.snapshot(SYSTEM) as db:
        for body in db.export("ImplementationGuide"):
            guide = fhirjson.loads(body)
            source = guide.get("meta", {}).get("source", "")
            if source.startswith(_SOURCE):
                name, _, version = source.removeprefix(_SOURCE).rpartition(":")
                rows.append((name, version, guide.get("title", guide.get("name", ""))))
    return sorted(rows)


def _files(file: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each JSON file of the folder `package`. Nothing is written anywhere, whatever the names in the archive are."""
    with _Unpacked(file) as unpacked, tarfile.open(fileobj=unpacked, mode="r:") as archive:
        for number, member in enumerate(archive):
            if number >= _FILES or member.size > _FILE:
                raise _too_large(file)
            folder, _, name = member.name.removeprefix("./").rpartition("/")
            stream = archive.extractfile(member) if folder == "package" and member.isfile() and name.endswith(".json") else None
            if stream is not None and not name.startswith("."):
                yield name, stream.read()


class _Unpacked(gzip.GzipFile):
    """What is in a gzip file, within bounds also where it is no file's content: what an archive says of its files may be long too."""

    def read(self, size: int | None = -1) -> bytes:
        """So many bytes. Raises Outcome `too-large`."""
        if size is not None and (size > _FILE or self.tell() + size > _ALL):
            raise _too_large(self.name)
        return super().read(size)


def _too_large(file: object) -> Outcome:
    return Outcome("too-large", f"{file} has more than a package may have: {_FILES} files, {_FILE // 1024**2} MB each, 1 GB in all")


def _described(file: Path, about: dict[str, Any], resources: list[dict[str, Any]]) -> Package:
    name, version = about.get("name"), about.get("version")
    if not isinstance(name, str) or not isinstance(version, str) or not _NAME.fullmatch(name) or not _VERSION.fullmatch(version):
        raise Outcome("malformed", f"{file} is no FHIR package: its package.json has no name and version")
    stated = about.get("fhirVersions", about.get("fhir-version-list", []))
    versions = [text for text in stated if isinstance(text, str)] if isinstance(stated, list) else []
    if versions and not any(text.startswith("4.0") for text in versions):
        raise Outcome("business-rule", f"{name} {version} is for FHIR {', '.join(versions)[:50]}; this server speaks 4.0.1")
    needs = about.get("dependencies", {})
    texts = [about.get(key) if isinstance(about.get(key), str) else None for key in ("title", "canonical")]
    return Package(
        name,
        version,
        texts[0] or name,
        texts[1] or f"urn:{name}",
        tuple(f"{key}#{value}" for key, value in needs.items()) if isinstance(needs, dict) else (),
        tuple(resources),
    )


def _with_guide(package: Package) -> list[dict[str, Any]]:
    """The resources of the package, its ImplementationGuide last: what is listed is there whole."""
    guides = [each for each in package.resources if each["resourceType"] == "ImplementationGuide" and each.get("packageId") == package.name]
    others = [each for each in package.resources if each not in guides[:1]]
    made = {
        "resourceType": "ImplementationGuide",
        "id": _NOT_ID.sub("-", package.name)[:64],
        "url": f"{package.canonical}/ImplementationGuide/{package.name}",
        "version": package.version,
        "name": re.sub(r"[^A-Za-z0-9]", "_", package.name),
        "title": package.title,
        "status": "active",
        "packageId": package.name,
        "fhirVersion": ["4.0.1"],
    }
    return [*others, guides[0] if guides else made]


def _present(store: Store, wanted: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    """What has the ids already."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    with store.snapshot(SYSTEM) as db:
        for start in range(0, len(wanted), _CHUNK):
            for version in db.read_many([(each["resourceType"], each["id"]) for each in wanted[start : start + _CHUNK]]):
                found[version.type, version.id] = fhirjson.loads(version.body or b"{}")
    return found


def _bare(resource: dict[str, Any]) -> dict[str, Any]:
    """The resource without what the server says of its version."""
    meta = {name: value for name, value in resource.get("meta", {}).items() if name not in {"versionId", "lastUpdated"}}
    return {**resource, "meta": meta}


def _marked(resource: dict[str, Any], source: str, holder: str) -> dict[str, Any]:
    """The resource with the package in its meta, and with another id where the `holder` of its own is another definition."""
    meta, identity = resource.get("meta"), resource["id"]
    if holder != resource["url"]:
        identity = f"{identity[:55]}-{hashlib.sha256(resource['url'].encode()).hexdigest()[:8]}"
    return {**resource, "id": identity, "meta": {**(meta if isinstance(meta, dict) else {}), "source": source}}


def _write(engine: Engine, resources: list[dict[str, Any]], installed: Installed) -> None:
    """Writes all at once; where that is refused, each half by itself, down to the one that it is about."""
    entries = [
        {"resource": each, "request": {"method": "PUT", "url": f"{each['resourceType']}/{each['id']}"}, "fullUrl": f"urn:package:{number}"}
        for number, each in enumerate(resources)
    ]
    try:
        transaction(engine, Exchange("bundle", SYSTEM, "urn:package"), entries, read_in)
    except Outcome as outcome:
        if outcome.category == "unavailable":
            raise
        if len(resources) == 1:
            installed.left_out.append(f"{resources[0]['resourceType']}/{resources[0]['id']}: {outcome}")
            return
        middle = len(resources) // 2
        _write(engine, resources[:middle], installed)
        _write(engine, resources[middle:], installed)
        return
    installed.resources += len(resources)
