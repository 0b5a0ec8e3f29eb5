"""Output `lake`: Delta tables that `m365watch query` and any other engine reads."""

# Annotations stay objects here (`config.models.base.Section` says why).

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import Field

from m365watch.common.errors import LedgerUnusable, OutputUnusable
from m365watch.common.file_access import require_writable
from m365watch.config.models.base import DEFAULTS, OBJECT, FolderPath, Section
from m365watch.config.models.outputs import OutputSection
from m365watch.config.models.retention import Retention
from m365watch.ledger.queries import ledger_for_reading, output_account
from m365watch.registry.checks import Check, Checked, Verdict, bad, failed_output, good
from m365watch.registry.output_specs import (
    LAKE,
    BuildContext,
    CheckContext,
    OutputSpec,
    PersonalData,
)
from m365watch.registry.outputs import Output


class LakeConfig(Section):
    """Options of an output of type `lake`."""

    directory: FolderPath = Field(default=Path("lake"), title="a path")
    """Where the Delta tables are, relative to the configuration file's folder."""

    retention: Retention = Field(default=DEFAULTS, validate_default=True, title=OBJECT)
    """How long records stay; left out, for ever."""


class LakeSection(OutputSection):
    """Delta tables that `m365watch query` and any other engine can read."""

    type: Literal["lake"] = Field(title="lake")
    """The kind of output."""

    config: LakeConfig = Field(default=DEFAULTS, validate_default=True, title=OBJECT)
    """The options of the output."""

    @property
    def place(self) -> str:
        """The folder, and what is in it."""
        return f"the lake in {self.folder}"

    @property
    def folder(self) -> Path:
        """That of the tables."""
        return self.config.directory

    @property
    def personal_data(self) -> Sequence[PersonalData]:
        """One lake is erased from at a time."""
        advice = f"not searched: erase there as well, with --output {self.name}"
        return (PersonalData(str(self.folder), advice),)


def _build(settings: LakeSection, context: BuildContext) -> Output:
    from m365watch.outputs.lake.lake_output import LakeOutput

    return LakeOutput(
        settings.name,
        settings.folder,
        writer_id=context.collector_name,
        clock=context.clock,
        retention=settings.config.retention,
    )


async def _check(settings: LakeSection, context: CheckContext) -> Sequence[Checked]:
    """The lake may belong to a collector that runs: it is looked at, and never opened."""
    return await asyncio.to_thread(_check_tables, settings, context)


def _check_tables(settings: LakeSection, context: CheckContext) -> list[Checked]:
    """The lake's own step, and one for each other table of it that is not as it should be."""
    try:
        from m365watch.lake.integrity_errors import torn_fix
        from m365watch.lake.maintenance.integrity_check import try_table
        from m365watch.lake.schema import AUDIT_TABLE, TABLES
    except ImportError as error:
        fix = "run: pip install deltalake pyarrow"
        what = f"the Python package {error.name} is missing"
        return [bad(Check.OUTPUT, what, fix=fix, subject=settings.name)]
    require_writable(settings.folder)
    steps = []
    for shape in TABLES:
        try:
            is_filled = shape is AUDIT_TABLE and _has_delivered(settings, context)
            found = try_table(settings.folder, shape, where=settings.name, is_acknowledged=is_filled)
            if shape is AUDIT_TABLE:
                if context.ledger is not None:
                    require_in_step(context.ledger, settings, collector=context.collector)
                seen = f"{settings.folder} can be written; {found}"
                steps.append(good(Check.OUTPUT, seen, subject=settings.name))
        except OutputUnusable as error:
            step = failed_output(settings.name, error)
            # Nobody is kept from working by what a power cut has torn off.
            is_torn = error.fix == torn_fix(shape.name)
            steps.append(replace(step, verdict=Verdict.NOTE) if is_torn else step)
    return steps


def require_in_step(ledger: Path, settings: LakeSection, *, collector: str) -> None:
    """Nothing, where a start of the collector of that name would go on with this lake.

    Raises: OutputUnusable: lake and ledger are not each other's.
    """
    from m365watch.lake.maintenance.integrity_check import require_in_step
    from m365watch.outputs.lake.lake_output import app_id_of

    account = partial(_account, ledger, settings.name)
    app_id = app_id_of(settings.name, collector)
    require_in_step(settings.folder, app_id, account, where=settings.name)


def _has_delivered(settings: LakeSection, context: CheckContext) -> bool:
    account = None if context.ledger is None else _account(context.ledger, settings.name)
    return account is not None and account[0] > 0


def _account(ledger: Path, output: str) -> tuple[int, int] | None:
    """The output's last batch and the last number given; None where they cannot be read, told elsewhere."""
    try:
        with ledger_for_reading(ledger) as connection:
            return output_account(connection, output)
    except (LedgerUnusable, OSError):
        return None


SPEC = OutputSpec(
    type=LAKE,
    summary="Delta tables that `m365watch query` and any other engine reads",
    section=LakeSection,
    build=_build,
    check=_check,
    template="""\
type: lake
config:
  directory: lake                     # below the configuration's folder
  retention:
    days: 365                         # left out, records stay for ever
""",
)
