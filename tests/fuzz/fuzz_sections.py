"""What a page of the board sends as a section of the configuration, beside secrets that are none of its business."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import yaml
from pydantic import SecretStr

from fuzz_contract import Attempt, Broken, Target, allowed, check_line
from fuzz_settings import known_keys
from fuzz_values import changed
from m365watch.auth.credentials.managed_identity.spec import ManagedIdentitySettings
from m365watch.board.config_editor.change_validation import Proposed, refusals
from m365watch.board.config_editor.config_changes import Write, changed_text
from m365watch.common.secret import Secret
from m365watch.config.document import Unreadable
from m365watch.config.editor.redaction import MARK, scalars, without_secrets
from m365watch.config.editor.sections import has_section, section_text
from m365watch.config.loader import load_settings
from m365watch.config.models.clouds import CLOUDS
from m365watch.config.models.settings import Settings, TenantSettings
from m365watch.config.secrets import is_reference
from m365watch.http.settings import NetworkSettings
from m365watch.outputs.devo_http.spec import DevoHttpSection

OF_A_VARIABLE, OF_ANOTHER, OF_A_FILE, WRITTEN = (
    "of-a-Variable~7f3a",
    "of-Another~55d0",
    "of-a-File~91c2",
    "Writ~3e8b",
)
OF_RESPONSES, OF_DEVO = "of-Responses~0c61", "of-Devo~a7c4"
SECRETS = (OF_A_VARIABLE, OF_ANOTHER, OF_A_FILE, WRITTEN, OF_RESPONSES, OF_DEVO)
ENVIRONMENT = {
    "M365_SECRET": OF_A_VARIABLE,
    "M365_OTHER": OF_ANOTHER,
    "M365_RESPONSE": OF_RESPONSES,
    "M365_TOKEN": OF_DEVO,
}
TENANT, CLIENT = "5df5e41b-0640-4fdb-bf01-49691be8e735", "cde3d36d-c36a-4df6-abb3-607d29e179a4"
OURS, THEIRS = "https://ours.example", "https://theirs.example"
FILE = f"""\
inputs:
  ours:
    type: office365
    credentials: {{tenant_id: "{TENANT}", client_id: "{CLIENT}", client_secret: "${{M365_SECRET}}"}}
    cloud: {{login_url: "{OURS}", management_url: "{OURS}"}}
  filed:
    type: office365
    credentials: {{tenant_id: "{TENANT[:-1]}6", client_id: "{CLIENT}", client_secret_file: secret}}
    network: {{proxy: "http://proxy.ours.example:3128"}}
  written:
    type: office365
    credentials:
      tenant_id: "{TENANT[:-1]}7"
      client_id: "{CLIENT}"
      client_secret: "{WRITTEN}"
    cloud: worldwide
  theirs:
    type: office365
    credentials: {{tenant_id: "{TENANT[:-1]}8", client_id: "{CLIENT}", client_secret: "${{M365_OTHER}}"}}
    cloud: {{login_url: "{THEIRS}", management_url: "{THEIRS}"}}
detections:
  response: {{credentials: {{client_id: "{CLIENT[:-1]}5", client_secret: "${{M365_RESPONSE}}"}}}}
outputs:
  lake: {{type: lake}}
  devo:
    type: devo_http
    config: {{endpoint: "{OURS}", domain: ours, token: "${{M365_TOKEN}}"}}
