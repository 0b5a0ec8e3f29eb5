"""A new configuration written out: commented YAML, the safest defaults, no secret in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from m365watch.registry.credential_specs import CREDENTIALS
from m365watch.registry.output_specs import LAKE, OUTPUTS

TENANT_PLACEHOLDER = "<tenant>"
"""Stands for a tenant that is not known before its administrator has consented."""
_CUSTOM_CLOUD = ("login_url", "management_url", "graph_url")


@dataclass(frozen=True, slots=True)
class Answers:
    """What a new configuration is made of; every value is checked when the text is read."""

    client_id: str
    """Empty for a managed identity that reads by itself."""
    proof: Mapping[str, str]
    """The keys of one credential, with their values, in the order in which they are written."""
    tenants: tuple[str, ...] = ()
    """Empty: the placeholder."""
    cloud: str | Mapping[str, str] = "worldwide"
    """A name, or the addresses of a cloud of one's own."""
    services: tuple[str, ...] = ()
    """Empty: all of them."""
    output: str = LAKE
    output_options: Mapping[str, str] = field(default_factory=dict)
    input_name: str = "office365"


def write_configuration(answers: Answers) -> str:
    """The configuration's text."""
    return "\n".join(
        [
            "# Made by `m365watch init`. Every setting: docs/reference/settings.md.",
            "# Look whether it works with: m365watch check --config FILE",
            "",
            "globals:",
            "  name: m365watch                        # of this collector, in what it reports",
            "  persistence:                           # what was listed and delivered; keep it",
            "    type: filesystem",
            "    config:",
            "      directory_name: state",
            "",
            "inputs:",
            f"  {answers.input_name}:",
            "    type: office365",
            *_credentials(answers),
            *_cloud(answers.cloud),
            *_services(answers.services),
            "",
            "outputs:",
            *_output(answers),
            "",
        ]
    )


def _credentials(answers: Answers) -> list[str]:
    lines = ["    credentials:"]
    tenants = answers.tenants or (TENANT_PLACEHOLDER,)
    if len(tenants) == 1:
        about = "a GUID, or a list of them; `m365watch consent` adds to it"
        lines.append(f"      tenant_id: {_quoted(tenants[0])}   # {about}")
    else:
        lines += ["      tenant_id:", *(f"        - {_quoted(tenant)}" for tenant in tenants)]
    if answers.client_id:
        lines.append(f"      client_id: {_quoted(answers.client_id)}   # of the app registration in Entra")
    comments = {prompt.key: prompt.about for spec in CREDENTIALS.specs for prompt in spec.prompts}
    for key, value in answers.proof.items():
        written = value if value == "true" else _quoted(value)
        lines.append(f"      {key}: {written}" + (f"   # {comments[key]}" if key in comments else ""))
    return lines


def _cloud(cloud: str | Mapping[str, str]) -> list[str]:
    if isinstance(cloud, str):
        return [f"    cloud: {cloud}                     # worldwide, gcc, gcc-high, dod or china"]
    given = [(key, cloud[key]) for key in _CUSTOM_CLOUD if cloud.get(key)]
    return ["    cloud:", *(f"      {key}: {_quoted(value)}" for key, value in given)]


def _services(services: tuple[str, ...]) -> list[str]:
    if not services:
        return ["    # services: {exchange: , sharepoint: }   # only these; left out, all kinds of content"]
    return ["    services:                            # only these", *(f"      {one}:" for one in services)]


def _output(answers: Answers) -> list[str]:
    name = answers.output
    lines = [
        f"  {name}:                              # {OUTPUTS.by_name[name].summary}",
        f"    type: {name}",
    ]
    if answers.output_options:
        lines += ["    config:"]
        lines += [f"      {key}: {_plain_or_quoted(value)}" for key, value in answers.output_options.items()]
    return lines


def _plain_or_quoted(value: str) -> str:
    """A whole number as it is; YAML would take a quoted one for text."""
    return value if value.isascii() and value.isdecimal() and not value.startswith("0") else _quoted(value)


def _quoted(value: str) -> str:
    """In double quotes, with escapes that JSON and YAML have in common."""
    return json.dumps(value, ensure_ascii=not value.isprintable())
