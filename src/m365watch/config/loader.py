"""A configuration file, or a document built in memory, turned into `Settings`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from m365watch.common.errors import SettingsRefused
from m365watch.common.model import Service, TenantId
from m365watch.config.config_file import Places, absolute, folder_of, one_place
from m365watch.config.credential_checks import check_credentials
from m365watch.config.credential_validation import find_certificates
from m365watch.config.cross_field_checks import check_agreement
from m365watch.config.defaults import (
    BY_DEFAULT,
    COLLECTING,
    IMAGE_VARIABLE,
    MEBIBYTE_BYTES,
    MICROSOFTS_REQUESTS_PER_MINUTE,
)
from m365watch.config.devo_compatibility import (
    join_documents,
    refuse_redis,
    set_aside_illegal,
    settle_spellings,
)
from m365watch.config.document import (
    HOW_TO_BEGIN,
    NOTIFICATIONS,
    Pairs,
    Unreadable,
    parse_document,
    read_text,
)
from m365watch.config.models.clouds import CLOUDS, Cloud, is_microsofts
from m365watch.config.models.credentials import list_credentials
from m365watch.config.models.detections import check_detections
from m365watch.config.models.globals import GlobalOverrides
from m365watch.config.models.inputs import (
    CloudSection,
    HealthSection,
    InputSection,
    NamedCloudSection,
    Services,
    ServiceSection,
)
from m365watch.config.models.listeners import check_board
from m365watch.config.models.masks import masks_of
from m365watch.config.models.network import check_networks, overlaid
from m365watch.config.models.outputs import OutputSection, output_sections
from m365watch.config.models.schema import ConfigurationFile
from m365watch.config.models.settings import ServiceSettings, Settings, TenantSettings
from m365watch.config.models.webhook import check_webhook
from m365watch.config.normalization import set_aside, tidy_document
from m365watch.config.secrets import (
    allows_readable_secrets,
    fill_in_secrets,
    guard_for,
    warn_of_inline_secrets,
)
from m365watch.config.validation import read_schema
from m365watch.config.validation_report import Report, show_value
from m365watch.registry.credential_specs import other_keys
from m365watch.registry.output_specs import LAKE


def settings_of(
    file: ConfigurationFile,
    *,
    path: Path,
    image: str | None,
    environment: Mapping[str, str],
    report: Report,
) -> Settings:
    """The settings that the file stands for; `path` is where it is, absolute, `image` COLLECTOR_IMAGE.

    `environment` is what credentials may need of it: empty for commands that send nothing.
    """
    outputs = file.outputs or {LAKE: output_sections()[LAKE].model_validate({"type": LAKE})}
    overall = overridden(file)
    persistence, webhook = file.globals.persistence, file.globals.webhook
    network = file.globals.network
    tenants = tuple(
        replace(tenant, network=overlaid(network, section.network))
        for name, section in file.inputs.items()
        for tenant in _tenants_of(name, section, environment)
    )
    placed = tuple(
        with_override_tags(
            output.for_run(name, folder=folder_of(path), overall=overall), tenants
        ).with_network(network)
        for name, output in outputs.items()
    )
    has_lake = any(output.type == LAKE for output in placed)
    detections = file.detections.for_run(
        folder=folder_of(path), has_lake=has_lake, environment=environment, network=network
    )
    if detections.notifications and not detections.enabled:
        report.warn(NOTIFICATIONS, "the detections are off, so that nobody is told anything; switch them on")
    return Settings(
        path=path,
        collector_name=file.globals.name,
        state_directory=absolute(folder_of(path), persistence.config.directory_name),
        debug=overall.debug,
        tenants=tenants,
        outputs=placed,
        warnings=tuple(report.warnings),
        job_id=file.globals.id,
        queue_bytes_max=overall.queue_max_size_in_mb * MEBIBYTE_BYTES,
        answer_bytes_max=file.globals.answer_megabytes_max * MEBIBYTE_BYTES,
        stats_period_s=float(overall.sender_stats_period_in_sec),
        collector_image=image,
        keeps_state=persistence.type != "memory",
        network=network,
        watches_configuration=file.globals.watch_configuration,
        webhook=webhook if webhook and webhook.enabled else None,
        board=file.board,
        detections=detections,
    )


def with_override_tags(output: OutputSection, tenants: Sequence[TenantSettings]) -> OutputSection:
    """The output, told every `override_tag`: Devo is taken to have the tables that somebody names."""
    services = [service for tenant in tenants for service in tenant.services]
    return output.with_override_tags(
        tuple(dict.fromkeys(service.override_tag for service in services if service.override_tag))
    )


def overridden(file: ConfigurationFile) -> GlobalOverrides:
    """The globals that a job may override, after it did."""
    given = file.global_overrides.model_dump(include=file.global_overrides.model_fields_set)
    return file.globals.model_copy(update=given)


def requests_per_minute(section: InputSection, cloud: Cloud) -> int | None:
    """The tightest of an input's limits, as whole requests a minute; None for no limit at all."""
    if section.requests_per_second is None and not section.requests_limits:
        return MICROSOFTS_REQUESTS_PER_MINUTE if is_microsofts(cloud) else None
    return _tightest(section)


