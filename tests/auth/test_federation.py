from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from m365watch.auth.credentials.federated_token.federated_token import FederatedToken
from m365watch.common.errors import CredentialsRefused
from m365watch_simulator.entra.federation import Issuer
from m365watch_testing.clock import START, FakeClock
from m365watch_testing.credentials import federated_token

ISSUER = Issuer("http://127.0.0.1:1")


def proof_of(path: Path) -> Mapping[str, str]:
    token = FederatedToken("app", federated_token(path), clock=FakeClock())
    return asyncio.run(token.proof("https://login.example/t/oauth2/v2.0/token"))


def test_the_token_is_read_each_time(tmp_path: Path) -> None:
    """Its issuer exchanges it; the line break at its end is no part of it."""
    path = tmp_path / "token"
    tokens = [ISSUER.token(START), ISSUER.token(START + timedelta(minutes=5))]
    found = []
    for token in tokens:
        path.write_text(token + "\n")
        found.append(proof_of(path))

    assert [proof["client_assertion"] for proof in found] == tokens
    assert set(found[0]) == {"client_assertion", "client_assertion_type"}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "holds no token (a JWT)"),
        (b"nonsense", "holds no token (a JWT)"),
        (b"a.b.c" * 20_000, "holds no token (a JWT)"),
        (
            ISSUER.token(START - timedelta(hours=2)).encode(),
            "holds a token that ended at 2026-11-17T08:00:00Z",
        ),
        (None, "is not there"),
    ],
)
def test_a_file_without_a_good_token_is_named(tmp_path: Path, content: bytes | None, why: str) -> None:
    """And nothing of what it holds is said."""
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CredentialsRefused) as caught:
        proof_of(path)

    assert caught.value.what == f"the federated token's file {path} {why}"
    assert "federated_token_file" in caught.value.fix
