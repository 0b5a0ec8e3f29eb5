"""`m365watch init`: a first configuration, asked for on a terminal or made from flags, and tried."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from m365watch.cli.configuration import JsonOption
from m365watch.cli.setup.init_options import (
    CertificateOption,
    CertificatePasswordFileOption,
    ClientIdOption,
    CloudOption,
    CreateCertificateOption,
    CredentialOption,
    FederatedTokenFileOption,
    GraphUrlOption,
    LoginUrlOption,
    ManagedIdentityOption,
    ManagementUrlOption,
    NoCheckOption,
    OutOption,
    OutputOption,
    OutputOptionOption,
    PrivateKeyOption,
    SecretExpiresAtOption,
    SecretFileOption,
    ServiceOption,
    TenantOption,
    YesOption,
)
from m365watch.cli.tenants.file_change import command_line
from m365watch.cli.terminal.console import write_line
from m365watch.cli.terminal.prompts import confirm, require_yes

if TYPE_CHECKING:
    from m365watch.cli.setup.init_answers import Collected, Given


def init(
    *,
    out: OutOption = Path("m365watch.yaml"),
    tenant: TenantOption = None,
    client_id: ClientIdOption = None,
    cloud: CloudOption = None,
    login_url: LoginUrlOption = None,
    management_url: ManagementUrlOption = None,
    graph_url: GraphUrlOption = None,
    certificate: CertificateOption = None,
    private_key: PrivateKeyOption = None,
    certificate_password_file: CertificatePasswordFileOption = None,
    create_certificate: CreateCertificateOption = False,
    federated_token_file: FederatedTokenFileOption = None,
    managed_identity: ManagedIdentityOption = None,
    secret_file: SecretFileOption = None,
    secret_expires_at: SecretExpiresAtOption = None,
    credential: CredentialOption = None,
    service: ServiceOption = None,
    output: OutputOption = None,
    output_option: OutputOptionOption = None,
    yes: YesOption = False,
    no_check: NoCheckOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a first configuration, with comments and the safest defaults, and try whether it works.

    On a terminal it asks for what no flag says; elsewhere, and with --yes, flags have to say it. A secret is
    never shown, and goes into a file of its own that only its owner may read.

    Exit codes: 0 written, and it works; 1 written, but something does not work yet, or you said no; 2 an
    answer will not do.
    """
    from m365watch.cli.setup.init_answers import Given, collect_answers

    proof = _named(
        certificate_file=certificate,
        private_key_file=private_key,
        certificate_password_file=certificate_password_file,
        federated_token_file=federated_token_file,
        managed_identity=managed_identity,
        client_secret_file=secret_file,
        client_secret_expires_at=secret_expires_at,
    )
    given = Given(
        out=out,
        tenants=tenant or [],
        client_id=client_id,
        cloud=cloud,
        addresses=_named(login_url=login_url, management_url=management_url, graph_url=graph_url),
        proof=proof,
        proof_options=credential or [],
        creates_certificate=create_certificate,
        services=service or [],
        output=output,
        output_options=output_option or [],
    )
    asks = sys.stdin.isatty() and not yes
    _require_free(out, asks=asks, yes=yes)
    collected = collect_answers(given, asks=asks)
    _write(given, collected, as_json=as_json)
    raise typer.Exit(_go_on(out, collected, asks=asks, no_check=no_check, as_json=as_json))


def _go_on(out: Path, collected: Collected, *, asks: bool, no_check: bool, as_json: bool) -> int:
    """After the writing: consent where the tenant is still to come, the preflight, and what is next."""
    asks = asks and not (no_check or as_json or collected.answers.tenants)
    consented = asks and _let_consent(out, collected)
    has_tenant = consented or bool(collected.answers.tenants)
    # A new certificate is not known to Entra yet, unless that has just been seen.
    is_known = consented or collected.proof.certificate_prefix is None
    code, checked = _try(out, as_json=as_json) if has_tenant and is_known and not no_check else (None, None)
    _tell(out, collected, code, checked, has_tenant=has_tenant, as_json=as_json)
    return code or 0


def _named(**flags: str | Path | None) -> dict[str, str]:
    """The flags that were given, by the keys that they stand for."""
    return {key: str(flag) for key, flag in flags.items() if flag is not None}


def _require_free(out: Path, *, asks: bool, yes: bool) -> None:
    """Return if the file may be written; a missing folder is told now, and not after ten questions."""
    if not out.absolute().parent.is_dir():
        raise typer.BadParameter(f"--out: {out.absolute().parent} is no folder; make it first")
    if out.suffix.lower() == ".json":
        raise typer.BadParameter(f"--out: {out} would hold YAML, which has comments; name it .yaml")
    if out.is_dir():
        raise typer.BadParameter(f"--out: {out} is a folder; name a file in it")
    if out.exists() and not yes:
        if not asks:
            raise typer.BadParameter(
                f"--out: {out} is there already; name another, or add --yes to replace it"
            )
        require_yes(f"{out} is there already. Replace it?")


