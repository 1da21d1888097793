"""What the server itself writes into a resource: id, version, time, and the labels that an update leaves in place.

https://hl7.org/fhir/R4/resource.html#Meta
"""

from __future__ import annotations

from datetime import datetime

from fhir_server.store.ops import Resource


def carry_labels(before: Resource, after: Resource) -> Resource:
    """The new content with the tags and security labels of the old one that it does not mention: a patch takes labels off, silence does not."""
    old = before.get("meta", {})
    meta = dict(after.get("meta", {}))
    for name in ("security", "tag"):
        labels = meta.get(name, [])
        known = {(label.get("system"), label.get("code")) for label in labels}
        missing = [label for label in old.get(name, ()) if (label.get("system"), label.get("code")) not in known]
        if missing:
            meta[name] = labels + missing
    return {**after, "meta": meta} if meta else after


def stamp(resource: Resource, identity: str, version: int, at: datetime) -> Resource:
    """The resource with the server's id and meta, both in front; what else `meta` holds is kept."""
    own = ("versionId", "lastUpdated", "_versionId", "_lastUpdated")
    meta = {"versionId": str(version), "lastUpdated": instant(at)} | {key: value for key, value in resource.get("meta", {}).items() if key not in own}
    front = {"resourceType": resource["resourceType"], "id": identity, "meta": meta}
    return front | {key: value for key, value in resource.items() if key not in front}


def instant(at: datetime) -> str:
    """A time in UTC as a FHIR instant with milliseconds."""
    # Of `strftime` it would be three times as much; all of a transaction are asked for one by one.
    return at.isoformat(timespec="milliseconds")[:23] + "Z"
