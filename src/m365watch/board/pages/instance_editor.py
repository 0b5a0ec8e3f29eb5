"""One instance of the configuration: its parameters, edited, checked as they are typed, and tried."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from m365watch.board.access.roles import Role
from m365watch.board.config_editor.change_history import find_past
from m365watch.board.config_editor.config_changes import OUTPUTS_COUNT
from m365watch.board.config_editor.config_file import Current
from m365watch.board.config_editor.config_instances import outputs_of, template_of
from m365watch.board.config_editor.config_status import Refused, read_current
from m365watch.board.pages.collectors import NOT_FOR_SOME
from m365watch.board.pages.page_types import Page, Panel
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.ledger_queries import sees_every_tenant
from m365watch.board.query.query_context import View
from m365watch.board.widgets.widget_types import Editor, Empty, Listing, Said, Shape, Trial, Way
from m365watch.config.document import Unreadable
from m365watch.config.editor.redaction import without_secrets
from m365watch.config.editor.sections import has_section
from m365watch.config.sensitive_keys import sensitive_keys
from m365watch.registry.output_specs import OUTPUTS

_KINDS = ("inputs", "outputs")


async def editor(view: View, sources: Sources) -> Shape:
    """The parameters of the instance that the URL names, or the template of a new one."""
    if not sees_every_tenant(view):
        return Editor("", "", "", "", empty=NOT_FOR_SOME)
    current = await read_current(sources)
    if isinstance(current, Refused):
        return Editor("", "", "", "", empty=current.empty)
    kind, name = _asked(view)
    note = OUTPUTS_COUNT if kind == "outputs" else ""
    try:
        shown = _existing(view, current, kind, name) if name else _new(view, sources, current, kind)
        uploads = [".".join(key) for key in sensitive_keys(kind).uploads if "second" not in key]
        return replace(shown, note=note, uploads=uploads)
    except Unreadable as error:
        return Editor(kind, name, "", "", empty=Empty(str(error)))


def _asked(view: View) -> tuple[str, str]:
    """Inputs or outputs, and the name of the instance; empty for a new one."""
    kind, _, name = view.given("instance").partition(".")
    return (kind, name) if kind in _KINDS else (_KINDS[0], "")


def _existing(view: View, current: Current, kind: str, name: str) -> Editor:
    if not has_section(current.file.text, (kind, name), suffix=current.file.suffix):
        why = f"The configuration has no {kind.removesuffix('s')} of that name."
        return Editor(
            kind, name, "", "", empty=Empty(why, "It was removed or renamed; go back to Collectors.")
        )
    text = without_secrets(current.section((kind, name)))
    return Editor(kind, name, text, current.base, back=view.url("/collectors", instance=""))


def _new(view: View, sources: Sources, current: Current, kind: str) -> Editor:
    chosen, text = _beginning(current, kind, view.given("template"))
    number = view.given("past")
    if number.isdecimal():
        past = find_past(sources.settings.state_directory, int(number[:9]))
        if past is not None and past.path[0] == kind and past.before is not None:
            chosen, text = past.path[-1], past.before
    types = [spec.type for spec in OUTPUTS.specs] if kind == "outputs" else []
    ways = [Way(one, view.url("/instance", instance=kind, template=one, past="")) for one in types]
    name = _free_name(current, kind, chosen)
    back = view.url("/collectors", instance="", template="", past="")
    return Editor(kind, name, text, current.base, is_new=True, templates=ways, chosen=chosen, back=back)


def _beginning(current: Current, kind: str, template: str) -> tuple[str, str]:
    """The name and the text of a template, or of an instance that is copied."""
    of, _, name = template.partition(".")
    if of == kind and name and (copied := current.section((kind, name))):
        return name, without_secrets(copied)
    return template_of(kind, template)


def _free_name(current: Current, kind: str, wanted: str) -> str:
    """A name that no instance has."""
    number, name = 1, wanted
    while has_section(current.file.text, (kind, name), suffix=current.file.suffix):
        number += 1
        name = f"{wanted}_{number}"
    return name


async def keys(view: View, sources: Sources) -> Shape:
    """The keys that may stand in the parameters, and what each wants."""
    if not sees_every_tenant(view):
        return Listing((), empty=NOT_FOR_SOME)
    kind, name = _asked(view)
    type_ = view.given("template")
    if kind == "outputs" and name:
        current = await read_current(sources)
        if not isinstance(current, Refused):
            found = outputs_of(current.file.text, suffix=current.file.suffix)
            type_ = next((one.type for one in found if one.name == name), type_)
    return Listing(_rows_of(kind, type_))


@lru_cache(maxsize=16)
def _rows_of(kind: str, type_: str) -> list[Said]:
    from m365watch.config.reference import keys_below

    return [
        Said(one.path, one.default, f"Wants {one.wants}. {one.meaning}".replace("`", ""))
        for one in keys_below(kind, type_)
    ]


async def trial(view: View, sources: Sources) -> Shape:  # noqa: ARG001 - a loader's signature
    """What is tried of the text in the editor."""
    if not sees_every_tenant(view):
        return Trial("", empty=NOT_FOR_SOME)
    kind, name = _asked(view)
    return Trial("Try the text above as it stands, before it goes into the configuration.", f"{kind}.{name}")


PAGE = Page(
    "instance",
    "Instance",
    (
        Panel(
            "editor",
            "Parameters",
            editor,
            width=7,
            says="The instance as the configuration has it.",
            tall="rows",
        ),
        Panel("keys", "Keys", keys, width=5, says="What may stand there.", tall="rows"),
        Panel("trial", "Preflight", trial, says="What `m365watch check` tries.", tall="rows"),
    ),
    says="Secrets are never shown: <kept secret> stands for one, and what is typed over it takes its place.",
    role=Role.ADMIN,
    is_timeless=True,
    is_taken_along=False,
    under="collectors",
)
