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
from m365watch.config.keyrings import is_reference
from m365watch.config.models.clouds import CLOUDS, parse_base_url
from m365watch.config.models.values import parse_guid, parse_instant, parse_tenant_id
from m365watch.config.sensitive_keys import sensitive_keys
from m365watch.config.template import Answers
from m365watch.config.validation_report import SECRET_KEYS
from m365watch.registry.output_specs import LAKE, OUTPUTS, OutputSpec

CUSTOM = "custom"
_SERVICES = [str(service) for service in Service if service.value != "uri_retry"]
_FLAGS = {
    "certificate_file": "--certificate",
    "private_key_file": "--private-key",
    "certificate_password_file": "--certificate-password-file",
    "federated_token_file": "--federated-token-file",
    "client_secret_file": "--secret-file",
}
"""Which flag a key of a credential is given by."""


@dataclass(slots=True)
class Given:
    """The flags; None and empty where a flag was left out."""

    out: Path
    tenants: list[str] = field(default_factory=list)
    client_id: str | None = None
    cloud: str | None = None
    addresses: dict[str, str] = field(default_factory=dict)
    """login_url, management_url and graph_url of a cloud of one's own."""
    files: dict[str, str] = field(default_factory=dict)
    """Of `PROOF_KEYS`, those that name a file."""
    secret_expires_at: str | None = None
    managed_identity: str | None = None
    creates_certificate: bool = False
    services: list[str] = field(default_factory=list)
    output: str | None = None
    output_options: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Collected:
    """The answers, and what has to be made before they hold."""

    answers: Answers
    secret: str | None = field(default=None, repr=False)
    """To be written into the file that `client_secret_file` names."""
    certificate_prefix: str | None = None
    """Where a certificate is to be created."""


def collect_answers(given: Given, *, asks: bool) -> Collected:
    """All that is needed; with `asks` what no flag says is asked for.

    Raises: typer.BadParameter: a flag's value will not do, or is missing where nobody can be asked.
    """
    cloud = _cloud(given, asks=asks)
    proof, secret, prefix = _proof(given, asks=asks)
    client_id = _client_id(given, asks=asks, may_lack="managed_identity" in proof)
    tenants = _tenants(given, asks=asks)
    output = _output(given, asks=asks)
    answers = Answers(
        client_id=client_id,
        proof={key: _from_here(value, key, given.out) for key, value in proof.items()},
        tenants=tenants,
        cloud=cloud,
        services=tuple(_checked(one, _service, "--service") for one in given.services),
        output=output,
        output_options=_options(given, output, asks=asks),
    )
    return Collected(answers, secret, prefix)


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


def _proof(given: Given, *, asks: bool) -> tuple[dict[str, str], str | None, str | None]:
    """The credential's keys, a secret to be written, and where a certificate is to be created."""
    kinds = {
        "certificate": given.creates_certificate or "certificate_file" in given.files,
        "federated": "federated_token_file" in given.files,
        "managed": given.managed_identity is not None,
        "secret": "client_secret_file" in given.files,
    }
    chosen = [kind for kind, is_given in kinds.items() if is_given]
    if len(chosen) > 1:
        raise typer.BadParameter(f"give one credential, not {' and '.join(chosen)}")
    if not chosen and not asks:
        what = (
            "one of --certificate, --create-certificate, --federated-token-file, --managed-identity, "
            "--secret-file"
        )
        raise _missing("a credential", what)
    if not chosen:
        return _ask_proof(given)
    if given.managed_identity is not None:
        return (
            {"managed_identity": _checked(given.managed_identity, _identity, "--managed-identity")},
            None,
            None,
        )
    if given.creates_certificate:
        return _created(given)
    proof = {key: _checked(path, a_file, _FLAGS[key]) for key, path in given.files.items()}
    if given.secret_expires_at is not None:
        proof["client_secret_expires_at"] = _checked(given.secret_expires_at, _instant, "--secret-expires-at")
    return proof, None, None


def _ask_proof(given: Given) -> tuple[dict[str, str], str | None, str | None]:
    kind = ask_choice(
        "credential: a certificate is the safest that every tenant allows",
        ("certificate", "federated", "managed", "secret"),
        default="certificate",
    )
    match kind:
        case "federated":
            usual = os.environ.get("AZURE_FEDERATED_TOKEN_FILE")
            return (
                {"federated_token_file": ask("file with the issuer's token", a_text, default=usual)},
                None,
                None,
            )
        case "managed":
            question = "client ID of a user-assigned identity; empty for the system's own"
            return {"managed_identity": ask(question, _identity, default="true")}, None, None
        case "secret":
            path = given.out.with_name(f"{given.out.stem}.secret")
            if path.exists():
                require_yes(f"{path} is there already. Replace it?")
            secret = ask_secret("value of the client secret")
            ends = ask("when it ends, as Entra shows it beside the secret", _instant, default="")
            end = {"client_secret_expires_at": ends} if ends else {}
            return {"client_secret_file": str(path)} | end, secret, None
        case _:
            found = ask("file of the certificate; empty to have one made", a_file, default="")
            if not found:
                return _created(given)
            key = ask("file of its private key; empty where it is in the same file", a_file, default="")
            return {"certificate_file": found} | ({"private_key_file": key} if key else {}), None, None


def _created(given: Given) -> tuple[dict[str, str], None, str]:
    prefix = str(given.out.with_name("m365watch"))
    return {"certificate_file": f"{prefix}.cer", "private_key_file": f"{prefix}.key"}, None, prefix


def _identity(text: str) -> str:
    if text.lower() in {"true", "system", ""}:
        return "true"
    try:
        return parse_guid(text)
    except ValueError:
        raise ValueError('is neither "system" nor the client ID of an identity, a GUID') from None


def _instant(text: str) -> str:
    try:
        return f"{parse_instant(text):%Y-%m-%dT%H:%M:%SZ}"
    except ValueError as error:
        raise ValueError(f"{error}; give a date such as 2027-11-17") from None


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
    options: dict[str, str] = {}
    for text in given.output_options:
        key, mark, value = text.partition("=")
        if not mark or not key.isidentifier():
            raise typer.BadParameter(f'--output-option: "{key}" has no value; give KEY=VALUE')
        if key in SECRET_KEYS and not (value.startswith("${") or is_reference(value)):
            # Others on the machine see what a command is called with, and so does the shell's history.
            raise typer.BadParameter(f"--output-option: {key} is a secret; give {key}_file=FILE in its place")
        options[key] = value
    spec = OUTPUTS.by_name[output]
    for key, usual in spec.prompts.items():
        if key in options or not (asks or _is_required(spec, key)):
            continue
        if not asks:
            raise _missing(f"--output-option {key}=...", f"{output} needs it")
        options[key] = ask(f"{output}: {key}", a_file if _names_file(key) else a_text, default=usual)
    return {key: _from_here(value, key, given.out) for key, value in options.items()}


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
