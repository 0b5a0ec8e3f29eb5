"""What a file says that can be used, but not quite as it reads: one warning for each."""

from __future__ import annotations

from collections.abc import Iterator

from m365watch.config.kinds import NO_EFFECT, Section
from m365watch.config.mistakes import KeyPath, Report
from m365watch.config.resolve_outputs import is_devos_relay
from m365watch.config.schema import ConfigurationFile
from m365watch.config.sections import section_at
from m365watch.config.wires import DevoPlatformOutput, SendingKeys, SyslogOutput

DEVOS_ADDRESSES = tuple(f"collector-{region}.devo.io" for region in ("us", "ca", "eu", "ap"))
"""Where Devo takes lines.

Source: Devo's SDK for Python 7.0.2, "Endpoints".
"""

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
    if any(isinstance(output, DevoPlatformOutput) for output in file.outputs.values()):
        return
    for name, section in (("globals", file.globals), ("global_overrides", file.global_overrides)):
        for key in _COMPRESSION:
            if key in section.model_fields_set:
                report.warn((name, key), "has no effect without an output of type devo_platform")


def _warn_of_devo(output: DevoPlatformOutput, path: KeyPath, report: Report) -> None:
    address = output.config.address
    if address.lower().rstrip(".") not in DEVOS_ADDRESSES:
        report.warn((*path, "address"), f"{address} is none of Devo's own ({', '.join(DEVOS_ADDRESSES)})")
    if not output.config.verify_hostname:
        _warn_of_any_server(path, report)
    _warn_of_short_retention(output.config, path, report)


def _warn_of_syslog(output: SyslogOutput, path: KeyPath, report: Report) -> None:
    config = output.config
    if config.transport == "udp":
        report.warn((*path, "transport"), "udp may lose lines, and neither side can tell; use tcp or tls")
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
