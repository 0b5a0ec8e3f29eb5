"""What a file says that can be used, but not quite as it reads: one warning for each."""

from __future__ import annotations

from collections.abc import Iterator

from m365watch.config.document import NOTIFICATIONS, section_at
from m365watch.config.models.base import NO_EFFECT, Section
from m365watch.config.models.globals import compression_oddities
from m365watch.config.models.inputs import InputSection
from m365watch.config.models.schema import ConfigurationFile
from m365watch.config.validation_report import KeyPath, Report

_OF_RECORDS = ("obfuscation_data", "override_tag")
"""Keys of a service that change what arrives."""
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
        for place, text in output.oddities(("outputs", name)):
            report.warn(place, text)
    for name, channel in file.detections.notifications.items():
        for place, text in channel.oddities((*NOTIFICATIONS, name)):
            report.warn(place, text)


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
    is_compressing = any(output.compresses_by_globals for output in file.outputs.values())
    for name, section in (("globals", file.globals), ("global_overrides", file.global_overrides)):
        for key in _COMPRESSION:
            if key in section.model_fields_set and not is_compressing:
                report.warn((name, key), "has no effect without an output of type devo_platform")
        if is_compressing:
            for place, text in compression_oddities(section, (name, "devo_sender_compression_level")):
                report.warn(place, text)


def _warn_of_input(section: InputSection, path: KeyPath, file: ConfigurationFile, report: Report) -> None:
    if section.environment is not None and not any(one.adds_devo_fields for one in file.outputs.values()):
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
        if others and output.sends_events_unasked:
            report.warn(
                ("outputs", name, "config", "collectors_out"),
                "is left out, so that what the collector says of every tenant goes there, those of "
                f"{report.show(('inputs', others[0]))} included; set false, or true if that is meant",
            )
