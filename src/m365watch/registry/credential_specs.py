"""What the collector knows of each kind of credential; `auth/credentials/<kind>/spec.py` says it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeAlias, TypeVar, runtime_checkable

import msgspec
from pydantic import BaseModel

from m365watch.common.clock import Clock
from m365watch.http.client import Session
from m365watch.registry.kinds import Registry

CERTIFICATE = "certificate"
"""The kind that `init` begins with, and can make."""


class Proof(Protocol):
    """A proof of who asks; the token endpoint's address is the audience of a signed one."""

    client_id: str
    name: str
    """The key below `credentials` that it stands under, as messages name it."""

    async def proof(self, token_url: str) -> Mapping[str, str]:
        """The form fields that carry the proof to `token_url`; each value is a secret.

        Raises: CredentialsRefused, RetryLater: the credential itself is not to be had.
        """
        ...


@runtime_checkable
class TokenGiver(Protocol):
    """What gives the token itself, so that Entra's token endpoint is not asked."""

    name: str
    """The key below `credentials` that it stands under, as messages name it."""

    async def token(self, audience: str) -> Mapping[str, object]:
        """The answer with `access_token` in it, in the token endpoint's form.

        Raises: CredentialsRefused, RetryLater.
        """
        ...


Credential: TypeAlias = Proof | TokenGiver


@dataclass(frozen=True, slots=True)
class CredentialContext:
    """What a credential is built with."""

    client_id: str
    """The application's; empty where the machine's own identity reads."""
    session: Session
    clock: Clock
    cloud: str = ""
    """The name of the cloud."""


class Source(StrEnum):
    """Where an end is known from."""

    CONFIGURATION = "configuration"
    """A key beside the credential."""
    CERTIFICATE = "certificate"
    """The certificate itself."""
    GRAPH = "graph"
    """What Entra keeps of the application, as Graph tells it."""
    RENEWED = "renewed"
    """Nobody has to know: others renew it before it ends."""
    UNKNOWN = "unknown"


class CredentialEnd(msgspec.Struct, frozen=True):
    """What is known of one credential's end."""

    kind: str
    """The type of its spec."""
    source: Source = Source.UNKNOWN
    ends: tuple[datetime, ...] = ()
    """When it may end, the soonest first: one instant where that is certain, none where nobody knows."""
    note: str = ""
    """Why nothing is known, or why it is not certain."""
    key: str = ""
    """The key below `credentials` that it stands under."""
    mark: str = ""
    """Tells another credential in its place from the same one; no part of it."""

    def ends_at(self, now: datetime) -> datetime | None:
        """Its end: where several are possible, the soonest that has not passed, for it works until then."""
        return next((one for one in self.ends if one > now), self.ends[-1] if self.ends else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One key of a credential, as `init` asks for it and writes it."""

    key: str
    about: str
    """The comment beside it in a new configuration."""
    question: str = ""
    """Asked on a terminal; empty: never."""
    usual: str | None = None
    """What an empty answer stands for; None: an answer is needed."""
    variable: str = ""
    """A variable of the environment with the usual answer."""
    check: Callable[[str], str] | None = None
    """The answer as it is written; raises ValueError with the end of a sentence that starts with the answer.

    None: any text, or of a key that ends in `_file` a file that is there.
    """
    is_typed: bool = False
    """Whether the secret itself is typed, which is not shown and goes into the file."""


T = TypeVar("T", bound=BaseModel)
Model: TypeAlias = type[BaseModel]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CredentialSpec(Generic[T]):
    """One kind of credential."""

    type: str
    """Its name: of its folder, for `init`, in what is remembered and told of its end."""
    aliases: tuple[str, ...] = ()
    """Other names for the same."""
    label: str
    """What people call it."""
    upkeep: int
    """How much it needs looking after, from 0; of several credentials the least is tried first."""
    section: Model
    """Its keys below `credentials`, a `config.models.credentials.CredentialSettings`."""
    build: Callable[[T, CredentialContext], Credential]
    """Makes the credential; its libraries are imported only now."""
    fixes: Mapping[int, str] = field(default_factory=dict)
    """What to do about the codes by which Entra refuses it, with `credentials.KEY` for its key.

    These codes are about the credential alone, so that another one may do.
    """
    prompts: Sequence[Prompt]
    """What `init` asks for and may write."""
    renewed_by: str = ""
    """Who renews it, where nobody else has to."""
    renew: str = ""
    """What to do before it ends; `{place}` stands for its key in the configuration."""
    known_by: str = ""
    """The key, or what else of it, that says when it ends."""
    unknown_fix: str = ""
    """What makes its end known where it is not; `{place}` stands for its section."""
    unreadable_fix: str = ""
    """What to do where its end is not to be read from it: then it is broken."""

    @property
    def key(self) -> str:
        """The key that stands for it below `credentials`: the one that its section requires."""
        return next(name for name, one in self.section.model_fields.items() if one.is_required())

    @property
    def names(self) -> tuple[str, ...]:
        """The key, and that of a file which holds its value, if there is one."""
        return tuple(one for one in (self.key, f"{self.key}_file") if one in self.section.model_fields)


CREDENTIALS: Registry[CredentialSpec[Any]] = Registry(
    "m365watch.auth.credentials", group="m365watch.credentials", default="client_secret"
)
"""Every kind of credential."""


def by_upkeep() -> list[CredentialSpec[Any]]:
    """The kinds in the order in which an application's credentials are tried."""
    return sorted(CREDENTIALS.specs, key=lambda spec: spec.upkeep)


def other_keys() -> str:
    """What may stand below `credentials` in place of a client secret."""
    return ", ".join(spec.key for spec in CREDENTIALS.specs[1:])


def spec_named(name: str) -> CredentialSpec[Any] | None:
    """The kind of the credential under the key `name`, also of `second`; None where that says nothing."""
    key = name.rpartition(".")[2]
    return next((spec for spec in CREDENTIALS.specs if key in spec.names), None)
