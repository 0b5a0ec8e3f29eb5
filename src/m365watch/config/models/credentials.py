"""The key `credentials`: who reads, of whom, and the keys of every kind that is registered."""

# Annotations stay objects here (`base.Section` says why).

import os
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Optional, TypeVar

from pydantic import Field, SecretStr

from m365watch.common.errors import CredentialsRefused, Defect
from m365watch.config.document import Document
from m365watch.config.models.base import (
    MACHINE_IDENTITY,
    MOSTLY_NEEDED,
    Guid,
    Mark,
    Section,
    TenantGuids,
    remade,
)
from m365watch.config.models.kinds import section_of
from m365watch.config.secrets import FileGuard
from m365watch.registry.credential_specs import (
    CREDENTIALS,
    CredentialEnd,
    CredentialSpec,
    Source,
    by_upkeep,
)

NO_KEY = Mark()
"""What a run has to know of a credential, and what is no key of the file."""
OF_APPLICATION = Mark()
"""A key that stands once for an application, and not in `second`."""


@dataclass(frozen=True, slots=True)
class CredentialFile:
    """A file that a credential names, as it is before a run."""

    path: Path
    content: bytes
    status: os.stat_result
    guard: FileGuard


class CredentialSettings(Section):
    """One credential of an application: the keys of its kind as they are in the file, and as a run has them.

    One key is required, and stands for the kind below `credentials`.
    """

    type: ClassVar[str]
    """That of its spec."""

    name: Annotated[str, NO_KEY] = ""
    """The key below `credentials` that it stands under, as messages name it."""

    @classmethod
    def file_keys(cls, *, of_application: bool = True) -> list[str]:
        """Its keys in the file; those that stand once for an application only if wanted."""
        left_out = [NO_KEY] if of_application else [NO_KEY, OF_APPLICATION]
        fields = cls.model_fields.items()
        return [key for key, field in fields if not any(mark in field.metadata for mark in left_out)]

    @classmethod
    def is_own_identity(cls) -> bool:
        """Whether it is the machine's own, which needs no application."""
        return any(MACHINE_IDENTITY in field.metadata for field in cls.model_fields.values())

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Mapping[str, Any]:  # noqa: ARG003 - of those that need any
        """What the environment says of it, which is no key of the file.

        Raises: ValueError: the end of a mistake's line.
        """
        return {}

    @classmethod
    def judge_file(cls, key: str, file: CredentialFile) -> str | None:  # noqa: ARG003 - of those that have several
        """A warning about the file that `key` names; a secret is in it unless the kind says otherwise.

        Raises: ValueError: it will not do; the end of a sentence that starts with the file's name.
        """
        return file.guard.check(file.path, file.status)

    @classmethod
    def disagreements(
        cls,
        section: Document,  # noqa: ARG003 - of those that have any
        credentials: Document,  # noqa: ARG003
        files: Mapping[str, bytes],  # noqa: ARG003
    ) -> Iterator[tuple[str, str]]:
        """Keys that do not go together as they are written in `section`, each with what is wrong.

        `section` is `credentials` or its `second`; `files` has what was read, by the keys that name it.
        """
        return iter(())

    @property
    def reads_files(self) -> bool:
        """Whether it names files, which are nothing for the event loop."""
        return any(isinstance(value, Path) for value in vars(self).values())

    @property
    def asks_graph(self) -> bool:
        """Whether Graph alone can know when it ends."""
        return False

    def secret_now(self) -> SecretStr:
        """The secret as it is now, where Graph is asked for its end."""
        raise NotImplementedError

    def end(self) -> CredentialEnd:
        """Its end as far as its keys and files tell it; here, others renew it."""
        return CredentialEnd(self.type, Source.RENEWED, key=self.name)

    def fault(self) -> CredentialsRefused | None:
        """Why it cannot work, as far as can be seen without asking anybody; reads its files."""
        return None


