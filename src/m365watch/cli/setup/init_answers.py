"""What `m365watch init` has to know: taken from the flags, and asked for where somebody is there."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from m365watch.cli.terminal.prompts import a_file, a_text, ask, ask_choice, ask_secret, require_yes
from m365watch.common.model import Service
from m365watch.config.models.clouds import CLOUDS, parse_base_url
from m365watch.config.models.credentials import CredentialSettings
from m365watch.config.models.kinds import section_of
from m365watch.config.models.values import parse_guid, parse_tenant_id
from m365watch.config.secrets import is_reference
from m365watch.config.sensitive_keys import sensitive_keys
from m365watch.config.template import Answers
from m365watch.config.validation_report import SECRET_KEYS
from m365watch.registry.credential_specs import CERTIFICATE, CREDENTIALS, CredentialSpec, Prompt
from m365watch.registry.output_specs import LAKE, OUTPUTS, OutputSpec

CUSTOM = "custom"
_SERVICES = [str(service) for service in Service if service.value != "uri_retry"]
_FLAGS = {
    "certificate_file": "--certificate",
    "private_key_file": "--private-key",
    "certificate_password_file": "--certificate-password-file",
    "federated_token_file": "--federated-token-file",
    "managed_identity": "--managed-identity",
    "client_secret_file": "--secret-file",
    "client_secret_expires_at": "--secret-expires-at",
}
"""Which flag a key of a credential is given by that has one of its own."""


@dataclass(slots=True)
class Given:
    """The flags; None and empty where a flag was left out."""

    out: Path
    tenants: list[str] = field(default_factory=list)
    client_id: str | None = None
    cloud: str | None = None
    addresses: dict[str, str] = field(default_factory=dict)
    """login_url, management_url and graph_url of a cloud of one's own."""
    proof: dict[str, str] = field(default_factory=dict)
    """Keys of a credential that have flags of their own."""
    proof_options: list[str] = field(default_factory=list)
    """Other keys of a credential, each as KEY=VALUE."""
    creates_certificate: bool = False
    services: list[str] = field(default_factory=list)
    output: str | None = None
    output_options: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Proof:
    """A credential's keys, and what has to be made before they hold."""

    spec: CredentialSpec[Any]
    keys: dict[str, str] = field(default_factory=dict)
    secret: str | None = field(default=None, repr=False)
    """To be written into `secret_file`."""
    secret_file: str = ""
    certificate_prefix: str | None = None
    """Where a certificate is to be created."""


@dataclass(frozen=True, slots=True)
class Collected:
    """The answers, and the credential among them."""

    answers: Answers
    proof: Proof


def collect_answers(given: Given, *, asks: bool) -> Collected:
    """All that is needed; with `asks` what no flag says is asked for.

    Raises: typer.BadParameter: a flag's value will not do, or is missing where nobody can be asked.
    """
    cloud = _cloud(given, asks=asks)
    proof = _proof(given, asks=asks)
    client_id = _client_id(
        given, asks=asks, may_lack=section_of(proof.spec, CredentialSettings).is_own_identity()
    )
    tenants = _tenants(given, asks=asks)
    output = _output(given, asks=asks)
    answers = Answers(
        client_id=client_id,
        proof={key: _from_here(value, key, given.out) for key, value in proof.keys.items()},
        tenants=tenants,
        cloud=cloud,
        services=tuple(_checked(one, _service, "--service") for one in given.services),
        output=output,
        output_options=_options(given, output, asks=asks),
    )
    return Collected(answers, proof)


def _checked(text: str, check: Callable[[str], str], flag: str) -> str:
    try:
        return check(text)
    except ValueError as error:
        raise typer.BadParameter(f'{flag}: "{text}" {error}') from None


def _missing(flag: str, what: str) -> typer.BadParameter:
    return typer.BadParameter(f"{flag} is missing: {what}; nobody is there to be asked")


def _client_id(given: Given, *, asks: bool, may_lack: bool) -> str:
    if given.client_id is not None:
        return _checked(given.client_id, parse_guid, "--client-id")
    if asks:
        default = "" if may_lack else None
        return ask("application (client) ID of the app registration", parse_guid, default=default)
    if may_lack:
        return ""
    raise _missing("--client-id", "the application (client) ID, a GUID")


def _tenants(given: Given, *, asks: bool) -> tuple[str, ...]:
    if given.tenants or not asks:
        tenants = [_checked(one, parse_tenant_id, "--tenant") for one in given.tenants]
        return tuple(dict.fromkeys(tenants))
    question = "directory (tenant) ID; leave it empty to have it written when its administrator consents"
    found = ask(question, parse_tenant_id, default="")
    return (found,) if found else ()


def _cloud(given: Given, *, asks: bool) -> str | dict[str, str]:
    if given.addresses or given.cloud == CUSTOM:
        missing = {"login_url", "management_url"} - given.addresses.keys()
        if missing:
            raise typer.BadParameter("a cloud of your own needs --login-url and --management-url")
        flags = {key: f"--{key.replace('_', '-')}" for key in given.addresses}
        return {key: _checked(text, parse_base_url, flags[key]) for key, text in given.addresses.items()}
    if given.cloud is not None:
        return _checked(given.cloud, _cloud_name, "--cloud")
    return ask_choice("cloud of the tenant", tuple(CLOUDS), default="worldwide") if asks else "worldwide"


