"""A configuration file, or a document built in memory, turned into `Settings`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from m365watch.common.errors import SettingsRefused
from m365watch.config.config_file import Places, one_place
from m365watch.config.credential_checks import check_credentials
from m365watch.config.credential_validation import find_certificates
from m365watch.config.cross_field_checks import check_agreement
from m365watch.config.defaults import IMAGE_VARIABLE
from m365watch.config.devo_compatibility import refuse_redis, set_aside_illegal
from m365watch.config.document import HOW_TO_BEGIN, Pairs, Unreadable, parse_document, read_text
from m365watch.config.models.detections import check_detections
from m365watch.config.models.listeners import check_board
from m365watch.config.models.resolve_network import check_networks
from m365watch.config.models.resolve_notifications import check_notifications
from m365watch.config.models.settings import Settings
from m365watch.config.models.webhook import check_webhook
from m365watch.config.normalization import set_aside, tidy_document
from m365watch.config.resolve import resolve
from m365watch.config.secrets import guard_for
from m365watch.config.secrets_secrets import allows_readable_secrets, fill_in_secrets, warn_of_inline_secrets
from m365watch.config.server_files import join_documents
from m365watch.config.spellings import settle_spellings
from m365watch.config.validation import read_schema
from m365watch.config.validation_report import Report, show_value
from m365watch.registry.credential_specs import other_keys


def load_settings(
    path: Path, *, environment: Mapping[str, str], for_reading: bool = False, for_board: bool = False
) -> Settings:
    """The settings in the file, JSON or YAML; `${NAME}` in it is taken from `environment`.

    With `for_reading`, for commands that send nothing, secrets stay as they are written: neither the
    environment nor a file has to have them. With `for_board` those of the section `board` are read.

    Raises:
        SettingsRefused: the file cannot be used; every mistake in it is named.
    """
    path = path.absolute()
    document = _read_document(path)
    wanted = _Wanted(for_reading=for_reading, for_board=for_board)
    return _settle(document, places=one_place(path), environment=environment, report=Report(), wanted=wanted)


def load_server_settings(
    *,
    job: Path,
    collector: Path,
    environment: Mapping[str, str],
    for_reading: bool = False,
    for_board: bool = False,
) -> Settings:
    """The settings in the two files of Devo's collector server; the switches are those of one file.

    Relative paths start at the folder of the file that they are in.

    Raises:
        SettingsRefused: one of the files cannot be used; every mistake is named with its file.
    """
    report = Report()
    documents: list[Pairs] = []
    for path in (job, collector):
        document = _read_document(path)
        if not isinstance(document, Pairs):
            raise SettingsRefused(
                [f"holds {show_value(document, secret=True)}; give an object"], where=str(path)
            )
        documents.append(document)
    joined = join_documents(*documents, job_path=job, collector_path=collector, report=report)
    places = Places(path=collector.absolute(), inputs_path=job.absolute())
    wanted = _Wanted(for_reading=for_reading, for_board=for_board)
    return _settle(joined, places=places, environment=environment, report=report, wanted=wanted)


def parse_settings(
    document: object, *, path: Path, environment: Mapping[str, str], for_reading: bool = False
) -> Settings:
    """The settings in a document of plain values, as if it stood in the file `path`.

    Relative paths in it are relative to that file's folder; the file itself need not exist.

    Raises:
        SettingsRefused: the document cannot be used; every mistake in it is named.
    """
    wanted = _Wanted(for_reading=for_reading)
    return _settle(document, places=one_place(path), environment=environment, report=Report(), wanted=wanted)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Which secrets a command needs."""

    for_reading: bool = False
    for_board: bool = False

    @property
    def reads(self) -> bool:
        return not self.for_reading

    @property
    def reads_board(self) -> bool:
        return self.for_board or not self.for_reading


def _settle(
    document: object, *, places: Places, environment: Mapping[str, str], report: Report, wanted: _Wanted
) -> Settings:
    reads, reads_board = wanted.reads, wanted.reads_board
    tidied = tidy_document(
        document, environment=environment, report=report, fills_secrets=reads, fills_board=reads_board
    )
    if not isinstance(tidied, dict):
        held = "plain text" if isinstance(tidied, str) else show_value(tidied, secret=True)
        report.refuse((), f"holds {held}; give an object with inputs, in JSON or YAML")
        raise SettingsRefused(report.lines(), where=str(places))
    set_aside(tidied, report)
    set_aside_illegal(tidied, report)
    settle_spellings(tidied, report)
    refuse_redis(tidied, report)
    warn_of_inline_secrets(tidied, places=places, report=report)
    guard = guard_for(environment, allows_readable=allows_readable_secrets(tidied, report))
    fill_in_secrets(tidied, places=places, guard=guard, report=report, reads=reads, reads_board=reads_board)
    check_credentials(tidied, places=places, guard=guard, environment=environment, report=report, reads=reads)
    find_certificates(tidied, folder=places.folder, report=report)
    check_webhook(tidied, places=places, guard=guard, report=report, reads=reads)
    check_board(tidied, places=places, guard=guard, report=report, reads=reads_board)
    check_networks(tidied, places=places, report=report, reads=reads)
    check_detections(tidied, places=places, report=report)
    check_notifications(tidied, report=report)
    check_agreement(tidied, folder=places.folder, report=report)
    file = read_schema(tidied, report)
    if file is None or report.mistakes:
        raise SettingsRefused(report.lines(), where=str(places))
    image = environment.get(IMAGE_VARIABLE) or None
    of_credentials = environment if reads else {}
    return resolve(file, path=places.path, image=image, environment=of_credentials, report=report)


def example_settings() -> str:
    """A short commented configuration, in YAML, that runs once its two ids are filled in."""
    return _EXAMPLE.replace("<others>", other_keys())


def _read_document(path: Path) -> object:
    """The document in the file at `path`; raises SettingsRefused where there is none."""
    try:
        document = parse_document(read_text(path), suffix=path.suffix.lower())
    except Unreadable as error:
        fix = error.fix or "correct the file and start again"
        raise SettingsRefused([str(error)], where=str(path), fix=fix) from None
    if document is None:
        raise SettingsRefused(["is empty"], where=str(path), fix=HOW_TO_BEGIN)
    return document


_EXAMPLE = """\
inputs:
  office365:
    credentials:
      tenant_id: "<tenant>"              # the tenant's GUID, or a list of GUIDs
      client_id: "<application>"         # of the app registration in Entra
      client_secret: ${M365_SECRET}      # or <others>
    services:                            # leave out for all five
      azure_active_directory:
      exchange: {start_time_in_utc: "2026-11-17T00:00:00Z"}
outputs:                                 # leave out for a lake in ./lake
  lake: {type: lake}
"""
