"""The options of `m365watch init`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

OutOption = Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="What to write.")]
TenantOption = Annotated[
    list[str] | None,
    typer.Option(
        "--tenant",
        metavar="GUID",
        help="Directory (tenant) ID; may be repeated; left out, consent finds it.",
    ),
]
ClientIdOption = Annotated[
    str | None, typer.Option("--client-id", metavar="GUID", help="Application (client) ID.")
]
CloudOption = Annotated[
    str | None,
    typer.Option("--cloud", metavar="NAME", help="worldwide, gcc, gcc-high, dod, china or custom."),
]
LoginUrlOption = Annotated[
    str | None, typer.Option("--login-url", metavar="URL", help="Of a custom cloud: tokens.")
]
ManagementUrlOption = Annotated[
    str | None, typer.Option("--management-url", metavar="URL", help="Of a custom cloud: the API.")
]
GraphUrlOption = Annotated[
    str | None, typer.Option("--graph-url", metavar="URL", help="Of a custom cloud: Graph.")
]
CertificateOption = Annotated[
    Path | None, typer.Option("--certificate", metavar="FILE", help="PEM, DER or PFX; recommended.")
]
PrivateKeyOption = Annotated[
    Path | None, typer.Option("--private-key", metavar="FILE", help="Its key, where it is apart.")
]
CertificatePasswordFileOption = Annotated[
    Path | None,
    typer.Option(
        "--certificate-password-file", metavar="FILE", help="The password of key or PFX, mode 0600."
    ),
]
CreateCertificateOption = Annotated[
    bool, typer.Option("--create-certificate", help="Make a certificate beside FILE.")
]
FederatedTokenFileOption = Annotated[
    Path | None, typer.Option("--federated-token-file", metavar="FILE", help="Another issuer's token.")
]
ManagedIdentityOption = Annotated[
    str | None,
    typer.Option("--managed-identity", metavar="ID", help="system, or a user-assigned client ID."),
]
SecretFileOption = Annotated[
    Path | None,
    typer.Option("--secret-file", metavar="FILE", help="The client secret's value, mode 0600."),
]
SecretExpiresAtOption = Annotated[
    str | None,
    typer.Option("--secret-expires-at", metavar="T", help="When it ends, as Entra shows: 2027-11-17."),
]
CredentialOption = Annotated[
    list[str] | None,
    typer.Option("--credential", metavar="KEY=VALUE", help="Any key of a credential; may be repeated."),
]
ServiceOption = Annotated[
    list[str] | None,
    typer.Option("--service", metavar="S", help="Only this service; may be repeated."),
]
OutputOption = Annotated[
    str | None,
    typer.Option("--output", metavar="TYPE", help="Where the records go; a wrong TYPE names all."),
]
OutputOptionOption = Annotated[
    list[str] | None,
    typer.Option("--output-option", metavar="KEY=VALUE", help="Of the output; may be repeated."),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing; replace FILE.")]
NoCheckOption = Annotated[bool, typer.Option("--no-check", help="Do not try it afterwards.")]
