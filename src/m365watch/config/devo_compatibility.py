"""Keys of `globals` that Devo's collector reads past, and stores of its that this collector lacks."""

from __future__ import annotations

import difflib
from pathlib import Path

from m365watch.config.document import Document, Pairs, section_at
from m365watch.config.models.globals import GlobalOverrides, Globals
from m365watch.config.models.outputs import output_sections
from m365watch.config.validation import keys_beside
from m365watch.config.validation_report import KeyPath, Origin, Report
from m365watch.registry.output_specs import OUTPUTS

_JOB_KEYS = {"inputs", "global_overrides"}
_UNKNOWN = "is not a key that this collector knows here, and was ignored"
_GLOBALS = {"job_id": "id", "job_name": "name", "debug": "debug", "state_store": "persistence"}


def join_documents(
    job: Pairs, collector: Pairs, *, job_path: Path, collector_path: Path, report: Report
) -> Pairs:
    """The whole document; `report` learns where each part of it was written."""
    joined = _read_job(job, job_path.name, report)
    globals_ = Pairs()
    outputs: object = None
    for key, value in collector:
        if key in _GLOBALS:
            globals_.append((_GLOBALS[key], value))
            report.origins[("globals", _GLOBALS[key])] = Origin(collector_path.name, (key,))
        elif key in ("detections", "board"):
            joined.append((key, value))
            report.origins[(key,)] = Origin(collector_path.name, (key,))
        elif key == "loggers":
            outputs = _name_outputs(value, collector_path.name, report)
        else:
            path = ("collector", key)
            report.origins[path] = Origin(collector_path.name, (key,))
            report.warn(path, _UNKNOWN)
    joined.append(("globals", globals_))
    if outputs is not None:
        joined.append(("outputs", outputs))
    return joined


def _read_job(job: Pairs, file: str, report: Report) -> Pairs:
    """Its inputs and overrides; without the key `inputs`, the whole file is inputs."""
    if not any(key == "inputs" for key, _ in job):
        report.origins[("inputs",)] = Origin(file, ())
        return Pairs([("inputs", _leave_out_persistence(job, report))])
    kept = Pairs()
    for key, value in job:
        path = (key,) if key in _JOB_KEYS else ("job", key)
        report.origins[path] = Origin(file, (key,))
        if key in _JOB_KEYS:
            kept.append((key, _leave_out_persistence(value, report) if key == "inputs" else value))
        else:
            report.warn(path, _UNKNOWN)
    return kept


def _leave_out_persistence(inputs: object, report: Report) -> object:
    """The inputs without `persistence`, which Devo's collector takes out of them, too."""
    if not isinstance(inputs, Pairs):
        return inputs
    left = Pairs()
    for name, section in inputs:
        pairs = section if isinstance(section, Pairs) else Pairs()
        kept = Pairs((key, value) for key, value in pairs if key != "persistence")
        if len(kept) < len(pairs):
            report.warn(("inputs", name, "persistence"), "is ignored; state_store says where the state is")
        left.append((name, kept if pairs else section))
    return left


def _name_outputs(loggers: object, file: str, report: Report) -> object:
    """The outputs under names: their own, or in a list their type and their number, as Devo names them."""
    if isinstance(loggers, Pairs) or not isinstance(loggers, list):
        report.origins[("outputs",)] = Origin(file, ("loggers",))
        return loggers
    outputs = Pairs()
    counts: dict[str, int] = {}
    for place, logger in enumerate(loggers):
        pairs = logger if isinstance(logger, Pairs) else ()
        kinds = [str(value) for key, value in pairs if key == "type" and str(value) in OUTPUTS.by_name]
        kind = kinds[0] if kinds else "output"
        number = counts[kind] = counts.get(kind, -1) + 1
        name = f"{kind}_{number}"
        outputs.append((name, logger))
        report.origins[("outputs", name)] = Origin(file, ("loggers", place))
    report.origins[("outputs",)] = Origin(file, ("loggers",))
    return outputs


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


DEVOS_ILLEGAL = frozenset(
    {
        "balanced_output",
        "max_consumers_for_multiprocessing",
        "max_consumers_for_multithreading",
        "multiprocessing",
        "sender_activate_final_queue",
        "sender_concurrent_connections",
    }
)
"""Settings that Devo's collector has and does not let a configuration change.

Source: configuration of Devo's collector SDK 1.8.0, "Illegal global setting has been ignored".
"""


def set_aside_illegal(document: Document, report: Report) -> None:
    """Take out of `globals` and `global_overrides` what Devo's collector ignores, with a warning for each.

    What is nearly the name of a known key stays, for the schema to refuse it and name the key that was meant.
    """
    for name, section in (("globals", Globals), ("global_overrides", GlobalOverrides)):
        given = section_at(document, name)
        for key in [key for key in given if key not in section.model_fields]:
            if key in DEVOS_ILLEGAL or not difflib.get_close_matches(key, section.model_fields, n=1):
                del given[key]
                _warn(report, (name, key))


def refuse_redis(document: Document, report: Report) -> None:
    """Answer Devo's store of state for collector servers with one mistake, whatever options it has."""
    given = section_at(document, "globals")
    if section_at(given, "persistence").get("type") != "redis":
        return
    report.refuse_value(
        ("globals", "persistence", "type"),
        "redis",
        "is not supported; give filesystem, which keeps the state on disk "
        "(PostgreSQL will be the store that several workers share, in a later version)",
    )
    del given["persistence"]


def _warn(report: Report, path: KeyPath) -> None:
    report.warn(path, "is an illegal global setting and has been ignored, as Devo's collector does")
