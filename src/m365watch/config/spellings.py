"""Other names for the same keys, brought to one before the schema looks; mistakes keep the written one."""

from __future__ import annotations

from m365watch.config.models.outputs import output_sections
from m365watch.config.sections import Document, section_at
from m365watch.config.validation_report import KeyPath, Report
from m365watch.config.wanted import keys_beside

_OF_OUTPUTS = {
    "chain_loc": "chain",
    "cert_loc": "cert",
    "key_loc": "key",
    "url": "address",
    "location": "address",
    "sender_concurrent_connections": "concurrent_connections",
    "sender_stats_period_in_sec": "period_sender_stats_in_seconds",
    "devo_sender_threshold_for_using_gzip_in_transport_layer": "threshold_for_using_gzip_in_transport_layer",
    "devo_sender_compression_level": "compression_level",
    "devo_sender_compression_buffer_in_bytes": "compression_buffer_in_bytes",
    "protocol": "transport",
}
"""Spellings of an output's options.

Source: configuration of Devo's collector SDK 1.8.0, which renames the keys of its collector server
and copies those of `globals` into each output.
"""

_OF_PERSISTENCE = {"dir": "directory_name"}


def settle_spellings(document: Document, report: Report) -> None:
    """Give every key its one name, in place; the same key under two names is a mistake."""
    for name in section_at(document, "outputs"):
        output = section_at(document, "outputs", name)
        _settle_type(output)
        known = keys_beside(("outputs", name, f"|{_class_of(output)}", "config", ""))
        spellings = {key: meant for key, meant in _OF_OUTPUTS.items() if meant in known}
        _settle(section_at(output, "config"), ("outputs", name, "config"), spellings, report)
    persistence = section_at(document, "globals", "persistence", "config")
    _settle(persistence, ("globals", "persistence", "config"), _OF_PERSISTENCE, report)


def _settle_type(output: Document) -> None:
    kind = output.get("type")
    if isinstance(kind, str) and (meant := kind.strip().lower().replace("-", "_")) in output_sections():
        output["type"] = meant


def _class_of(output: Document) -> str:
    kind = output.get("type")
    section = output_sections().get(kind) if isinstance(kind, str) else None
    return section.__name__ if section else ""


def _settle(section: Document, path: KeyPath, spellings: dict[str, str], report: Report) -> None:
    for key, meant in spellings.items():
        value = section.pop(key, None)
        if value is None:
            continue
        if section.get(meant) is not None:
            report.refuse((*path, key), f"is given beside {meant}; keep one of the two")
        else:
            section[meant] = value
            report.move((*path, key), (*path, meant))
