"""The reference page of the settings, made from the schema, so that the two cannot differ."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, get_origin

from pydantic.fields import FieldInfo

from m365watch.config.loader import example_settings
from m365watch.config.models.base import NO_EFFECT, Section
from m365watch.config.models.clouds import CLOUDS
from m365watch.config.models.inputs import DlpSection, HealthSection, ServiceSection
from m365watch.config.models.kinds import KindSection
from m365watch.config.models.network import InputNetworkSection
from m365watch.config.models.notifications import ChannelSection
from m365watch.config.models.outputs import output_sections
from m365watch.config.models.schema import configuration_file
from m365watch.config.validation import input_section, sections_in
from m365watch.http.settings import NetworkSettings
from m365watch.registry.output_specs import LAKE

_HEAD = """\
# Settings

One file, JSON or YAML, with the keys of Devo's collector. The content decides which of the two it is.
Numbers and booleans may stand in quotes, a key with null counts as left out, and relative paths start
at the file's folder (where it comes by a pipe, at the working directory). An unknown key is a mistake, and
so is a value like `<tenant>` or `...` that was never filled in; every mistake of it is named in one run.

`${NAME}` in any text stands for the environment variable NAME. An input, a service or an output with
`enabled: false` is not read further.
"""

_SAID_ELSEWHERE: dict[type[Section], type[Section]] = {
    DlpSection: ServiceSection,
    HealthSection: ServiceSection,
    InputNetworkSection: NetworkSettings,
}
"""Sections whose keys are for the most part those of another, which has its own table."""

_SERVER = """\
## The two files of Devo's collector server

`--job_config_loc` and `--collector_config_loc` name them in place of `--config`; the one that is left out
is looked for where Devo's collector server has it, `/etc/devo/job/job_config.json` and
`/etc/devo/collector/collector_config.json`. If no configuration is named or found, both are read from
there if both exist. Mistakes name the file and
the key as it is there. A configuration that is named without its folder is also looked for in `config/`.

| file | key | stands for |
|---|---|---|
| job | `inputs`, `global_overrides` | the same; a file without `inputs` is inputs from end to end |
| collector | `job_id`, `job_name`, `debug` | `globals.id`, `globals.name`, `globals.debug` |
| collector | `state_store` | `globals.persistence`; `dir` in its `config` is `directory_name` |
| collector | `detections` | the same |
| collector | `loggers` | `outputs`; in a list they are named by type and number: `devo_platform_0` |

In an output's `config`, `chain_loc`, `cert_loc` and `key_loc` stand for `chain`, `cert` and `key`, `url` and
`location` for `address`; these spellings are read in a single file as well. `persistence` of an input is
ignored, and so is any other key at the top of either file, each with a warning. Relative paths start at the
folder of the file that they stand in.
"""

_ENVIRONMENT = """\
## Environment

Where neither the command line nor a variable names a configuration, the first of these is read:
`./m365watch.yaml`, `~/.config/m365watch/m365watch.yaml`, `/etc/m365watch/m365watch.yaml`,
`/etc/m365watch/config.yaml`.

