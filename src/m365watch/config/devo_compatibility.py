"""Keys of `globals` that Devo's collector reads past, and stores of its that this collector lacks."""

from __future__ import annotations

import difflib

from m365watch.config.models.globals import GlobalOverrides, Globals
from m365watch.config.sections import Document, section_at
from m365watch.config.validation_report import KeyPath, Report

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
