"""The two files of Devo's collector server, put together into the document that one file would hold.

Source: configuration of Devo's collector SDK 1.8.0. The job's file holds `inputs` and `global_overrides`, or
the inputs alone; the collector's file holds `job_id`, `job_name`, `debug`, `state_store` and `loggers`,
which is a list of outputs without names, or an object with names.
"""

from __future__ import annotations

from pathlib import Path

from m365watch.config.document import Pairs
from m365watch.config.validation_report import Origin, Report
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