| variable | meaning |
|---|---|
| `M365WATCH_CONFIG`, `CONFIG_FILE` | the configuration, where the command line names none |
| `COLLECTOR_IMAGE` | the container's image, named in what the collector says of itself |
| `CREDENTIALS_DIRECTORY` | systemd's folder of credentials, whose files have modes of their own |
| `IDENTITY_ENDPOINT`, `IDENTITY_HEADER` | where App Service gives out the tokens of a managed identity |
| `AZURE_POD_IDENTITY_AUTHORITY_HOST` | another place for IMDS than 169.254.169.254, on loopback only |
| `HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY` | the proxy, and its exceptions, where `network` says nothing |
| `SSL_CERT_FILE`, `SSL_CERT_DIR` | the authorities that are trusted, where `network` says nothing |
"""


def render_reference() -> str:
    """The page `docs/reference/settings.md`, in Markdown."""
    parts = [_HEAD, f"```yaml\n{example_settings()}```\n"]
    parts += [_render_section(path, section) for path, section in _list_sections("", configuration_file())]
    return "\n".join([*parts, _render_clouds(), _SERVER, _ENVIRONMENT])


def _list_sections(path: str, section: type[Section]) -> Iterator[tuple[str, type[Section]]]:
    """Each section with its path, from the outside in; those of keys without effect are left out."""
    yield path, section
    for name, field in section.model_fields.items():
        inner_sections = [] if NO_EFFECT in field.metadata else sections_in(field.annotation)
        if ServiceSection in inner_sections:
            # Every service takes the same keys, so that one of them speaks for all; dlp takes one more.
            yield f"{path}.<service>", ServiceSection
            yield f"{path}.dlp", DlpSection
            return
        if any(issubclass(inner, ChannelSection) for inner in inner_sections):
            # What all types of targets take stands once, before what is each one's own.
            yield _inner_path(path, name, field), ChannelSection
        for inner in inner_sections:
            yield from _list_sections(_inner_path(path, name, field), inner)


def _inner_path(path: str, name: str, field: FieldInfo) -> str:
    around = f"{path}.{name}" if path else name
    kind = get_origin(field.annotation)
    return f"{around}.<name>" if kind is dict else f"{around}[]" if kind is tuple else around


def _render_section(path: str, section: type[Section]) -> str:
    kind = (
        section.model_fields["type"].title
        if issubclass(section, KindSection) and section is not ChannelSection
        else None
    )
    of_kind = f", type {kind}" if kind else ""
    heading = f"`{path}`{of_kind}" if path else "The file"
    words = words_below(section)
    rows = [_render_row(name, field, words.get(name, "")) for name, field in _own_fields(section)]
    head = [f"## {heading}\n", f"{inspect.getdoc(section)}\n"]
    table = ["| key | wants | if left out | meaning |", "|---|---|---|---|", *rows, ""]
    return "\n".join(head + table if rows else head)


def _own_fields(section: type[Section]) -> list[tuple[str, FieldInfo]]:
    """The keys that no other table has, or has with another default."""
    other = ChannelSection if issubclass(section, ChannelSection) else _SAID_ELSEWHERE.get(section, section)
    said = {} if other is section else other.model_fields
    return [
        (name, field)
        for name, field in section.model_fields.items()
        if name not in said or (field.title, field.default) != (said[name].title, said[name].default)
    ]


class KeyRow(NamedTuple):
    """One key that may stand in a section."""

    path: str
    """From the section: `credentials.tenant_id`."""
    wants: str
    default: str
    meaning: str


def keys_below(kind: str, type_: str) -> list[KeyRow]:
    """The keys of one input or, of that type, one output, but for those without effect."""
    outputs = output_sections()
    section = outputs.get(type_, outputs[LAKE]) if kind == "outputs" else input_section()
    rows = []
    for path, inner in _list_sections("", section):
        words = words_below(inner)
        for name, one in _own_fields(inner):
            if NO_EFFECT not in one.metadata:
                shown = f"{path}.{name}".lstrip(".")
                default = _render_default(one).strip("*`")
                rows.append(KeyRow(shown, one.title or "", default, words.get(name, "")))
    return rows


def words_below(section: type[Section]) -> dict[str, str]:
    """The words below each key of `section`, those of its bases included, each in one line."""
    words: dict[str, str] = {}
    for base in reversed(section.__mro__):
        if "made_of" in vars(base):
            # It has no text of its own.
            for part in vars(base)["made_of"]:
                words |= words_below(part)
        elif issubclass(base, Section):
            [body] = ast.parse(textwrap.dedent(inspect.getsource(base))).body
            words.update(_words_in(body))
    return words


def _words_in(body: ast.AST) -> Iterator[tuple[str, str]]:
    for key, below in pairwise(ast.iter_child_nodes(body)):
        match key, below:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                yield name, " ".join(text.split())


def _render_row(name: str, field: FieldInfo, meaning: str) -> str:
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
    if isinstance(default, float):
        return f"`{default:g}`"
    return f"`{default}`" if isinstance(default, str | int | Path) else ""


def _render_clouds() -> str:
    rows = [f"| `{c.name}` | {c.login_url} | {c.management_url} | {c.graph_url} |" for c in CLOUDS.values()]
    return "\n".join(
        [
            "## Clouds\n",
            "| `cloud` | `login_url` | `management_url` | `graph_url` |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )
