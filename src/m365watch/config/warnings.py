"""What a file says that can be used, but not quite as it reads: one warning for each."""

from __future__ import annotations

from collections.abc import Iterator

from m365watch.config.models.base import NO_EFFECT, Output, Section
from m365watch.config.models.inputs import InputSection
from m365watch.config.models.schema import ConfigurationFile
from m365watch.config.sections import section_at
from m365watch.config.validation_report import KeyPath, Report
from m365watch.outputs.network.network_config import format_of, is_devos_relay
from m365watch.outputs.network.wires import DevoPlatformOutput, SendingKeys, SyslogOutput, TagKeys

DEVOS_ADDRESSES = tuple(f"collector-{region}.devo.io" for region in ("us", "ca", "eu", "ap"))
"""Where Devo takes lines.

Source: Devo's SDK for Python 7.0.2, "Endpoints".
"""

QUICK_LEVEL_MAX = 6
"""Up to here lines are compressed at one and the same level, the quickest."""

_OF_RECORDS = ("obfuscation_data", "override_tag")
"""Keys of a service that change what arrives."""
_OF_CONNECTIONS = {
    "framing",
    *(name for name, field in SendingKeys.model_fields.items() if NO_EFFECT not in field.metadata),
} - {"line_bytes_max", "period_sender_stats_in_seconds", "sending_timeout"}
"""Keys of `syslog` that mean something for connections alone."""
_COMPRESSION = (
    "devo_sender_threshold_for_using_gzip_in_transport_layer",
    "devo_sender_compression_level",
    "devo_sender_compression_buffer_in_bytes",
)


def warn_of_oddities(document: object, file: ConfigurationFile, report: Report) -> None:
    """Warn of what has no effect, of what is used otherwise than written, and of what is unsafe."""
    for path in list_without_effect(file):
        # Devo's collector wants the service `uri_retry` in every file; the reference says what becomes of it.
        if path[2:4] != ("services", "uri_retry"):
            report.warn(path, "has no effect in this version")
    _warn_of_globals(document, file, report)
    for name, input_section in file.inputs.items():
        _warn_of_input(input_section, ("inputs", name), file, report)
    _warn_of_outputs_for_all(file, report)
    for name, output in file.outputs.items():
        if isinstance(output, DevoPlatformOutput):
            _warn_of_devo(output, ("outputs", name, "config"), report)
        elif isinstance(output, SyslogOutput):
            _warn_of_syslog(output, ("outputs", name, "config"), report)


def list_without_effect(section: Section, path: KeyPath = ()) -> Iterator[KeyPath]:
    """The paths of the keys that are set, known from Devo's collector, and change nothing."""
    for name in sorted(section.model_fields_set):
        if NO_EFFECT in type(section).model_fields[name].metadata:
            yield (*path, name)
            continue
        value = getattr(section, name)
        inner = value.items() if isinstance(value, dict) else [(None, value)]
        for key, child in inner:
            if isinstance(child, Section):
                yield from list_without_effect(child, (*path, name, *([key] if key else [])))


def _warn_of_globals(document: object, file: ConfigurationFile, report: Report) -> None:
    given = section_at(document, "globals").get("name")
    if given is not None and str(given) != file.globals.name:
        report.warn(("globals", "name"), f"is used as {file.globals.name}")
    if file.globals.persistence.type == "memory":
        report.warn(
            ("globals", "persistence", "type"),
            "keeps no state; after a restart all that Microsoft still serves is read and delivered again",
        )
    is_compressing = any(isinstance(output, DevoPlatformOutput) for output in file.outputs.values())
    for name, section in (("globals", file.globals), ("global_overrides", file.global_overrides)):
        for key in _COMPRESSION:
            if key in section.model_fields_set and not is_compressing:
                report.warn((name, key), "has no effect without an output of type devo_platform")
        if is_compressing:
            _warn_of_level(section, (name, "devo_sender_compression_level"), report)


def _warn_of_input(section: InputSection, path: KeyPath, file: ConfigurationFile, report: Report) -> None:
    if section.environment is not None and not any(map(_adds_devo_fields, file.outputs.values())):
        report.warn((*path, "environment"), "has no effect without an output that adds Devo's fields")
    retry = section.services.uri_retry if section.services else None
    for key in _OF_RECORDS:
        if retry is not None and key in retry.model_fields_set:
            report.warn(
                (*path, "services", "uri_retry", key),
                "has no effect; a record that is fetched late is treated as the service it came with says",
            )


