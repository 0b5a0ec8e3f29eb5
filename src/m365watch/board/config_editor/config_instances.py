"""What the text of a configuration says of inputs and outputs, also of those that are switched off. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from m365watch.common.model import Service
from m365watch.config.defaults import BY_DEFAULT, COLLECTING
from m365watch.config.document import parse_document, plain_values
from m365watch.config.editor.redaction import MARK, holds_secret
from m365watch.registry.credential_specs import by_upkeep, other_keys
from m365watch.registry.output_specs import OUTPUTS

INPUT = """\
type: office365
credentials:
  tenant_id: "<tenant>"               # the tenant's GUID, or a list of them
  client_id: "<application>"          # of the app registration in Entra
  client_secret: "<secret>"           # its value; or <others>
cloud: worldwide                      # or gcc, gcc-high, dod, china
services:                             # only these
  azure_active_directory:
  exchange:
  sharepoint:
  general_audit:
  dlp:
# outputs: [lake]                     # only these; left out, all of them
"""
INPUT_KIND = "office365"


def template_of(kind: str, type_: str) -> tuple[str, str]:
    """The name and the text that a new instance begins with; of an unknown type, the first one's."""
    if kind == "inputs":
        return INPUT_KIND, INPUT.replace("<others>", other_keys())
    spec = OUTPUTS.by_name.get(type_, OUTPUTS.specs[0])
    return spec.type, spec.template


Values = Mapping[str, object]
_CHARACTERS_MAX = 80


@dataclass(frozen=True, slots=True)
class InputText:
    """One input as it is written."""

    name: str
    is_on: bool
    tenants: Sequence[str]
    client_id: str
    proof: str
    cloud: str
    outputs: Sequence[str]
    services: Mapping[Service, bool | None]
    """Of each service whether it is on; None: it is not named, and so not collected."""


@dataclass(frozen=True, slots=True)
class OutputText:
    """One output as it is written."""

    name: str
    is_on: bool
    type: str
    where: str
    """The directory, or the host."""


def inputs_of(text: str, *, suffix: str) -> list[InputText]:
    """The inputs in their order. Raises: Unreadable."""
    return [_input(name, _object(value)) for name, value in _below(text, "inputs", suffix).items()]


def outputs_of(text: str, *, suffix: str) -> list[OutputText]:
    """The outputs in their order; where none is named, the lake that there is then. Raises: Unreadable."""
    found = _below(text, "outputs", suffix)
    return [_output(name, _object(value)) for name, value in found.items()]


def _below(text: str, key: str, suffix: str) -> Values:
    return _object(_document_of(text, suffix).get(key))


@lru_cache(maxsize=2)
def _document_of(text: str, suffix: str) -> Values:
    return _object(plain_values(parse_document(text, suffix=suffix)))


def _input(name: str, section: Values) -> InputText:
    credentials = _object(section.get("credentials"))
    given = [spec.label for spec in by_upkeep() if any(credentials.get(name) for name in spec.names)]
    cloud = section.get("cloud")
    host = _object(cloud).get("management_url") or _object(cloud).get("name")
    return InputText(
        name,
        _is_on(section),
        _texts(credentials.get("tenant_id")),
        _shown(credentials.get("client_id")),
        next(iter(given), "none yet"),
        _shown(host or cloud or "worldwide"),
        _texts(section.get("outputs")),
        _services(_object(section.get("services"))),
    )


def _services(section: Values) -> dict[Service, bool | None]:
    if not section:
        return {one: True if one in BY_DEFAULT else None for one in COLLECTING}
    return {one: _is_on(_object(section[one])) if one in section else None for one in COLLECTING}


def _output(name: str, section: Values) -> OutputText:
    config = _object(section.get("config"))
    keys = ("address", "endpoint", "url", "location", "directory")
    where = next((_shown(config[key]) for key in keys if config.get(key)), "")
    if where and config.get("port"):
        where = f"{where}:{_shown(config['port'])}"
    return OutputText(name, _is_on(section), _shown(section.get("type") or "no type"), where)


def _is_on(section: Values) -> bool:
    given = section.get("enabled", True)
    return str(given).strip().lower() != "false"


def _object(value: object) -> Values:
    return value if isinstance(value, Mapping) else {}


def _texts(value: object) -> list[str]:
    return [_shown(one) for one in (value if isinstance(value, list) else [value]) if one not in (None, "")]


def _shown(value: object) -> str:
    """A value for people: no secret that was written under a wrong key, and not without end."""
    if value is None or isinstance(value, Mapping | list):
        return ""
    text = str(value)
    return MARK if holds_secret((), text) else text[:_CHARACTERS_MAX]