def _cloud_name(text: str) -> str:
    if text not in CLOUDS:
        raise ValueError(f"is none; give {', '.join(CLOUDS)} or {CUSTOM}")
    return text


def _service(text: str) -> str:
    if text not in _SERVICES:
        raise ValueError(f"is none; give one of {', '.join(_SERVICES)}")
    return text


def _proof(given: Given, *, asks: bool) -> Proof:
    """The credential of the flags, or the one that somebody names who is asked.

    A key that belongs to another credential is left to the configuration's own checks.
    """
    flags = given.proof | _pairs(given.proof_options, "--credential")
    made = CERTIFICATE if given.creates_certificate else None
    chosen = [s for s in CREDENTIALS.specs if s.type == made or not flags.keys().isdisjoint(s.names)]
    if len(chosen) > 1:
        raise typer.BadParameter(f"give one credential, not {' and '.join(spec.type for spec in chosen)}")
    if made:
        return _created(given)
    if chosen:
        prompts = {prompt.key: prompt for spec in CREDENTIALS.specs for prompt in spec.prompts}
        checked = {
            key: _checked(text, _check_of(key, prompts.get(key)), _FLAGS.get(key, f"--credential {key}"))
            for key, text in flags.items()
        }
        return Proof(chosen[0], checked)
    if not asks:
        what = (
            "one of --certificate, --create-certificate, --federated-token-file, --managed-identity, "
            "--secret-file, --credential"
        )
        raise _missing("a credential", what)
    return _ask_proof(given)


def _ask_proof(given: Given) -> Proof:
    kind = ask_choice(
        "credential: a certificate is the safest that every tenant allows",
        [spec.aliases[0] if spec.aliases else spec.type for spec in CREDENTIALS.specs],
        default=CERTIFICATE,
    )
    proof = Proof(CREDENTIALS.by_name[kind])
    for prompt in proof.spec.prompts:
        if prompt.is_typed:
            proof.secret_file = proof.keys[prompt.key] = _secret_file(given.out)
            proof.secret = ask_secret(prompt.question)
        elif prompt.question:
            usual = os.environ.get(prompt.variable, prompt.usual)
            answer = ask(prompt.question, _check_of(prompt.key, prompt), default=usual)
            if not answer and prompt.key in proof.spec.names:
                return _created(given)
            proof.keys |= {prompt.key: answer} if answer else {}
    return proof


def _secret_file(out: Path) -> str:
    """Where a secret that is typed will lie."""
    path = out.with_name(f"{out.stem}.secret")
    if path.exists():
        require_yes(f"{path} is there already. Replace it?")
    return str(path)


def _check_of(key: str, prompt: Prompt | None) -> Callable[[str], str]:
    return (prompt and prompt.check) or (a_file if _names_file(key) else a_text)


def _created(given: Given) -> Proof:
    prefix = str(given.out.with_name("m365watch"))
    keys = {"certificate_file": f"{prefix}.cer", "private_key_file": f"{prefix}.key"}
    return Proof(CREDENTIALS.by_name[CERTIFICATE], keys, certificate_prefix=prefix)


def _output(given: Given, *, asks: bool) -> str:
    if given.output is not None:
        return _checked(given.output, _output_type, "--output")
    return ask_choice("where records go", [one.type for one in OUTPUTS.specs], default=LAKE) if asks else LAKE


def _output_type(text: str) -> str:
    found = OUTPUTS.by_name.get("devo_platform" if text == "devo" else text.replace("-", "_"))
    if found is None:
        raise ValueError(f"is none; give one of {', '.join(one.type for one in OUTPUTS.specs)}")
    return found.type


def _options(given: Given, output: str, *, asks: bool) -> dict[str, str]:
    options = _pairs(given.output_options, "--output-option")
    spec = OUTPUTS.by_name[output]
    for key, usual in spec.prompts.items():
        if key in options or not (asks or _is_required(spec, key)):
            continue
        if not asks:
            raise _missing(f"--output-option {key}=...", f"{output} needs it")
        options[key] = ask(f"{output}: {key}", a_file if _names_file(key) else a_text, default=usual)
    return {key: _from_here(value, key, given.out) for key, value in options.items()}


def _pairs(texts: list[str], flag: str) -> dict[str, str]:
    """Each KEY=VALUE of the flag; no secret."""
    pairs: dict[str, str] = {}
    for text in texts:
        key, mark, value = text.partition("=")
        if not mark or not key.isidentifier():
            raise typer.BadParameter(f'{flag}: "{key}" has no value; give KEY=VALUE')
        if key in SECRET_KEYS and not (value.startswith("${") or is_reference(value)):
            # Others on the machine see what a command is called with, and so does the shell's history.
            raise typer.BadParameter(f"{flag}: {key} is a secret; give {key}_file=FILE in its place")
        pairs[key] = value
    return pairs


def _is_required(spec: OutputSpec[Any], key: str) -> bool:
    config = spec.section.model_fields["config"].annotation
    return bool(config and config.model_fields[key.removesuffix("_file")].is_required())


def _names_file(key: str) -> bool:
    """Whether an option or a credential's key is the path of a file."""
    return key.endswith("_file") or any(path[-1] == key for path in sensitive_keys("outputs").files)


def _from_here(value: str, key: str, out: Path) -> str:
    """A path as the configuration has it: relative to its folder where it lies below that."""
    if not _names_file(key):
        return value
    path, folder = Path(value).absolute(), out.absolute().parent
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
