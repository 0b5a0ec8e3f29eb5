"""The options by which a command is told its configuration."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from m365watch.cli.options import (
    CONFIG_FOLDER,
    choose_pair,
    configuration_files,
    named_config,
    read_settings,
    require_config,
    state_of,
)

__all__ = [
    "CONFIG_FOLDER",
    "CollectorOption",
    "ConfigOption",
    "JobOption",
    "JsonOption",
    "NoSaveStateOption",
    "ProdModeOption",
    "ValidateOption",
    "arguments_for",
    "choose_pair",
    "configuration_files",
    "named_config",
    "named_files",
    "read_settings",
    "require_config",
    "state_of",
]

# `readable=False`: whether it may be read is said where it is read, with the cure.
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="The configuration, JSON or YAML; by default the file in M365WATCH_CONFIG, or ./m365watch.yaml.",
        readable=False,
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
JobOption = Annotated[
    Path | None,
    typer.Option(
        "--job-config-loc",
        "--job_config_loc",
        metavar="FILE",
        help="In place of --config: the job's file of Devo's collector server.",
        readable=False,
        show_default=False,
    ),
]
CollectorOption = Annotated[
    Path | None,
    typer.Option(
        "--collector-config-loc",
        "--collector_config_loc",
        metavar="FILE",
        help="Its collector's file; of the two, the one left out is looked for under /etc/devo.",
        readable=False,
        show_default=False,
    ),
]

ValidateOption = Annotated[
    bool, typer.Option("--validate", help="Check settings, tokens and outputs, and collect nothing.")
]
NoSaveStateOption = Annotated[
    bool,
    typer.Option(
        "--no-save-state",
        "--no_save_state",
        help="Keep the state in a temporary folder that goes at the end.",
    ),
]
ProdModeOption = Annotated[
    bool,
    typer.Option("--prod-mode", "--prod_mode", help="No effect; Devo's containers start their collector so."),
]


def arguments_for(config: Path | None, *, job: Path | None, collector: Path | None) -> str:
    """The configuration as another command takes it, to be pasted into a shell; empty if none is named."""
    named = named_files(config, job=job, collector=collector)
    return " ".join(f"{flag} {shlex.quote(str(path))}" for flag, path in named.items())


def named_files(config: Path | None, *, job: Path | None, collector: Path | None) -> dict[str, Path]:
    """The configuration's files that are named, by the options that name them."""
    named = {"--config": config, "--job-config-loc": job, "--collector-config-loc": collector}
    return {flag: path for flag, path in named.items() if path is not None}
