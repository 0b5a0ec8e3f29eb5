"""Whether the keys of `credentials` make a proof, and the files that they name, looked at before a run.

Like `agreement`, this takes the document before the schema has seen it, so that it speaks up in the same
run as every other mistake; what is of the wrong kind it leaves to the schema.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m365watch.common.file_access import read_with_status
from m365watch.config.config_file import Places
from m365watch.config.document import Document, section_at, texts_at
from m365watch.config.models.credentials import (
    OF_APPLICATION,
    CredentialFile,
    Credentials,
    CredentialSettings,
    with_kinds,
)
from m365watch.config.models.kinds import section_of
from m365watch.config.secrets import READ_ANEW, RESPONSE, FileGuard
from m365watch.config.sensitive_keys import holds_path
from m365watch.config.validation_report import SECRET_KEYS, KeyPath, Report
from m365watch.registry.credential_specs import CREDENTIALS, CredentialSpec

FILE_BYTES_MAX = 1_048_576


def check_credentials(
    document: Document,
    *,
    places: Places,
    guard: FileGuard,
    environment: Mapping[str, str],
    report: Report,
    reads: bool,
) -> None:
    """Refuse credentials that prove nothing, and make the paths of their files absolute, in place.

    Files and environment are looked at only where `reads` is true.
    """
    for path in (*(("inputs", name, "credentials") for name in section_at(document, "inputs")), RESPONSE):
        if credentials := section_at(document, *path):
            folder = places.folder_of(path)
            _Checking(credentials, path, folder, guard, environment, report, reads=reads).check()


@dataclass(frozen=True, slots=True)
class _Checking:
    """The credentials of one application, and what they are judged with."""

    credentials: Document
    path: KeyPath
    folder: Path
    guard: FileGuard
    environment: Mapping[str, str]
    report: Report
    reads: bool

    def check(self) -> None:
        parts = [(self.credentials, self.path)]
        if isinstance(second := self.credentials.get("second"), dict):
            parts.append((second, (*self.path, "second")))
        used = {spec: None for section, _ in parts for spec in CREDENTIALS.specs if _is_given(spec, section)}
        self._check_application([section_of(spec, CredentialSettings) for spec in used])
        for section, at in parts:
            given = [spec for spec in used if _is_given(spec, section)]
            if not given and not _is_misspelt(section):
                names = ", ".join(name for spec in CREDENTIALS.specs for name in spec.names)
                self.report.refuse(at, f"lacks a credential; give one of {names}")
            for spec in CREDENTIALS.specs:
                self._refuse_useless(spec, section, at, given=spec in given, used=spec in used)
            for spec in given:
                self._check_kind(spec, section, at)

    def _check_application(self, used: list[type[CredentialSettings]]) -> None:
        """An application is needed but for the machine's own identity, which reads its own tenant alone."""
        if self.credentials.get("client_id") is not None or not used:
            return
        if not all(kind.is_own_identity() for kind in used):
            why = "is missing; give the application (client) ID, a GUID"
            self.report.refuse((*self.path, "client_id"), why)
        elif len(set(texts_at(self.credentials, "tenant_id"))) > 1:
            self.report.refuse(
                (*self.path, "tenant_id"),
                "names several tenants, and a managed identity reads its own alone; "
                "give the client_id of a multi-tenant application that trusts the identity",
            )

    def _refuse_useless(
        self, spec: CredentialSpec[Any], section: Document, at: KeyPath, *, given: bool, used: bool
    ) -> None:
        """Refuse keys that say more of a credential which is not there."""
        kind = section_of(spec, CredentialSettings)
        for key in kind.file_keys():
            is_needed = used if OF_APPLICATION in kind.model_fields[key].metadata else given
            if not is_needed and key not in spec.names and _has(section, key):
                why = f"belongs to a {spec.label}; give {spec.key}, or remove the key"
                self.report.refuse((*at, key), why)

    def _check_kind(self, spec: CredentialSpec[Any], section: Document, at: KeyPath) -> None:
        """Make the paths absolute, and name each file that will not do, and what does not go together."""
        kind = section_of(spec, CredentialSettings)
        files: dict[str, bytes] = {}
        for key in _own_files(kind):
            file, place_at = section.get(key), (*at, key)
            is_path = isinstance(file, str) and file.strip() and not file.startswith("~")
            if not is_path or place_at in self.report.mistakes:
                continue
            place = Path(os.path.normpath(self.folder / str(file)))
            section[key] = str(place)
            if self.reads:
                try:
                    files[key] = self._read(kind, key, place, place_at)
                except ValueError as error:
                    self.report.refuse_value(place_at, file, str(error))
        for key, why in kind.disagreements(section, self.credentials, files):
            self.report.refuse((*(at if key in kind.model_fields else self.path), key), why)
        if self.reads:
            try:
                kind.from_environment(self.environment)
            except ValueError as error:
                self.report.refuse((*at, spec.key), str(error))

    def _read(self, kind: type[CredentialSettings], key: str, place: Path, at: KeyPath) -> bytes:
        """The file's content, if it is what `key` wants and nobody else's business.

        Raises: ValueError: the end of a sentence that starts with the file's name.
        """
        try:
            content, status = read_with_status(place, bytes_max=FILE_BYTES_MAX)
        except FileNotFoundError:
            raise ValueError("cannot be read: No such file or directory") from None
        if not content.strip():
            raise ValueError("is empty")
        warning = kind.judge_file(key, CredentialFile(place, content, status, self.guard))
        if warning is not None:
            self.report.warn(at, warning)
        return content


def _own_files(kind: type[CredentialSettings]) -> list[str]:
    """The keys with a path whose file is read when it is used, and not at the start for another key."""
    return [
        key
        for key in kind.file_keys()
        if holds_path(kind.model_fields[key].annotation)
        and key.removesuffix("_file") not in SECRET_KEYS - {READ_ANEW}
    ]


def _is_given(spec: CredentialSpec[Any], section: Document) -> bool:
    return any(_has(section, name) for name in spec.names)


def _has(section: Document, key: str) -> bool:
    """Whether the key has a value; `managed_identity: false` is none."""
    return section.get(key) not in (None, False, "false")


def _is_misspelt(section: Document) -> bool:
    """Whether some key, which the schema will refuse, is nearly the name of a credential."""
    unknown = [key for key in section if key not in with_kinds(Credentials).model_fields]
    names = [name for spec in CREDENTIALS.specs for name in spec.names]
    return any(difflib.get_close_matches(key, names, n=1) for key in unknown)
