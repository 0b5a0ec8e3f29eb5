"""Applications and roles: who lets which application in, who gets which role, and how the gates are set."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from m365watch.board.emptiness import no_records
from m365watch.board.lake_reader import Row
from m365watch.board.marks import (
    Told,
    list_changes,
    marks_of_directory,
    marks_of_role,
    marks_of_scopes,
    ranked,
    tiles_of,
)
from m365watch.board.panels import Page, Panel
from m365watch.board.queries import applications
from m365watch.board.queries.counting import Changes, added
from m365watch.board.shapes import Cell, Grid, Heading, Ranked, Ranking, Shape, Tiles
from m365watch.board.sources import Sources
from m365watch.board.telling import (
    Setting,
    address,
    change_words,
    field_of,
    instant,
    listed,
    opening,
    operation,
    person,
    settings_of,
    text_of,
    told_by,
)
from m365watch.board.view import View
from m365watch.board.words import counted

_SCOPE = re.compile(r"Scope: ([^,\]]*)")
_TILES = (
    ("Consents and grants", "to applications", "consents"),
    ("Credentials and owners", "of applications", "credentials"),
    ("Applications", "came, changed, went", "credentials"),
    ("Roles", "given or taken", "roles"),
    ("Policies and domains", "who may sign in", "gates"),
)


def _settings(record: Mapping[str, Any]) -> dict[str, Setting]:
    """What a record of the directory has set, by name, without its brackets."""
    return {
        one.name: Setting(one.name, _plain(one.before or "") or None, _plain(one.after))
        for one in settings_of(record)
    }


def _updated(told: Mapping[str, Setting]) -> list[Setting]:
    """Those that the record itself names as updated; all of them where it names none of them."""
    named = told.get("Included Updated Properties")
    every = [one for name, one in told.items() if name != "Included Updated Properties"]
    names = {one.strip().lower() for one in named.after.split(",")} if named is not None else set()
    return [one for one in every if one.name.lower() in names] or every


def _plain(text: str) -> str:
    return " ".join(text.replace('"', " ").replace("[", " ").replace("]", " ").split())


def _consented(record: Mapping[str, Any]) -> str:
    """The scopes that a consent has given: they stand inside a text that also has what there was before."""
    for one in listed(record, "ModifiedProperties"):
        if one.get("Name") == "ConsentAction.Permissions":
            given = str(one.get("NewValue", "")).rpartition("=>")[2]
            return " ".join(sorted({scope for found in _SCOPE.findall(given) for scope in found.split()}))
    return ""


def _target(record: Mapping[str, Any]) -> str:
    """The name of what was changed: a person's address before a name, a name before an id."""
    by_kind = {one.get("Type"): text_of(one.get("ID")) for one in reversed(listed(record, "Target"))}
    return by_kind.get(5) or by_kind.get(1) or ""


async def figures(view: View, sources: Sources) -> Shape:
    """Five numbers about changes of the directory."""
    rows = await sources.ask(view, applications.COUNTS.query)
    return Tiles(tiles_of(view, "/applications", _TILES, added(rows, 2 * len(applications.FIGURES))))


async def consents(view: View, sources: Sources) -> Shape:
    """Which application was let in, with which scopes, by whom, and for whom."""
    rows, alerts, cut = await list_changes(view, sources, applications.CONSENTS)
    names = ("Time (UTC)", "Operation", "By", "Stands out", "Application")
    headings = [Heading(one, wide=one == "Stands out") for one in names]
    shown = [_consent(view, row) for row in rows]
    grid = ranked(view, shown, alerts, at=3)
    empty = None if rows else await no_records(view, sources, of="consents and grants")
    return Grid([*headings, Heading("Scopes", wide=True), Heading("From")], grid, empty=empty, cut=cut)


def _consent(view: View, row: Row) -> Told:
    at_s, name, user, ip, outcome, stands, raw, *_ = row
    record = told_by(raw)
    told = _settings(record)

    def said(*names: str) -> str:
        return next((told[one].after for one in names if one in told and told[one].after), "")

    scopes = said("DelegatedPermissionGrant.Scope", "AppRole.Value", "OAuth2PermissionGrant.Scope")
    scopes = scopes or _consented(record)
    is_for_all = (
        said("ConsentContext.IsAdminConsent", "ConsentContext.OnBehalfOfAll").lower() == "true"
        or said("DelegatedPermissionGrant.ConsentType") == "AllPrincipals"
    )
    is_given = not name.lower().startswith("remove")
    cells = [
        instant(at_s),
        operation(name, "failed" if outcome == "failed" else ""),
        person(user),
        Cell(said("ServicePrincipal.DisplayName") or _target(record) or stands or "not said"),
        Cell(scopes or "not said", tone="" if scopes else "muted"),
        address(ip),
    ]
    marks = marks_of_scopes(scopes, is_for_all=is_for_all) if is_given else []
    return Told(row, opening(view, row, cells), marks)


