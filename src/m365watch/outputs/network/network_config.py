"""A checked output turned into what it is told to do."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

from m365watch.config.models.globals import GlobalOverrides
from m365watch.config.models.lake import ConsoleOutput, FilesOutput, LakeOutput, OutputSection, RetentionKeys
from m365watch.config.models.retention import RetentionSettings, TableRetention
from m365watch.config.models.settings import (
    CompressionSettings,
    ConsoleSettings,
    DevoHttpSettings,
    DevoSettings,
    FilesSettings,
    LakeSettings,
    OutputSettings,
    Secret,
    SyslogSettings,
    TagSettings,
    TlsSettings,
    WireSettings,
    secret_of,
)
from m365watch.outputs.network.wires import (
    CompressionKeys,
    DevoHttpConfig,
    DevoHttpOutput,
    DevoPlatformConfig,
    DevoPlatformOutput,
    SendingKeys,
    SyslogConfig,
    SyslogOutput,
    TagKeys,
)

RELAY_PORT = 13_000
"""Where Devo's in-house relay listens, in the examples of its collectors."""

MEBIBYTE_BYTES = 1_048_576
"""A megabyte where it measures memory, a queue or a request."""

_MEGABYTE_BYTES = 1_000_000
_NOT_IN_A_LINES_HOST = re.compile(r"[^!-~]")


def resolve_output(
    name: str, output: OutputSection, *, folder: Path, overall: GlobalOverrides
) -> OutputSettings:
    """The settings of one output; `overall` holds what it leaves to `globals`."""
    match output:
        case LakeOutput():
            return LakeSettings(
                name, absolute(folder, output.config.directory), _resolve_retention(output.config.retention)
            )
        case FilesOutput():
            return _resolve_files(name, output, folder)
        case DevoPlatformOutput():
            return _resolve_devo(name, output.config, overall)
        case DevoHttpOutput():
            return _resolve_devo_http(name, output.config)
        case SyslogOutput():
            return _resolve_syslog(name, output, overall)
        case ConsoleOutput():
            return ConsoleSettings(name)


def absolute(folder: Path, directory: Path) -> Path:
    """The path, relative ones starting at `folder`."""
    return Path(os.path.normpath(folder / directory))


def is_devos_relay(config: SyslogConfig) -> bool:
    """Whether the keys are those with which Devo's collectors name their in-house relay."""
    devos_keys = {"concurrent_connections", "period_sender_stats_in_seconds"}
    return config.port == RELAY_PORT or bool(devos_keys & config.model_fields_set)


def format_of(output: SyslogOutput) -> str:
    """How the output writes its lines: as set, or as its name promises."""
    if output.config.format is not None:
        return output.config.format
    return "rfc5424" if output.type == "syslog" and not is_devos_relay(output.config) else "devo"


def _resolve_retention(keys: RetentionKeys) -> RetentionSettings:
    return RetentionSettings(
        days=keys.days,
        size_bytes=_megabytes(keys.megabytes),
        tables=tuple(
            TableRetention(table, days=own.days, size_bytes=_megabytes(own.megabytes))
            for table, own in sorted(keys.tables.items())
        ),
    )


def _megabytes(given: int | None) -> int | None:
    return None if given is None else given * _MEGABYTE_BYTES


def _resolve_files(name: str, output: FilesOutput, folder: Path) -> FilesSettings:
    return FilesSettings(
        name=name,
        directory=absolute(folder, output.config.directory),
        compression=output.config.compression,
        rotate_bytes=output.config.rotate_megabytes * _MEGABYTE_BYTES,
        rotate_s=float(output.config.rotate_secs),
    )


def _resolve_devo(name: str, config: DevoPlatformConfig, overall: GlobalOverrides) -> DevoSettings:
    return DevoSettings(
        name=name,
        address=config.address,
        port=config.port,
        tls=_resolve_tls(config),
        host=_host(config),
        wire=_resolve_wire(config, overall),
        compression=_resolve_compression(config, overall),
        tags=_resolve_tags(config),
        adds_devo_fields=_is_on(given=config.add_devo_fields, default=True),
        sends_notices=_is_on(given=config.collectors_out, default=True),
    )