def _tightest(section: InputSection | ServiceSection) -> int | None:
    """The tightest limit that the section sets, as whole requests a minute; less than one counts as one."""
    rates = [
        60 * limit.number_of_requests / limit.period
        for limit in section.requests_limits
        if limit.number_of_requests >= 0
    ]
    if section.requests_per_second is not None:
        rates.append(60 * section.requests_per_second)
    return max(1, int(min(rates))) if rates else None


def _tenants_of(name: str, section: InputSection, environment: Mapping[str, str]) -> list[TenantSettings]:
    cloud = replace(_cloud_of(section.cloud), token_endpoint=section.token_endpoint)
    credentials = list_credentials(section.credentials, environment)
    return [
        TenantSettings(
            input_name=name,
            input_id=section.id or name,
            tenant_id=TenantId(tenant_id),
            client_id=section.credentials.client_id or "",
            credentials=credentials,
            cloud=cloud,
            publisher_id=section.publisher_identifier or tenant_id,
            services=_services_of(section),
            requests_per_minute=requests_per_minute(section, cloud),
            lookback_s=float(section.lookback_secs),
            environment=section.environment,
            outputs=tuple(dict.fromkeys(section.outputs)),
        )
        for tenant_id in section.credentials.tenant_id
    ]


def _cloud_of(cloud: str | NamedCloudSection | CloudSection) -> Cloud:
    if isinstance(cloud, str):
        return CLOUDS[cloud]
    if isinstance(cloud, NamedCloudSection):
        known = CLOUDS[cloud.name]
        return replace(
            known,
            login_url=cloud.login_url or known.login_url,
            audience=cloud.audience or known.audience,
        )
    return Cloud(
        name="custom",
        login_url=cloud.login_url,
        management_url=cloud.management_url,
        audience=cloud.audience or cloud.management_url,
        graph_url=cloud.graph_url or "",
    )


def _services_of(section: InputSection) -> tuple[ServiceSettings, ...]:
    services = section.services
    if services is None or not services.model_fields_set:
        services = Services.model_validate(dict.fromkeys(BY_DEFAULT))
    sections = [(service, getattr(services, service)) for service in COLLECTING]
    return tuple(
        _service_of(service, one, section) for service, one in sections if one is not None and one.enabled
    )


def _service_of(service: Service, section: ServiceSection, around: InputSection) -> ServiceSettings:
    return ServiceSettings(
        service=service,
        start_at=section.start_time_in_utc,
        override_tag=section.override_tag,
        request_period_s=float(section.request_period_in_seconds),
        bloom_filter_size=section.override_bloom_filter_size,
        bloom_filter_buffer_size=section.override_bloom_filter_buffer_size,
        masks=masks_of(around, section),
        requests_per_minute=_tightest(section),
        announcements=section.announcements if isinstance(section, HealthSection) else (),
    )


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
    check_detections(tidied, report)
    check_agreement(tidied, folder=places.folder, report=report)
    file = read_schema(tidied, report)
    if file is None or report.mistakes:
        raise SettingsRefused(report.lines(), where=str(places))
    image = environment.get(IMAGE_VARIABLE) or None
    of_credentials = environment if reads else {}
    return settings_of(file, path=places.path, image=image, environment=of_credentials, report=report)


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