"""
PLACES = (
    ("inputs", "ours"), ("inputs", "filed"), ("inputs", "written"), ("inputs", "theirs"), ("inputs", "new"),
    ("outputs", "devo"), ("outputs", "lake"), ("outputs", "new"),
)  # fmt: skip
_SUFFIX = ".yaml"
_MACHINE = "the machine's identity"


Went = set[tuple[str, str, tuple[object, ...]]]
"""Secrets with the instance that uses each, and where that sends it."""


def _found_in(value: object, folder: Path) -> Iterator[str]:
    """The secrets of the machine in a part of the settings. Raises: Broken: one stands in the open."""
    if isinstance(value, Secret | SecretStr):
        text = value.reveal() if isinstance(value, Secret) else value.get_secret_value()
        yield from (one for one in SECRETS if one in text)
    elif isinstance(value, str):
        if any(one in value for one in SECRETS):
            raise Broken("a secret stands where everybody reads it")
    elif isinstance(value, Path):
        if value.resolve() == (folder / "secret").resolve():
            yield OF_A_FILE
    elif isinstance(value, ManagedIdentitySettings):
        yield _MACHINE
    elif isinstance(value, tuple | list | frozenset):
        for one in value:
            yield from _found_in(one, folder)
    else:
        for name in getattr(type(value), "model_fields", getattr(type(value), "__slots__", ())):
            yield from _found_in(getattr(value, name, None), folder)


def _way(network: NetworkSettings) -> tuple[object, ...]:
    return (network.proxy, network.ca_bundle)


def _cloud(tenant: TenantSettings) -> tuple[object, ...]:
    cloud = tenant.cloud
    return cloud.login_url, cloud.management_url, cloud.graph_url, cloud.audience, *_way(tenant.network)


def went(settings: Settings, folder: Path) -> Went:
    """Where the settings send each secret of the machine, by what is opened in the end."""
    found: Went = set()
    for tenant in settings.tenants:
        found |= {(tenant.input_name, one, _cloud(tenant)) for one in _found_in(tenant, folder)}
        found.add(("responses", OF_RESPONSES, _cloud(tenant)))
    for output in settings.outputs:
        where = (
            (output.config.endpoint, *_way(output.http_route[1]))
            if isinstance(output, DevoHttpSection)
            else ()
        )
        found |= {(output.name, one, where) for one in _found_in(output, folder)}
    return found


MICROSOFTS = {(one.login_url, one.management_url, one.graph_url, one.audience) for one in CLOUDS.values()}


def _may_go(secret: str, where: tuple[object, ...]) -> bool:
    """What of the machine may go to Microsoft, by the way that is usual."""
    return secret in {OF_RESPONSES, _MACHINE} and where[:4] in MICROSOFTS and where[4:] == (None, True, None)


def _prepare(folder: Path) -> Attempt:
    (folder / "secret").write_text(OF_A_FILE)
    path = folder / "m365watch.yaml"
    for place in (folder / "secret", path):
        place.touch(mode=0o600)
        place.chmod(0o600)
    path.write_text(FILE)
    stored = went(load_settings(path, environment=ENVIRONMENT), folder)

    def attempt(given: bytes) -> None:
        kind, name = PLACES[given[0] % len(PLACES)] if given else PLACES[0]
        there = has_section(FILE, (kind, name), suffix=_SUFFIX)
        change = Write(kind, name, given[1:].decode("utf-8", "replace"), is_new=not there)  # type: ignore[arg-type]
        original = section_text(FILE, (kind, name), suffix=_SUFFIX) if there else ""
        with allowed(Unreadable):
            made = changed_text(FILE, change, suffix=_SUFFIX)
            proposed = Proposed(kind, name, change.text, original)
            refused = refusals(
                proposed, FILE, suffix=_SUFFIX, folders=(folder,), state_directory=folder / "state"
            )
            for _, why in refused:
                check_line(why)
            if not refused:
                if any(is_reference(one.strip()) for one in scalars(made.text).values()):
                    raise Broken("a reference to the keyring came in")
                path.write_text(made.text)
                for one in went(load_settings(path, environment=ENVIRONMENT), folder) - stored:
                    if not _may_go(one[1], one[2]):
                        raise Broken("a secret goes where it was not stored to go", one)

    return attempt


def _sections() -> dict[tuple[str, str], str]:
    return {
        place: without_secrets(section_text(FILE, place, suffix=_SUFFIX))
        for place in PLACES
        if place[1] != "new"
    }


def sections() -> list[bytes]:
    """Each section as its page shows it, with what somebody might try in its place."""
    made = [bytes([PLACES.index(place)]) + text.encode() for place, text in _sections().items()]
    moved = [
        one.replace(old, new)
        for one in made
        for old, new in (
            (OURS.encode(), THEIRS.encode()),
            (b"worldwide", b"{login_url: '%b', management_url: '%b'}" % (THEIRS.encode(), THEIRS.encode())),
            (b"proxy.ours", b"proxy.theirs"),
        )
        if old in one
    ]
    return [
        *made,
        *moved,
        *(bytes([PLACES.index(("inputs", "new"))]) + _new_input(one).encode() for one in TRIED),
    ]


TRIED = (
    "client_secret: typed", 'client_secret: "${M365_SECRET}"', "client_secret_file: secret", "federated_token_file: ./secret",
    "certificate_file: secret", 'client_secret: "keyring:m365watch/secret"', "managed_identity: true",
)  # fmt: skip


def _new_input(credential: str) -> str:
    """An application of somebody else, at a server that receives other secrets, or none yet."""
    own = f'tenant_id: "{TENANT[:-1]}9", client_id: "{CLIENT}", {credential}'
    at = "https://new.example" if credential.endswith("typed") else THEIRS
    return f'type: office365\ncredentials: {{{own}}}\ncloud: {{login_url: "{at}", management_url: "{at}"}}\n'


HOSTILE = (
    "${M365_SECRET}", "${M365_OTHER}", "x${M365_TOKEN}", " ${M365_RESPONSE} ", "$M365_SECRET", "$${M365_SECRET}", "${M365_SECRET:-x}",
    "keyring:m365watch/secret", "secret", "./secret", "../secret", MARK, f" {MARK}", OURS, THEIRS, f"{OURS}@theirs.example", "worldwide",
    "china", {"login_url": THEIRS, "management_url": OURS}, {"proxy": "http://theirs.example:3128"}, {"managed_identity": True}, [MARK],
)  # fmt: skip


def grow_section(random: Random) -> bytes:
    """A section of some instance, with values of another, references and other destinations in it."""
    stored = _sections()
    place = random.choice(PLACES)
    text = (
        stored[place] if place in stored and random.random() < 0.8 else random.choice(list(stored.values()))
    )
    good = yaml.safe_load(text)
    names = (
        *known_keys(),
        "credentials",
        "client_secret",
        "client_secret_file",
        "cloud",
        "network",
        "proxy",
        "endpoint",
        "token",
        "second",
    )
    made = changed(random, good, names, chance=random.choice((0.0, 0.05)))
    for _ in range(random.randrange(3)):
        made = _with(random, made, names)
    style = random.choice((None, None, True, False))
    said = yaml.safe_dump(
        made, allow_unicode=True, default_flow_style=style, default_style=random.choice((None, '"', "'"))
    )
    return bytes([PLACES.index(place)]) + said.encode("utf-8", "replace")


def _with(random: Random, value: object, names: tuple[str, ...]) -> object:
    """The same with one hostile value somewhere in it."""
    if isinstance(value, dict) and value and random.random() < 0.8:
        key = random.choice(list(value))
        return {**value, key: _with(random, value[key], names)}
    if isinstance(value, dict):
        return {**value, random.choice(names): random.choice(HOSTILE)}
    return random.choice(HOSTILE)


TARGETS = (
    Target("sections", _prepare, sections, grow_section,
        (*(str(one).encode() for one in HOSTILE if isinstance(one, str)), b"&a ", b"*a", b"<<: ", b"!!binary ", b"? ", b"|\n", b"---\n", b"\\x24{"),
        free_cpu_s=2.0, input_bytes_max=16 << 10),
)  # fmt: skip