def _resolve_devo_http(name: str, config: DevoHttpConfig) -> DevoHttpSettings:
    return DevoHttpSettings(
        name=name,
        endpoint=config.endpoint,
        domain=config.domain,
        token=Secret(config.token.get_secret_value()),
        host=_host(config),
        compresses=config.compression == "gzip",
        request_bytes_max=config.request_megabytes_max * MEBIBYTE_BYTES,
        timeout_s=float(config.timeout_secs),
        tags=_resolve_tags(config),
        adds_devo_fields=_is_on(given=config.add_devo_fields, default=True),
        sends_notices=_is_on(given=config.collectors_out, default=True),
    )


def _resolve_syslog(name: str, output: SyslogOutput, overall: GlobalOverrides) -> SyslogSettings:
    config = output.config
    is_devos = format_of(output) == "devo"
    return SyslogSettings(
        name=name,
        address=config.address,
        port=config.port,
        transport=config.transport,
        format=format_of(output),
        framing=config.framing,
        tls=_resolve_tls(config) if config.transport == "tls" else None,
        host=_host(config),
        app_name=config.app_name,
        facility=config.facility,
        severity=config.severity,
        wire=_resolve_wire(config, overall),
        tags=_resolve_tags(config),
        adds_devo_fields=_is_on(given=config.add_devo_fields, default=is_devos),
        sends_notices=_is_on(given=config.collectors_out, default=is_devos),
    )


def _resolve_tls(config: DevoPlatformConfig | SyslogConfig) -> TlsSettings:
    return TlsSettings(
        chain=config.chain,
        cert=config.cert,
        key=config.key,
        key_password=secret_of(config.key_password),
        verify_hostname=config.verify_hostname,
    )


def _resolve_wire(config: SendingKeys, overall: GlobalOverrides) -> WireSettings:
    return WireSettings(
        connections=config.concurrent_connections,
        connecting_retries=config.connecting_retries,
        connecting_wait_first_s=float(config.connecting_initial_wait_in_seconds),
        connecting_wait_max_s=float(config.connecting_max_wait_in_seconds),
        sending_timeout_s=float(config.sending_timeout),
        sending_retries=config.sending_retries,
        sending_wait_first_s=float(config.sending_initial_wait_in_seconds),
        sending_wait_max_s=float(config.sending_max_wait_in_seconds),
        retention_bytes=config.retention_megabytes * MEBIBYTE_BYTES,
        retention_s=float(config.retention_secs),
        line_bytes_max=config.line_bytes_max,
        idle_s=float(config.idle_secs),
        stats_period_s=float(config.period_sender_stats_in_seconds or overall.sender_stats_period_in_sec),
    )


def _resolve_compression(config: CompressionKeys, overall: GlobalOverrides) -> CompressionSettings:
    threshold = config.threshold_for_using_gzip_in_transport_layer
    if threshold is None:
        threshold = overall.devo_sender_threshold_for_using_gzip_in_transport_layer
    return CompressionSettings(
        threshold=threshold,
        level=config.compression_level or overall.devo_sender_compression_level,
        buffer_bytes=config.compression_buffer_in_bytes or overall.devo_sender_compression_buffer_in_bytes,
    )


def _resolve_tags(config: TagKeys) -> TagSettings:
    return TagSettings(fallback_tag=config.fallback_tag, known_tables=config.known_tables)


def own_host() -> str:
    """The machine's own name, as a line names it."""
    return _NOT_IN_A_LINES_HOST.sub("_", socket.gethostname())[:255] or "-"


def _host(config: TagKeys) -> str:
    return config.hostname or own_host()


def _is_on(*, given: bool | None, default: bool) -> bool:
    return default if given is None else given
