"""`m365watch certificate`: make one to prove oneself with at Entra, and look at one that there is."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from m365watch.cli.configuration import (
    CollectorOption,
    ConfigOption,
    JobOption,
    JsonOption,
    named_config,
    read_settings,
)
from m365watch.cli.terminal.console import stderr_console, stdout_console, write_line

if TYPE_CHECKING:
    from m365watch.auth.certificates.inspection import NamedCertificate
    from m365watch.common.secret import Secret

STEM = "m365watch"
DAYS_MAX = 3_650

certificate = typer.Typer(
    help=(
        "Make a certificate for the application to prove itself with, or look at one.\n\n"
        "It is safer than a client secret: its private key never leaves this machine, not even to Entra."
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
)


class Bits(StrEnum):
    """The sizes of RSA keys that Entra takes."""

    B2048 = "2048"
    B3072 = "3072"
    B4096 = "4096"


OutOption = Annotated[
    str,
    typer.Option(
        "--out",
        "-o",
        metavar="PREFIX",
        help="Where the files go and how their names begin; what ends in / is a folder.",
    ),
]
NameOption = Annotated[
    str,
    typer.Option(
        "--name",
        metavar="TEXT",
        help="The subject: a name, or such as CN=collector,O=Contoso. The portal shows it.",
    ),
]
DaysOption = Annotated[
    int,
    typer.Option(
        "--days",
        metavar="N",
        min=1,
        max=DAYS_MAX,
        help="How long it is valid from now on; a tenant's policy may set a limit.",
    ),
]
BitsOption = Annotated[
    Bits,
    typer.Option(
        "--bits", help="The size of the RSA key; 3072 is as strong as AES-128, and is good beyond 2030."
    ),
]
EncryptingOption = Annotated[
    Path | None,
    typer.Option(
        "--password-file",
        metavar="FILE",
        help="Encrypt the private key with the password in this file, which only its owner may read.",
        show_default=False,
    ),
]
PfxOption = Annotated[
    bool, typer.Option("--pfx", help="Also write certificate and key as one PFX (PKCS #12) file.")
]
ForceOption = Annotated[
    bool,
    typer.Option("--force", help="Replace files of these names; a key that is replaced is gone for good."),
]
KeyOption = Annotated[
    Path | None,
    typer.Option(
        "--key",
        metavar="FILE",
        help="The private key; left out, it is looked for in FILE, and beside it as .key and .pem.",
        show_default=False,
    ),
]
OpeningOption = Annotated[
    Path | None,
    typer.Option(
        "--password-file",
        metavar="FILE",
        help="The password of the private key or of the PFX is in this file.",
        show_default=False,
    ),
]
ManifestOption = Annotated[
    bool, typer.Option("--manifest", help="Print the keyCredentials of the application's manifest, in JSON.")
]


@certificate.command()
def create(
    *,
    out: OutOption = STEM,
    name: NameOption = "m365watch",
    days: DaysOption = 365,
    bits: BitsOption = Bits.B3072,
    password_file: EncryptingOption = None,
    pfx: PfxOption = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make an RSA key and a certificate that it signs itself, and say what to do with them.

    Writes PREFIX.cer (the certificate, to be uploaded to Entra), PREFIX.key (the private key, PEM, for its
    owner alone) and PREFIX.manifest.json (the keyCredentials of the application's manifest, for those who
    automate the upload). Nothing is sent anywhere.

    Exit codes: 0 done; 1 failed, for example because a file is there already; 2 the call is wrong.
    """
    from m365watch.auth.certificates.generation import parse_subject
    from m365watch.cli.setup.certificate_files import MakingAsked, create_files, prefix_of
    from m365watch.cli.setup.certificate_view import created_document, created_page
    from m365watch.cli.terminal.json_output import as_json as to_json
    from m365watch.common.clock import SystemClock

    try:
        subject = parse_subject(name)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--name") from None
    asked = MakingAsked(
        prefix=prefix_of(out, stem=STEM),
        subject=subject,
        bits=int(bits),
        days=days,
        password=_read_password(password_file),
        password_file=password_file,
        with_pfx=pfx,
        replaces=force,
    )
    now = SystemClock().now()
    made = create_files(asked, now=now)
    if as_json:
        write_line(to_json(created_document(made, now=now)))
    else:
        stdout_console().print(created_page(made), crop=False)


