"""A whole compartment in SQL, and what it refers to outside: what `$everything` is made from.

https://hl7.org/fhir/R4/patient-operation-everything.html, https://hl7.org/fhir/R4/encounter-operation-everything.html

References are followed by their index rows, so that no body has to be read for them.
"""

# ruff: noqa: S608 - SQL is put together from our own table names and fragments; values are always parameters.

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from .compartment import compartment_pids
from .compile import MAX_PAGE_BYTES
from .conditions import ALWAYS, granted
from .grant import Grant
from .registry import Registry
from .shape import equals_number
from .sources import CURRENT, Sources
from .statement import NEVER, Statement, join


@dataclass(frozen=True, slots=True)
class Everything:
    """The compartment of one resource.

    `types` are those that are shown, None for all; `since` a time before which what was written last is not. `start` and `end` bound the main date of
    a resource; one without a date is of any time.
    """

    type: str
    id: str
    types: tuple[str, ...] | None = None
    since: datetime | None = None
    start: datetime | None = None
    end: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Maker:
    asked: Everything
    registry: Registry
    grant: Grant
    sources: Sources

    def compartment(self) -> Statement:
        """The numbers of all that is in it, `c`; and of these, `m`, what the grant shows of the time that is asked for."""
        asked, own = self.asked, self.registry.types[self.asked.type]
        searched = {name: pids for name in self.registry.types if (pids := self._pids(name)) and self.grant.allows(name, "s")}
        types = tuple(dict.fromkeys((*searched, asked.type)))
        links = self.sources.table("sp_reference", "h")
        of_links = equals_number("h.pid", sorted(pid for pids in searched.values() for pid in pids)) if searched else NEVER
        itself = self.sources.table("resource", "r")
        c = Statement(
            f"SELECT h.rid FROM {links.text} WHERE {of_links.text} AND h.id = %s AND h.type = {own}"
            f" UNION SELECT r.rid FROM {itself.text} WHERE r.type = {own} AND r.id = %s AND NOT r.deleted",
            (*links.params, asked.id, *itself.params, asked.id),
        )
        where = granted(self.grant, self.registry, types, "r", self.sources).and_(self._dated(types))
        text = f"c AS MATERIALIZED ({c.text}), m AS (SELECT r.rid FROM c JOIN {itself.text} ON r.rid = c.rid WHERE {where.text})"
        return Statement(text, c.params + itself.params + where.params)

    def _pids(self, name: str) -> list[int]:
        if self.asked.type == "Patient":
            return compartment_pids(self.registry, name)
        params, own = self.registry.supported_params(name), self.registry.types[self.asked.type]
        codes = self.registry.spec.compartments[self.asked.type].get(name, ())
        return list(dict.fromkeys(pid for code in codes if code in params for pid in params[code].towards((own,))))

    def _dated(self, types: Iterable[str]) -> Statement:
        if self.asked.start is None and self.asked.end is None:
            return ALWAYS
        dated = [(name, code) for name in types if (code := self.registry.main_date(name)) is not None]
        pids = sorted(self.registry.supported_params(name)[code].pid for name, code in dated if code in self.registry.supported_params(name))
        table = self.sources.table("sp_date", "d")
        bounds = Statement("d.hi > %s AND d.lo < %s", (self.asked.start or "-infinity", self.asked.end or "infinity"))
        text = f"coalesce((SELECT bool_or({bounds.text}) FROM {table.text} WHERE d.rid = r.rid AND {equals_number('d.pid', pids).text}), TRUE)"
        return Statement(text, bounds.params + table.params)

    def beside(self) -> Statement:
        """Numbers and types of what `m` refers to, and the clinic's directory behind that: an organisation's parent, a role's practitioner.

        Nothing but the directory is followed further: an encounter's condition would lead to another encounter.
        """
        links, targets = self.sources.table("sp_reference", "h"), self.sources.table("resource", "t")
        clinical = [self.registry.types[name] for name in self.registry.types if name == "Patient" or compartment_pids(self.registry, name)]
        seen = granted(self.grant, self.registry, [name for name in self.registry.types if self.grant.allows(name, "r")], "t", self.sources)
        allowed = [self.registry.types[name] for name in self.registry.types if self.grant.allows(name, "r")]
        if len(allowed) < len(self.registry.types):
            seen = equals_number("t.type", allowed).and_(seen) if allowed else NEVER
        on = join(" AND ", (seen, self._of_nobody_else()))
        listed = ", ".join(map(str, clinical))
        # A hashed set whatever the plan expects; as NOT EXISTS it became a loop over all pairs where that was few: 180 ms for 3,000 resources.
        outside = "NOT t.deleted AND t.rid NOT IN (SELECT rid FROM c)"
        # Step by step, each with fewer rows: thousands of resources refer to the same few, and most of these are within.
        text = (
            f"l AS MATERIALIZED (SELECT DISTINCT h.type, h.id FROM m JOIN {links.text} ON h.rid = m.rid),"
            f" w AS MATERIALIZED (SELECT t.rid, t.type, t.id FROM l JOIN {targets.text} ON t.type = l.type AND t.id = l.id WHERE {outside}),"
            f" o(rid, type) AS (SELECT t.rid, t.type FROM w t WHERE {on.text}"
            f" UNION SELECT t.rid, t.type FROM o JOIN {links.text} ON h.rid = o.rid JOIN {targets.text} ON t.type = h.type AND t.id = h.id"
            f" WHERE o.type NOT IN ({listed}) AND {outside} AND {on.text})"
        )
        return Statement(text, links.params + targets.params + on.params + links.params + targets.params + on.params)

    def _of_nobody_else(self) -> Statement:
        """That a resource is not another patient's: the record of one patient shows nobody else's, whoever asks."""
        if self.asked.type != "Patient":
            return ALWAYS
        links, own = self.sources.table("sp_reference", "n"), self.registry.types["Patient"]
        pids = sorted(pid for name in self.registry.types for pid in compartment_pids(self.registry, name))
        other = f"n.rid = t.rid AND {equals_number('n.pid', pids).text} AND n.type = {own} AND n.id <> %s"
        text = f"t.type <> {own} AND NOT EXISTS (SELECT FROM {links.text} WHERE {other})"
        return Statement(text, (*links.params, self.asked.id))

    def page(self, source: Statement, where: Statement, first: Statement, limit: int) -> Statement:
        """Rows (rid, type, id, body) in the order of their numbers, `first` before all; the body is NULL where the ones before it fill an answer."""
        asked, resources = self.asked, self.sources.table("resource", "r")
        conditions = [where]
        if asked.types is not None:
            conditions.append(equals_number("r.type", [self.registry.types[name] for name in asked.types]))
        if asked.since is not None:
            conditions.append(Statement("r.updated >= %s", (asked.since,)))
        on = join(" AND ", conditions)
        text = (
            f"WITH RECURSIVE {source.text}, p AS (SELECT r.rid, r.type, r.id, r.vid, row_number() OVER (ORDER BY {first.text} DESC, r.rid) AS place"
            f" FROM x JOIN {resources.text} ON r.rid = x.rid WHERE {on.text} ORDER BY place LIMIT {limit}),"
            " b AS (SELECT p.*, v.body, sum(octet_length(v.body)) OVER (ORDER BY p.place) AS size FROM p JOIN resource_version v ON v.vid = p.vid)"
            f" SELECT b.rid, b.type, b.id, CASE WHEN b.size <= {MAX_PAGE_BYTES} OR b.place = 1 THEN b.body END FROM b ORDER BY b.place"
        )
        return Statement(text, source.params + first.params + resources.params + on.params)


