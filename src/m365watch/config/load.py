"""A configuration file, or a document built in memory, turned into `Settings`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from m365watch.config.agreement import check_agreement
from m365watch.config.document import TEXT_BYTES_MAX, Unreadable, parse_document
from m365watch.config.mistakes import Report, show_value
from m365watch.config.reading import read_schema
from m365watch.config.resolve import resolve
from m365watch.config.secrets import fill_in_secrets, warn_of_inline_secrets
from m365watch.config.settings import Settings
from m365watch.config.tidy import set_aside_inputs, tidy_document
from m365watch.errors import SettingsRefused

_NAME_ANOTHER = "name another file with --config"
_HOW_TO_BEGIN = "begin with the example of docs/reference/settings.md"


def load_settings(path: Path, *, environment: Mapping[str, str]) -> Settings:
    """The settings in the file, JSON or YAML; `${NAME}` in it is taken from `environment`.

    Raises:
        SettingsRefused: the file cannot be used; every mistake in it is named.
    """
    path = path.absolute()
    try:
        document = _read_document(path)
    except Unreadable as error:
        fix = error.fix or "correct the file and start again"
        raise SettingsRefused([str(error)], where=str(path), fix=fix) from None
    return parse_settings(document, path=path, environment=environment)


def parse_settings(document: object, *, path: Path, environment: Mapping[str, str]) -> Settings:
    """The settings in a document of plain values, as if it stood in the file `path`.

    Relative paths in it are relative to that file's folder; the file itself need not exist.

    Raises:
        SettingsRefused: the document cannot be used; every mistake in it is named.
    """
    report = Report()
    path = path.absolute()
    tidied = tidy_document(document, environment=environment, report=report)
    if not isinstance(tidied, dict):
        held = "plain text" if isinstance(tidied, str) else show_value(tidied, secret=True)
        report.refuse((), f"holds {held}; give an object with inputs, in JSON or YAML")
        raise SettingsRefused(report.lines(), where=str(path))
    set_aside_inputs(tidied, report)
    warn_of_inline_secrets(tidied, path=path, report=report)
    fill_in_secrets(tidied, folder=path.parent, report=report)
    check_agreement(tidied, folder=path.parent, report=report)
    file = read_schema(tidied, report)
    if file is None or report.mistakes:
        raise SettingsRefused(report.lines(), where=str(path))
    return resolve(file, path=path, report=report)


def example_settings() -> str:
    """A short commented configuration, in YAML, that runs once its two ids are filled in."""
    return _EXAMPLE


def _read_document(path: Path) -> object:
    document = parse_document(_read_text(path), suffix=path.suffix.lower())
    if document is None:
        raise Unreadable("is empty", fix=_HOW_TO_BEGIN)
    return document


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(TEXT_BYTES_MAX + 1)
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Unreadable("is not UTF-8 text; save it as UTF-8") from None
    except (FileNotFoundError, NotADirectoryError):
        raise Unreadable("there is no such file", fix=f"{_NAME_ANOTHER}, or {_HOW_TO_BEGIN}") from None
    except IsADirectoryError:
        raise Unreadable("is a directory", fix="name the file in it with --config") from None
    except PermissionError:
        raise Unreadable("this user may not read it", fix=f"run as its owner, or: chmod u+r {path}") from None
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror or 'unknown'}", fix=_NAME_ANOTHER) from None
    except ValueError:
        raise Unreadable("cannot be read: not a path", fix=_NAME_ANOTHER) from None
    if len(content) > TEXT_BYTES_MAX:
        raise Unreadable(f"is larger than {TEXT_BYTES_MAX:,} bytes, which no configuration needs")
    return text


_EXAMPLE = """\
inputs:
  office365:
    credentials:
      tenant_id: "<tenant>"              # the tenant's GUID, or a list of GUIDs
      client_id: "<application>"         # of the app registration in Entra
      client_secret: ${M365_SECRET}      # or client_secret_file: a path
    services:                            # leave out for all five
      azure_active_directory:
      exchange: {start_time_in_utc: "2026-11-17T00:00:00Z"}
outputs:                                 # leave out for a lake in ./lake
  lake: {type: lake}
"""
