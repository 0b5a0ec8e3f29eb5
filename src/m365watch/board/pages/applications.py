"""Applications and roles: who lets which application in, who gets which role, and how the gates are set."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from m365watch.board.pages.page_types import Page, Panel
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.fact_queries import Row
from m365watch.board.query.query_context import View
from m365watch.board.query.sql import application_queries as applications
from m365watch.board.query.sql.aggregates import Changes
from m365watch.board.widgets.change_flags import (
    Told,
    change_table,
    count_changes,
    marks_of_directory,
    marks_of_role,
    marks_of_scopes,
    tiles_of,
)
from m365watch.board.widgets.empty_states import no_records
from m365watch.board.widgets.labels import counted
from m365watch.board.widgets.previous_lake import figures_here
from m365watch.board.widgets.record_text import (
    Setting,
    change_words,
    deed,
    field_of,
    listed,
    opening,
    settings_of,
    text_of,
)
from m365watch.board.widgets.widget_types import Cell, Grid, Ranked, Ranking, Shape
from m365watch.records.headers import object_of

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
    counts = await count_changes(view, sources, applications.COUNTS, applications.FIGURES)
    return await figures_here(view, sources, tiles_of(view, "/applications", _TILES, counts))


async def consents(view: View, sources: Sources) -> Shape:
    """Which application was let in, with which scopes, by whom, and for whom."""
    names = ("Time (UTC)", "Operation", "By", "Stands out…", "Application", "Scopes…", "From")

    def tell(rows: Sequence[Row]) -> list[Told]:
        return [_consent(view, row) for row in rows]

    return await change_table(view, sources, applications.CONSENTS, names, tell, of="consents and grants")


def _consent(view: View, row: Row) -> Told:
    record = object_of(row[6])
    told = _settings(record)

    def said(*names: str) -> str:
        return next((told[one].after for one in names if one in told and told[one].after), "")

    scopes = said("DelegatedPermissionGrant.Scope", "AppRole.Value", "OAuth2PermissionGrant.Scope")
    scopes = scopes or _consented(record)
    is_for_all = (
        said("ConsentContext.IsAdminConsent", "ConsentContext.OnBehalfOfAll").lower() == "true"
        or said("DelegatedPermissionGrant.ConsentType") == "AllPrincipals"
    )
    is_given = not row[1].lower().startswith("remove")
    cells = deed(
        row,
        Cell(said("ServicePrincipal.DisplayName") or _target(record) or row[5] or "not said"),
        Cell(scopes or "not said", tone="" if scopes else "muted"),
    )
    marks = marks_of_scopes(scopes, is_for_all=is_for_all) if is_given else []
    return Told(row, opening(view, row, cells), marks)


async def _told(view: View, sources: Sources, changes: Changes, of: str) -> Grid:
    """A table of changes with what stood there before."""
    names = ("Time (UTC)", "Operation", "By", "Stands out…", "What", "Before → after…", "From")

    def tell(rows: Sequence[Row]) -> list[Told]:
        return [_change(view, row) for row in rows]

    return await change_table(view, sources, changes, names, tell, of=of)


def _change(view: View, row: Row) -> Told:
    record = object_of(row[6])
    told = _updated(_settings(record))
    cells = deed(
        row,
        Cell(_target(record) or row[5] or "not said"),
        Cell(change_words([one for one in told if one.after or one.before]) or "not said"),
    )
    return Told(row, opening(view, row, cells), marks_of_directory(row[1]))


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
    names = ("Time (UTC)", "Operation", "By", "Stands out…", "Who", "Role", "From")

    def tell(rows: Sequence[Row]) -> list[Told]:
        return [_given_role(view, row) for row in rows]

    return await change_table(view, sources, applications.ROLES, names, tell, of="changes of roles")


def _given_role(view: View, row: Row) -> Told:
    record = object_of(row[6])
    role, who = _role_of(record), (_target(record) or row[5]).lower()
    cells = deed(
        row,
        Cell(who or "not said", narrows=("user", who) if "@" in who else None),
        Cell(role or "not said"),
    )
    return Told(row, opening(view, row, cells), marks_of_role(row[1], role))


async def by_role(view: View, sources: Sources) -> Shape:
    """Which roles were given and taken how often."""
    rows = await sources.ask(view, applications.ROLES.newest)
    tally = Counter(
        _role_of(object_of(row[6])) or field_of(object_of(row[6]), "ObjectId") or "not said" for row in rows
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
    return Ranking.of_all(ranked, empty)


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
