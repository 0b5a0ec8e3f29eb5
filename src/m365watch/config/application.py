"""The application of an input whose tenants nobody may have filled in yet, and that input with one more."""

from __future__ import annotations

from collections.abc import Mapping

from m365watch.config.document import Unreadable, parse_document
from m365watch.config.editing import add_tenant
from m365watch.config.load import parse_settings
from m365watch.config.replacing import FileText
from m365watch.config.settings import Settings, TenantSettings
from m365watch.errors import SettingsRefused

_NOBODY = "00000000-0000-0000-0000-000000000000"
"""The tenant that the text is read with, so that one without a tenant can be read."""


def read_application(
    file: FileText, input_name: str | None, *, environment: Mapping[str, str], for_reading: bool = False
) -> TenantSettings:
    """The input as if it had one tenant: its name, application, credentials and cloud.

    `input_name` None means the only input; with `for_reading` no secret has to be there.

    Raises: SettingsRefused: the input is not there, or the file has mistakes besides its tenants.
    """
    settings = _settings_of(
        file,
        with_tenant(file, input_name, _NOBODY),
        environment=environment,
        for_reading=for_reading,
    )
    for tenant in settings.tenants:
        if tenant.tenant_id == _NOBODY:
            return tenant
    raise SettingsRefused(["the input is switched off; switch it on first"], where=str(file.path))


def with_tenant(file: FileText, input_name: str | None, tenant_id: str) -> str:
    """The file's text with the tenant added; as it is where it has it already.

    Raises: SettingsRefused: the text cannot be read, or is written in a way that is left to a person.
    """
    try:
        return add_tenant(file.text, input_name, tenant_id, suffix=file.suffix)
    except Unreadable as error:
        fix = error.fix or "correct the file and start again"
        raise SettingsRefused([str(error)], where=str(file.path), fix=fix) from None


def check_text(file: FileText, text: str, *, environment: Mapping[str, str]) -> Settings:
    """The settings that `text` stands for in the place of `file`; no secret has to be there.

    Raises: SettingsRefused: with every mistake of it.
    """
    return _settings_of(file, text, environment=environment, for_reading=True)


def _settings_of(file: FileText, text: str, *, environment: Mapping[str, str], for_reading: bool) -> Settings:
    try:
        document = parse_document(text, suffix=file.suffix)
    except Unreadable as error:
        raise SettingsRefused([str(error)], where=str(file.path)) from None
    return parse_settings(document, path=file.path, environment=environment, for_reading=for_reading)