@certificate.command()
def show(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="A certificate: PEM, DER or PFX.", show_default=False),
    ] = None,
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    key: KeyOption = None,
    password_file: OpeningOption = None,
    manifest: ManifestOption = False,
    as_json: JsonOption = False,
) -> None:
    """Look at the certificate in FILE, or at every one that a configuration names.

    Says whose it is, how long it is valid, its thumbprints as the portal and as token requests have them,
    whether the private key belongs to it, and what is wrong or odd. Nothing is sent anywhere.

    Exit codes: 0 all can be used; 1 one cannot: it expired, cannot be read, or is not the key's;
    2 the configuration or the call is wrong.
    """
    from m365watch.auth.certificates.inspection import examine
    from m365watch.cli.setup.certificate_view import examined_document, examined_page, list_manifest
    from m365watch.cli.terminal.json_output import as_json as to_json
    from m365watch.common.clock import SystemClock
    from m365watch.common.text import plain

    if manifest and as_json:
        raise typer.BadParameter("give --manifest or --json: the document of --json has the manifest in it")
    if file is not None:
        named = [
            _named_by_hand(file, key=key, password_file=password_file, others=(config, job, collector_file))
        ]
    else:
        named = _named_in_configuration(
            config, job=job, collector=collector_file, by_hand=(key, password_file)
        )
    now = SystemClock().now()
    found = [one for each in named for one in examine(each, now=now)]
    if as_json:
        write_line(to_json(examined_document(found, now=now)))
    elif manifest:
        write_line(list_manifest(found))
        for one in found:
            for fault in one.faults:
                stderr_console().print(f"error: {plain(f'{one.file}: {fault}')}", crop=False, soft_wrap=True)
    elif found:
        stdout_console().print(examined_page(found, now=now), crop=False)
    raise typer.Exit(0 if all(one.usable for one in found) else 1)


def _named_by_hand(
    file: Path, *, key: Path | None, password_file: Path | None, others: tuple[Path | None, ...]
) -> NamedCertificate:
    from m365watch.auth.certificates.inspection import NamedCertificate

    if any(others):
        raise typer.BadParameter("give either a FILE or a configuration")
    for path, hint in ((file, "FILE"), (key, "--key")):
        if path is not None and not path.exists():
            raise typer.BadParameter(f"{path}: there is no such file", param_hint=hint)
    return NamedCertificate(file, key_file=key, password=_read_password(password_file))


def _named_in_configuration(
    config: Path | None, *, job: Path | None, collector: Path | None, by_hand: tuple[Path | None, ...]
) -> list[NamedCertificate]:
    from m365watch.auth.certificates.inspection import named_in

    if any(by_hand):
        raise typer.BadParameter("--key and --password-file go with a FILE; a configuration names its own")
    if not (job or collector or named_config(config, os.environ)):
        raise typer.BadParameter("name a certificate's FILE, or a configuration with --config")
    settings = read_settings(config, job=job, collector=collector)
    named = list(named_in(settings))
    if not named:
        stderr_console().print("the configuration names no certificate")
    return named


def _read_password(file: Path | None) -> Secret | None:
    """The password in `file`; raises typer.BadParameter where there is none, or others can read it."""
    from m365watch.common.secret import Secret
    from m365watch.config.secrets import read_secret_file

    if file is None:
        return None
    try:
        return Secret(read_secret_file(file))
    except ValueError as error:
        raise typer.BadParameter(f"{file}: {error}", param_hint="--password-file") from None
