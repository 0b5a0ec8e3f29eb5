"""A checked file turned into what a run is told to do: defaults filled in, paths absolute."""

from __future__ import annotations

import os
from pathlib import Path

from m365watch.config.agreement import COLLECTING
from m365watch.config.clouds import CLOUDS, is_microsofts
from m365watch.config.mistakes import Report
from m365watch.config.schema import (
    CloudSection,
    ConfigurationFile,
    FilesOutput,
    InputSection,
    LakeConfig,
    LakeOutput,
    OutputSection,
    Services,
    ServiceSection,
)
from m365watch.config.settings import (
    Cloud,
    ConsoleSettings,
    FilesSettings,
    LakeSettings,
    OutputSettings,
    Secret,
    ServiceSettings,
    Settings,
    TenantSettings,
)
from m365watch.model import Service, TenantId

MICROSOFTS_REQUESTS_PER_MINUTE = 2_000
"""The budget that every tenant has at least.

Source: Management Activity API reference, "API throttling".
"""

_MEGABYTE_BYTES = 1_000_000


def resolve(file: ConfigurationFile, *, path: Path, report: Report) -> Settings:
    """The settings that the file stands for; `path` is where it is, absolute."""
    outputs = file.outputs or {"lake": LakeOutput(type="lake", config=LakeConfig())}
    folder = path.parent
    return Settings(
        path=path,
        collector_name=file.globals.name,
        state_directory=_absolute(folder, file.globals.persistence.config.directory_name),
        debug=file.globals.debug,
        tenants=tuple(
            tenant for name, section in file.inputs.items() for tenant in _resolve_input(name, section)
        ),
        outputs=tuple(_resolve_output(name, outputs[name], folder) for name in outputs),
        warnings=tuple(report.warnings),
    )


def requests_per_minute(section: InputSection, cloud: Cloud) -> int | None:
    """The tightest of an input's limits, as whole requests a minute; None for no limit at all.

    A limit of less than one request a minute counts as one.
    """
    if section.requests_per_second is None and not section.requests_limits:
        return MICROSOFTS_REQUESTS_PER_MINUTE if is_microsofts(cloud) else None
    rates = [
        60 * limit.number_of_requests / limit.period
        for limit in section.requests_limits
        if limit.number_of_requests >= 0
    ]
    if section.requests_per_second is not None:
        rates.append(60 * section.requests_per_second)
    return max(1, int(min(rates))) if rates else None


def _resolve_input(name: str, section: InputSection) -> list[TenantSettings]:
    cloud = _resolve_cloud(section.cloud)
    return [
        TenantSettings(
            input_name=name,
            input_id=section.id or name,
            tenant_id=TenantId(tenant_id),
            client_id=section.credentials.client_id,
            client_secret=Secret(section.credentials.client_secret.get_secret_value()),
            cloud=cloud,
            publisher_id=section.publisher_identifier or tenant_id,
            services=_resolve_services(section.services),
            requests_per_minute=requests_per_minute(section, cloud),
            lookback_s=float(section.lookback_secs),
        )
        for tenant_id in section.credentials.tenant_id
    ]


def _resolve_cloud(cloud: str | CloudSection) -> Cloud:
    if isinstance(cloud, str):
        return CLOUDS[cloud]
    return Cloud(
        name="custom",
        login_url=cloud.login_url,
        management_url=cloud.management_url,
        audience=cloud.audience or cloud.management_url,
    )


def _resolve_services(services: Services | None) -> tuple[ServiceSettings, ...]:
    if services is None or not services.model_fields_set:
        return tuple(_resolve_service(service, ServiceSection()) for service in COLLECTING)
    sections = [(service, getattr(services, service)) for service in COLLECTING]
    return tuple(
        _resolve_service(service, section)
        for service, section in sections
        if section is not None and section.enabled
    )


def _resolve_service(service: Service, section: ServiceSection) -> ServiceSettings:
    return ServiceSettings(
        service=service,
        start_at=section.start_time_in_utc,
        override_tag=section.override_tag,
        request_period_s=float(section.request_period_in_seconds),
        bloom_filter_size=section.override_bloom_filter_size,
        bloom_filter_buffer_size=section.override_bloom_filter_buffer_size,
    )


def _resolve_output(name: str, output: OutputSection, folder: Path) -> OutputSettings:
    if isinstance(output, LakeOutput):
        return LakeSettings(name, _absolute(folder, output.config.directory))
    if isinstance(output, FilesOutput):
        return FilesSettings(
            name=name,
            directory=_absolute(folder, output.config.directory),
            compression=output.config.compression,
            rotate_bytes=output.config.rotate_megabytes * _MEGABYTE_BYTES,
            rotate_s=float(output.config.rotate_secs),
        )
    return ConsoleSettings(name)


def _absolute(folder: Path, directory: Path) -> Path:
    return Path(os.path.normpath(folder / directory))
