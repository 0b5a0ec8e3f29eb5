"""What `m365watch certificate create` makes is what the token endpoint takes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from typer.testing import CliRunner

from caller import START, Caller, calling
from m365watch.auth.certificates.certificate import load_certificate, load_private_key
from m365watch.cli.program import app
from m365watch.common import base64url
from m365watch_simulator.service.identities import TenantIdentity


@pytest.mark.parametrize("from_pfx", [False, True])
@pytest.mark.parametrize(("algorithm", "header"), [("PS256", "x5t#S256"), ("RS256", "x5t")])
def test_a_created_certificate_signs_in_where_it_is_registered(
    tmp_path: Path, algorithm: str, header: str, *, from_pfx: bool
) -> None:
    """With the key of either file, and with the thumbprints that the command told."""
    (tmp_path / "pw").write_text("a pass\n")
    (tmp_path / "pw").chmod(0o600)
    arguments = ["--out", str(tmp_path / "a"), "--password-file", str(tmp_path / "pw"), "--bits", "2048"]
    made = CliRunner().invoke(app, ["certificate", "create", *arguments, "--pfx", "--json"])
    told = json.loads(made.stdout)
    if from_pfx:
        key = load_certificate(Path(told["files"]["pfx"]).read_bytes(), b"a pass").key
    else:
        key = load_private_key(Path(told["files"]["private_key"]).read_bytes(), b"a pass")
    assert isinstance(key, rsa.RSAPrivateKey)
    thumbprints = {"x5t": told["thumbprints"]["x5t"], "x5t#S256": told["thumbprints"]["x5t_s256"]}
    head = {"alg": algorithm, header: thumbprints[header]}

    registered = Path(told["files"]["certificate"]).read_bytes()
    other = other_certificate(tmp_path)

    assert [asyncio.run(ask(one, head, key)) for one in (registered, other)] == [200, 401]


async def ask(registered: bytes, head: dict[str, str], key: rsa.RSAPrivateKey) -> int:
    """The status with which an assertion is answered where `registered` is the application's."""
    identity = TenantIdentity(
        tenant_id=str(uuid4()),
        client_id=str(uuid4()),
        client_secret="unused",
        domain="certain.example",
        certificate=registered,
    )
    async with calling(signed_in=False, tenants=(identity,)) as caller:
        reply = await caller.ask_token(
            client_secret="",
            client_assertion_type="urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            client_assertion=sign(head, claims_for(caller), key),
        )
    return reply.status


def claims_for(caller: Caller) -> dict[str, Any]:
    now = int(START.timestamp())
    return {
        "aud": f"{caller.running.url}/{caller.identity.tenant_id}/oauth2/v2.0/token",
        "iss": caller.identity.client_id,
        "sub": caller.identity.client_id,
        "jti": str(uuid4()),
        "nbf": now,
        "exp": now + 600,
    }


def sign(head: dict[str, str], claims: dict[str, Any], key: rsa.RSAPrivateKey) -> str:
    text = ".".join(base64url.encoded(json.dumps(part).encode()) for part in (head, claims))
    chosen: Any = padding.PKCS1v15()
    if head["alg"] == "PS256":
        chosen = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
    return f"{text}.{base64url.encoded(key.sign(text.encode(), chosen, hashes.SHA256()))}"


def other_certificate(folder: Path) -> bytes:
    arguments = ["--out", str(folder / "other"), "--bits", "2048"]
    assert CliRunner().invoke(app, ["certificate", "create", *arguments]).exit_code == 0
    return (folder / "other.cer").read_bytes()
