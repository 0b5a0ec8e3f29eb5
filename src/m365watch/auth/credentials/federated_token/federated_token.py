"""Another issuer's token as proof (workload identity federation): Kubernetes, a pipeline, another cloud.

Source: api-contract 1.9.
"""

from __future__ import annotations

import asyncio
import binascii
import re
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from m365watch.auth.credentials.federated_token.spec import FederatedTokenSettings
from m365watch.auth.factory import ASSERTION_TYPE
from m365watch.common import base64url
from m365watch.common.clock import Clock
from m365watch.common.errors import CredentialsRefused
from m365watch.common.file_access import read_small_file

TOKEN_BYTES_MAX = 65_536

_JWT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
_FIX = "see that its issuer keeps credentials.federated_token_file fresh, and that the collector may read it"


class FederatedToken:
    """Reads the file for each proof: its issuer exchanges it every hour or so."""

    def __init__(self, client_id: str, settings: FederatedTokenSettings, *, clock: Clock) -> None:
        """Nothing is read yet."""
        self.client_id = client_id
        self.name = settings.name
        self._file = settings.federated_token_file
        self._clock = clock

    async def proof(self, token_url: str) -> Mapping[str, str]:  # noqa: ARG002 - its audience is fixed
        """The fields with the token as it is in the file now.

        Raises: CredentialsRefused: there is no token in it, or one that has ended.
        """
        token = await asyncio.to_thread(self._read)
        return {"client_assertion_type": ASSERTION_TYPE, "client_assertion": token}

    def _read(self) -> str:
        try:
            content, _ = read_small_file(self._file, bytes_max=TOKEN_BYTES_MAX)
        except FileNotFoundError:
            raise self._refused("is not there") from None
        except ValueError as error:
            raise self._refused(str(error)) from None
        token = content.decode("ascii", "replace").strip()
        if len(content) > TOKEN_BYTES_MAX or not _JWT.fullmatch(token):
            raise self._refused("holds no token (a JWT)")
        ends_at = end_of(token)
        if ends_at is not None and ends_at <= self._clock.now():
            raise self._refused(f"holds a token that ended at {ends_at:%Y-%m-%dT%H:%M:%SZ}")
        return token

    def _refused(self, why: str) -> CredentialsRefused:
        return CredentialsRefused(f"the federated token's file {self._file} {why}", fix=_FIX)


def end_of(token: str) -> datetime | None:
    """When the token says that it ends; None where it does not. Nothing is verified."""
    claims = token.split(".")[1]
    try:
        said = msgspec.json.decode(base64url.decoded(claims))
        ends_s = said["exp"] if isinstance(said, dict) else None
        return datetime.fromtimestamp(ends_s, UTC) if isinstance(ends_s, int | float) else None
    except (binascii.Error, ValueError, KeyError, OverflowError, OSError, RecursionError):
        return None