def compile_within(asked: Everything, registry: Registry, grant: Grant, after: int | None, limit: int, sources: Sources = CURRENT) -> Statement:
    """What is in the compartment, its owner first, then the oldest: rows (rid, type, id, body).

    `after` is the number that a page goes on behind, without the owner then; None for the first.
    `body` is NULL where the ones before it fill an answer. Its cost grows with the compartment: 5 ms for each 1,000 resources.
    """
    made = _Maker(asked, registry, grant, sources)
    whole = made.compartment()
    own = Statement(f"(r.type = {registry.types[asked.type]} AND r.id = %s)", (asked.id,))
    where = Statement(f"r.rid > %s AND NOT {own.text}", (after, *own.params)) if after is not None else ALWAYS
    return made.page(Statement(f"{whole.text}, x AS (SELECT rid FROM m)", whole.params), where, own, limit)


def compile_beside(asked: Everything, registry: Registry, grant: Grant, after: int, limit: int, sources: Sources = CURRENT) -> Statement:
    """What the compartment refers to outside of itself, and the directory behind that, each once: rows as of `compile_within`.

    Its cost grows with what refers to something: 7 ms for each 1,000 resources of the compartment.
    """
    made = _Maker(asked, registry, grant, sources)
    whole, beside = made.compartment(), made.beside()
    source = Statement(f"{whole.text}, {beside.text}, x AS (SELECT rid FROM o)", whole.params + beside.params)
    return made.page(source, Statement("r.rid > %s", (after,)), Statement("FALSE"), limit)