async def _told(view: View, sources: Sources, changes: Changes, of: str) -> Grid:
    """A table of changes with what stood there before."""
    rows, alerts, cut = await list_changes(view, sources, changes)
    headings = ("Time (UTC)", "Operation", "By", "Stands out", "What")
    shown = []
    for row in rows:
        at_s, name, user, ip, outcome, stands, raw, *_ = row
        record = told_by(raw)
        told = _updated(_settings(record))
        cells = [
            instant(at_s),
            operation(name, "failed" if outcome == "failed" else ""),
            person(user),
            Cell(_target(record) or stands or "not said"),
            Cell(change_words([one for one in told if one.after or one.before]) or "not said"),
            address(ip),
        ]
        shown.append(Told(row, opening(view, row, cells), marks_of_directory(name)))
    grid = ranked(view, shown, alerts, at=3)
    empty = None if rows else await no_records(view, sources, of=of)
    wide = Heading("Before → after", wide=True)
    return Grid(
        [*(Heading(one, wide=one == "Stands out") for one in headings), wide, Heading("From")],
        grid,
        empty=empty,
        cut=cut,
    )


async def credentials(view: View, sources: Sources) -> Shape:
    """New credentials and owners of applications, and applications that came, changed and went."""
    return await _told(view, sources, applications.CREDENTIALS, "changes of applications")


async def gates(view: View, sources: Sources) -> Shape:
    """Policies, Conditional Access, domains and federation: what lets people in."""
    return await _told(view, sources, applications.GATES, "changes of policies")


def _role_of(record: Mapping[str, Any]) -> str:
    told = _settings(record).get("Role.DisplayName")
    return (told.after or told.before or "") if told is not None else ""


async def roles(view: View, sources: Sources) -> Shape:
    """Who got which role, and who lost it."""
    rows, alerts, cut = await list_changes(view, sources, applications.ROLES)
    headings = ("Time (UTC)", "Operation", "By", "Stands out", "Who", "Role", "From")
    shown = []
    for row in rows:
        at_s, name, user, ip, outcome, stands, raw, *_ = row
        record = told_by(raw)
        role, who = _role_of(record), (_target(record) or stands).lower()
        cells = [
            instant(at_s),
            operation(name, "failed" if outcome == "failed" else ""),
            person(user),
            Cell(who or "not said", narrows=("user", who) if "@" in who else None),
            Cell(role or "not said"),
            address(ip),
        ]
        shown.append(Told(row, opening(view, row, cells), marks_of_role(name, role)))
    grid = ranked(view, shown, alerts, at=3)
    empty = None if rows else await no_records(view, sources, of="changes of roles")
    return Grid([Heading(one, wide=one == "Stands out") for one in headings], grid, empty=empty, cut=cut)


async def by_role(view: View, sources: Sources) -> Shape:
    """Which roles were given and taken how often."""
    rows = await sources.ask(view, applications.ROLES.newest)
    tally = Counter(
        _role_of(told_by(row[6])) or field_of(told_by(row[6]), "ObjectId") or "not said" for row in rows
    )
    ranked = [Ranked(role, count, colour="c4") for role, count in tally.most_common(12)]
    empty = None if rows else await no_records(view, sources, of="changes of roles")
    return Ranking("", ranked, sum(tally.values()), empty=empty)


async def privileged(view: View, sources: Sources) -> Shape:
    """Who administers most, and what they do most."""
    rows = await sources.ask(view, applications.PRIVILEGED)
    ranked = [
        Ranked(
            user,
            count,
            ("user", user),
            note=f"{counted(kinds, 'operation', 'operations')}, mostly {most.rstrip('. ')}",
        )
        for user, count, kinds, most in rows
    ]
    empty = None if rows else await no_records(view, sources, of="acts of administrators")
    return Ranking("", ranked, sum(one.count for one in ranked), empty=empty)


PAGE = Page(
    "applications",
    "Applications & roles",
    (
        Panel("figures", "At a glance", figures, tall="tiles", is_live=True),
        Panel("consents", "Consents and permission grants", consents, tall="chart", is_live=True),
        Panel("credentials", "Credentials, owners, applications", credentials, tall="chart"),
        Panel("roles", "Roles given and taken", roles, tall="chart", is_live=True),
        Panel("gates", "Policies, Conditional Access, domains, federation", gates, tall="chart"),
        Panel("by-role", "By role", by_role, width=6, tall="chart"),
        Panel("privileged", "Who administers", privileged, width=6, tall="chart"),
    ),
    says="Who lets which application in, who gets which role, and which policies decide who may sign in.",
)