class Credentials(Section):
    """The application that reads the audit records, and what it proves itself with.

    One of {keys} is needed. Of several, those are tried first that need looking after least: {tried},
    and then those of `second` in the same order.
    """

    # `with_kinds` puts the keys of the registered kinds beside these.

    client_id: Annotated[Guid | None, MOSTLY_NEEDED] = Field(
        default=None, title="the application (client) ID, a GUID"
    )
    """The id of the app registration in Entra. Needed with everything but `managed_identity`; beside that it
    names a multi-tenant application that trusts the identity."""

    tenant_id: TenantGuids = Field(title="the tenant's GUID, or a list of GUIDs")
    """The directory (tenant) ID; a list collects several tenants with one multi-tenant application."""


class ResponseCredentials(Section):
    """The application that responds, and what it proves itself with; the kinds are those of an input's."""

    client_id: Annotated[Guid | None, MOSTLY_NEEDED] = Field(
        default=None, title="the application (client) ID, a GUID"
    )
    """The id of an app registration of its own, in or consented to by the tenant of the alert."""


class SecondCredential(Section):
    """Another credential of the same application, so that the first can be renewed without a gap.

    It is tried when Entra refuses the first, or that cannot be used. What worked last is tried first from
    then on.
    """


class RotationKeys(Section):
    """What else belongs to the proof."""

    second: SecondCredential | None = Field(default=None, title="an object with another credential")
    """Another credential of the same application, for renewing the first without a gap."""


T = TypeVar("T", bound=Section)


def with_kinds(section: type[T]) -> type[T]:
    """`section` with the keys of every kind that is registered, and `second`."""
    return _with_kinds(section, CREDENTIALS.specs)


@lru_cache(maxsize=8)
def _with_kinds(section: type[T], specs: Sequence[CredentialSpec[Any]]) -> type[T]:
    kinds = [section_of(spec, CredentialSettings) for spec in specs]
    second = remade(SecondCredential, *kinds, **_fields(kinds, of_application=False))
    rotation = {"second": (second | None, copy(RotationKeys.model_fields["second"]))}
    made = remade(section, *kinds, RotationKeys, **_fields(kinds, of_application=True) | rotation)
    made.__doc__ = str(section.__doc__).format(keys=_listed(specs), tried=_listed(by_upkeep()))
    return made


def _fields(kinds: Sequence[type[CredentialSettings]], *, of_application: bool) -> dict[str, Any]:
    """The keys of all kinds, each of which may be left out. Raises: Defect: a key is somebody else's."""
    fields: dict[str, Any] = {}
    others = Credentials.model_fields | RotationKeys.model_fields
    for kind in kinds:
        for key in kind.file_keys(of_application=of_application):
            if key in others or key in fields:
                raise Defect(f"{kind.__name__}: {key} has a meaning already", fix="call the key otherwise")
            field, annotation = copy(kind.model_fields[key]), kind.model_fields[key].annotation
            field.default = None if field.is_required() else field.default
            fields[key] = (Optional[annotation], field)  # noqa: UP045 - made at run time
    return fields


def _listed(specs: Sequence[CredentialSpec[Any]]) -> str:
    return ", ".join(f"`{spec.key}`" for spec in specs)


def list_credentials(section: Section, environment: Mapping[str, str]) -> tuple[CredentialSettings, ...]:
    """Every credential of the section, in the order in which they are tried.

    What needs looking after least comes first, and `second` after all of the first.
    """
    parts: list[tuple[str, Any]] = [("", section), ("second.", getattr(section, "second", None))]
    return tuple(
        _settings(spec, part, section, environment, before=before)
        for before, part in parts
        if part is not None
        for spec in by_upkeep()
        if getattr(part, spec.key) not in (None, False)
    )


def _settings(
    spec: CredentialSpec[Any], part: Section, whole: Section, environment: Mapping[str, str], *, before: str
) -> CredentialSettings:
    kind = section_of(spec, CredentialSettings)
    given = {key: getattr(part if hasattr(part, key) else whole, key) for key in kind.file_keys()}
    key = next(name for name in reversed(spec.names) if given[name] is not None)
    return kind.model_construct(name=f"{before}{key}", **given, **kind.from_environment(environment))