def _warn_of_outputs_for_all(file: ConfigurationFile, report: Report) -> None:
    """Warn where some tenants have outputs of their own, and those of another input go to these as well."""
    sections = {name: section for name, section in file.inputs.items() if section.enabled}
    naming = next((name for name, section in sections.items() if section.outputs), None)
    if naming is None:
        return
    for name, section in sections.items():
        if not section.outputs:
            report.warn(
                ("inputs", name, "outputs"),
                "is left out, so that the records of its tenants go to every output, those of "
                f"{report.show(('inputs', naming))} included; name its outputs as well",
            )
    for name, output in file.outputs.items():
        others = [one for one, section in sections.items() if section.outputs and name not in section.outputs]
        if others and _sends_notices_unasked(output):
            report.warn(
                ("outputs", name, "config", "collectors_out"),
                "is left out, so that what the collector says of every tenant goes there, those of "
                f"{report.show(('inputs', others[0]))} included; set false, or true if that is meant",
            )


def _adds_devo_fields(output: Output) -> bool:
    config = getattr(output, "config", None)
    if not isinstance(config, TagKeys):
        return False
    return _is_read_by_devo(output) if config.add_devo_fields is None else config.add_devo_fields


def _sends_notices_unasked(output: Output) -> bool:
    config = getattr(output, "config", None)
    return isinstance(config, TagKeys) and config.collectors_out is None and _is_read_by_devo(output)


def _is_read_by_devo(output: Output) -> bool:
    return not isinstance(output, SyslogOutput) or format_of(output) == "devo"


def _warn_of_level(section: Section, path: KeyPath, report: Report) -> None:
    """Warn of a level of compression that asks for more than it gets."""
    key = str(path[-1])
    level = getattr(section, key)
    if key in section.model_fields_set and level is not None and 1 < level <= QUICK_LEVEL_MAX:
        slow = QUICK_LEVEL_MAX + 1
        report.warn(path, f"{level} is treated as 1; from {slow} on lines are compressed harder, and slower")


def _warn_of_devo(output: DevoPlatformOutput, path: KeyPath, report: Report) -> None:
    address = output.config.address
    if address.lower().rstrip(".") not in DEVOS_ADDRESSES:
        report.warn((*path, "address"), f"{address} is none of Devo's own ({', '.join(DEVOS_ADDRESSES)})")
    if not output.config.verify_hostname:
        _warn_of_any_server(path, report)
    _warn_of_level(output.config, (*path, "compression_level"), report)
    _warn_of_short_retention(output.config, path, report)


def _warn_of_syslog(output: SyslogOutput, path: KeyPath, report: Report) -> None:
    config = output.config
    if config.transport == "udp":
        report.warn((*path, "transport"), "udp may lose lines, and neither side can tell; use tcp or tls")
        for key in sorted(_OF_CONNECTIONS & config.model_fields_set):
            report.warn((*path, key), "has no effect over udp")
    if config.transport == "tls" and not config.verify_hostname:
        _warn_of_any_server(path, report)
    if output.type == "syslog" and config.format is None and is_devos_relay(config):
        report.warn(
            (*path, "format"),
            "is left out; this looks like Devo's in-house relay, so lines are written as devo; "
            "for another receiver give rfc5424",
        )
    if config.transport != "udp":
        _warn_of_short_retention(config, path, report)


def _warn_of_short_retention(config: SendingKeys, path: KeyPath, report: Report) -> None:
    if config.retention_secs <= config.sending_timeout:
        report.warn(
            (*path, "retention_secs"),
            f"is not above sending_timeout ({config.sending_timeout:g} s): what a receiver leaves unread "
            "just before its connection breaks is lost",
        )


def _warn_of_any_server(path: KeyPath, report: Report) -> None:
    report.warn(
        (*path, "verify_hostname"),
        "UNSAFE: any server with a certificate of the same authority can take the records; remove the key as "
        "soon as the server's certificate names its address",
    )
