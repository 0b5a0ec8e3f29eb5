"""The reference page of the settings, made from the schema, so that the two cannot differ."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import get_origin

from pydantic.fields import FieldInfo

from m365watch.config.clouds import CLOUDS
from m365watch.config.load import example_settings
from m365watch.config.schema import NO_EFFECT, ConfigurationFile, Section, ServiceSection
from m365watch.config.wanted import sections_in

_HEAD = """\
# Settings

One file, JSON or YAML, with the keys of Devo's collector. The content decides which of the two it is.
Numbers and booleans may stand in quotes, a key with null counts as left out, and relative paths start
at the file's folder. An unknown key is a mistake, and so is a value like `<tenant>` or `...` that was
never filled in; every mistake of the file is named in one run.

`${NAME}` in any text stands for the environment variable NAME. An input or a service with
`enabled: false` is not read further.
"""


def render_reference() -> str:
    """The page `docs/reference/settings.md`, in Markdown."""
    parts = [_HEAD, f"```yaml\n{example_settings()}```\n"]
    parts += [_render_section(path, section) for path, section in _list_sections("", ConfigurationFile)]
    return "\n".join([*parts, _render_clouds()])


def _list_sections(path: str, section: type[Section]) -> Iterator[tuple[str, type[Section]]]:
    """Each section with its path, from the outside in; those of keys without effect are left out."""
    yield path, section
    for name, field in section.model_fields.items():
        inner_sections = [] if NO_EFFECT in field.metadata else sections_in(field.annotation)
        if ServiceSection in inner_sections:
            # Every service takes the same keys, so that one of them speaks for all.
            yield f"{path}.<service>", ServiceSection
            return
        for inner in inner_sections:
            yield from _list_sections(_inner_path(path, name, field), inner)


def _inner_path(path: str, name: str, field: FieldInfo) -> str:
    around = f"{path}.{name}" if path else name
    kind = get_origin(field.annotation)
    return f"{around}.<name>" if kind is dict else f"{around}[]" if kind is tuple else around


def _render_section(path: str, section: type[Section]) -> str:
    kind = section.model_fields.get("type")
    of_kind = f", type {kind.title}" if kind and path.startswith("outputs") else ""
    heading = f"`{path}`{of_kind}" if path else "The file"
    rows = [_render_row(name, field) for name, field in section.model_fields.items()]
    return "\n".join(
        [
            f"## {heading}\n",
            f"{inspect.getdoc(section)}\n",
            "| key | wants | if left out | meaning |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def _render_row(name: str, field: FieldInfo) -> str:
    meaning = " ".join((field.description or "").split())
    if NO_EFFECT in field.metadata:
        meaning = f"No effect in this version. {meaning}"
    cells = [f"`{name}`", field.title or "", _render_default(field), meaning]
    return f"| {' | '.join(cells)} |"


def _render_default(field: FieldInfo) -> str:
    default = field.default
    if field.is_required():
        return "**required**"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default}`" if isinstance(default, str | int | Path) else ""


def _render_clouds() -> str:
    rows = [f"| `{c.name}` | {c.login_url} | {c.management_url} |" for c in CLOUDS.values()]
    return "\n".join(
        ["## Clouds\n", "| `cloud` | `login_url` | `management_url` |", "|---|---|---|", *rows, ""]
    )