def _write(given: Given, collected: Collected, *, as_json: bool) -> None:
    """Write what was answered, once it is known to load; the secret first, since the file names it."""
    from m365watch.common.atomic_files import NewFile, write_new_files
    from m365watch.config.template import write_configuration

    text = write_configuration(collected.answers)
    is_to_come = collected.proof.certificate_prefix is not None or collected.proof.secret is not None
    _require_loads(given.out, text, reads_secrets=not is_to_come)
    if collected.proof.certificate_prefix is not None:
        _make_certificate(collected.proof.certificate_prefix, as_json=as_json)
    if collected.proof.secret is not None:
        path = Path(collected.proof.secret_file).absolute()
        write_new_files([NewFile(path, f"{collected.proof.secret}\n".encode())], replaces=True)
        sys.stderr.write(f"the secret is in {path}, which only you may read\n")
    write_new_files([NewFile(given.out, text.encode())], replaces=True)
    sys.stderr.write(f"{given.out} is written\n")


def _require_loads(out: Path, text: str, *, reads_secrets: bool) -> None:
    """Return if the text is a configuration, its tenant filled in where it is still to come.

    With `reads_secrets` the files that it names have to serve as well.

    Raises: SettingsRefused: with every mistake; nothing is written.
    """
    from m365watch.config.config_file import FileText
    from m365watch.config.editor.tenants import check_text, with_tenant
    from m365watch.config.template import TENANT_PLACEHOLDER

    file = FileText(out.absolute(), b"", text)
    if TENANT_PLACEHOLDER in text:
        text = with_tenant(file, None, "00000000-0000-0000-0000-000000000000")
    check_text(file, text, environment=os.environ, for_reading=not reads_secrets)


def _make_certificate(prefix: str, *, as_json: bool) -> None:
    """Have the command make it, which tells what to do with it; with `as_json` that is not in the answer."""
    from m365watch.cli.program import answer_of, run_command

    run = answer_of if as_json else run_command
    run("certificate", "create", "--out", prefix)


def _let_consent(out: Path, collected: Collected) -> bool:
    """Whether the tenant's administrator has just consented, and the tenant is in the file."""
    prefix = collected.proof.certificate_prefix
    where = "" if prefix is None else f" (upload {prefix}.cer to the application first)"
    if not confirm(f"Let the tenant's administrator consent now?{where}"):
        return False
    return _run("consent", "serve", "--config", str(out), "--yes") == 0


def _run(*words: str) -> int:
    """The exit code of a command of ours; what keeps it from its end is told, and no end of this one."""
    from m365watch.cli.program import run_command
    from m365watch.cli.terminal.error_output import exit_code_of, show_failure
    from m365watch.common.errors import CollectorError

    try:
        return run_command(*words)
    except CollectorError as error:
        show_failure(error)
        return exit_code_of(error)


def _try(out: Path, *, as_json: bool) -> tuple[int, Any]:
    """Run the preflight: its exit code, and with `as_json` its document where it has one."""
    from m365watch.cli.program import answer_of, is_there

    words = (
        ("check", "--config", str(out)) if is_there("check") else ("run", "--config", str(out), "--validate")
    )
    if not as_json:
        return _run(*words), None
    if words[0] != "check":
        return answer_of(*words)[0], None
    code, printed = answer_of(*words, "--json")
    return code, json.loads(printed) if printed.strip() else None


def _next_commands(out: Path, *, has_tenant: bool, works: bool) -> list[str]:
    """The commands that lead on from here; what has just been seen to work is not tried again."""
    config = ["--config", str(out)]
    first = [["check", *config] if has_tenant else ["consent", "serve", *config]]
    return [command_line(*words) for words in (*first[works:], ["run", *config], ["status", *config])]


def _tell(
    out: Path, collected: Collected, code: int | None, checked: Any, *, has_tenant: bool, as_json: bool
) -> None:
    commands = _next_commands(out, has_tenant=has_tenant, works=code == 0)
    if as_json:
        from m365watch.cli.terminal.json_output import SCHEMA
        from m365watch.cli.terminal.json_output import as_json as to_json

        document: dict[str, Any] = {
            "schema": SCHEMA,
            "config": str(out.absolute()),
            "tenants": list(collected.answers.tenants),
            "exit_code": code,
            "check": checked,
            "next": commands,
        }
        write_line(to_json(document))
        return
    if collected.proof.certificate_prefix is not None:
        certificate = shlex.quote(f"{collected.proof.certificate_prefix}.cer")
        sys.stderr.write(f"upload {certificate} to the application in Entra before you go on\n")
    if not has_tenant:
        sys.stderr.write("the tenant is still to come: let its administrator consent\n")
    write_line("next:")
    for command in commands:
        write_line(f"  {command}")
