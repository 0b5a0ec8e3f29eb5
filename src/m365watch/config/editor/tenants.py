"""The application of an input whose tenants nobody may have filled in yet, and its tenants changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from m365watch.common.errors import SettingsRefused
from m365watch.config.config_file_replacing import FileText
from m365watch.config.document import Pairs, Unreadable, parse_document
from m365watch.config.editor.tenants_editing import add_tenant, find_input
from m365watch.config.editor.tenants_removing import Removal, remove_tenant
from m365watch.config.loader import parse_settings
from m365watch.config.models.settings import Settings, TenantSettings

_NOBODY = "00000000-0000-0000-0000-000000000000"
"""The tenant that the text is read with, so that one without a tenant can be read."""


def read_application(
    file: FileText, input_name: str | None, *, environment: Mapping[str, str], for_reading: bool = False
) -> TenantSettings:
    """The input as if it had one tenant: its name, application, credentials and cloud.

    `input_name` None means the only input; with `for_reading` no secret has to be there.

    Raises: SettingsRefused: the input is not there, or the file has mistakes besides its tenants.
    """
    with _telling(file):
        name = find_input(file.text, input_name, suffix=file.suffix)
        document = _with_nobody(
            parse_document(file.text, suffix=file.suffix), ("inputs", name, "credentials")
        )
    settings = parse_settings(document, path=file.path, environment=environment, for_reading=for_reading)
    for tenant in settings.tenants:
        if tenant.input_name == name:
            return tenant
    raise SettingsRefused([f"inputs.{name}: is switched off; switch it on first"], where=str(file.path))


def with_tenant(file: FileText, input_name: str | None, tenant_id: str) -> str:
    """The file's text with the tenant added; as it is where it has it already.

    Raises: SettingsRefused: the text cannot be read, or is written in a way that is left to a person.
    """
    with _telling(file):
        return add_tenant(file.text, input_name, tenant_id, suffix=file.suffix)


def without_tenant(file: FileText, input_name: str | None, tenant_id: str) -> Removal:
    """The file's text without the tenant, in the input or, for None, in all of them.

    Raises: SettingsRefused: the text cannot be read, has no such tenant, or is left to a person.
    """
    with _telling(file):
        return remove_tenant(file.text, input_name, tenant_id, suffix=file.suffix)


def check_text(
    file: FileText, text: str, *, environment: Mapping[str, str], for_reading: bool = True
) -> Settings:
    """The settings that `text` stands for in the place of `file`.

    With `for_reading` no secret has to be there.

    Raises: SettingsRefused: with every mistake of it.
    """
    with _telling(file):
        document = parse_document(text, suffix=file.suffix)
    return parse_settings(document, path=file.path, environment=environment, for_reading=for_reading)


@contextmanager
def _telling(file: FileText) -> Iterator[None]:
    """What cannot be read, or is left to a person, is told with the file's name."""
    try:
        yield
    except Unreadable as error:
        fix = error.fix or "correct the file and start again"
        raise SettingsRefused([str(error)], where=str(file.path), fix=fix) from None


def _with_nobody(value: object, path: tuple[str, ...]) -> object:
    """The document with the nil tenant alone in the object at `path`; others as they are."""
    if not isinstance(value, Pairs):
        return value
    if not path:
        return Pairs([*(pair for pair in value if pair[0] != "tenant_id"), ("tenant_id", _NOBODY)])
    return Pairs((key, _with_nobody(child, path[1:]) if key == path[0] else child) for key, child in value)
