"""Output `lake`: Delta tables that `m365watch query` and any other engine reads."""

# Annotations stay objects here (`config.models.base.Section` says why).

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from m365watch.common.errors import LedgerUnusable, OutputUnusable
from m365watch.common.file_access import require_writable
from m365watch.config.config_file import absolute
from m365watch.config.models import values
from m365watch.config.models.base import DEFAULTS, OBJECT, FolderPath, Section, Whole
from m365watch.config.models.globals import GlobalOverrides
from m365watch.config.models.outputs import OutputSection
from m365watch.config.models.retention import RetentionSettings, TableRetention
from m365watch.ledger.queries import ledger_for_reading, output_account
from m365watch.registry.checks import Check, Checked, Verdict, bad, failed_output, good
from m365watch.registry.output_specs import (
    LAKE,
    BuildContext,
    CheckContext,
    OutputSettings,
    OutputSpec,
    PersonalData,
)
from m365watch.registry.outputs import Output

_DAYS = "a whole number of days, 1 to 36,500"
_MEGABYTES = "a whole number of megabytes, 1 to 1,000,000,000"


_MEGABYTE_BYTES = 1_000_000


class TableRetentionKeys(Section):
    """How long the records of one of Devo's tables stay; `devo.collectors.out` are the notices."""

    days: Whole | None = Field(default=None, ge=1, le=36_500, title=_DAYS)
    """Records of this table go when their day (UTC) is more than so many days ago; longer than those of
    all tables, or shorter. Left out, the days of all tables hold."""

    megabytes: Whole | None = Field(default=None, ge=1, le=1_000_000_000, title=_MEGABYTES)
    """What the table's records may take on disk; its oldest days go until it fits. A file with several tables
    counts for each by its number of records."""


TableRetentions = Annotated[
    dict[Annotated[str, AfterValidator(values.parse_table_name)], TableRetentionKeys], Field(max_length=1_000)
]


class RetentionKeys(Section):
    """How long records stay in the lake. The ledger still knows those that went, so that none comes again."""

    days: Whole | None = Field(default=None, ge=1, le=36_500, title=_DAYS)
    """Records go when their day (UTC) is more than so many days ago; left out, they stay."""

    megabytes: Whole | None = Field(default=None, ge=1, le=1_000_000_000, title=_MEGABYTES)
    """What all records together may take on disk; the oldest days go until they fit, but for today's.
    Files that were replaced are not counted; they stay for two hours more."""

    tables: TableRetentions = Field(default={}, title="an object, one key for each table")
    """Other bounds for single tables."""


class LakeConfig(Section):
    """Options of an output of type `lake`."""

    directory: FolderPath = Field(default=Path("lake"), title="a path")
    """Where the Delta tables are, relative to the configuration file's folder."""

    retention: RetentionKeys = Field(default=DEFAULTS, validate_default=True, title=OBJECT)
    """How long records stay; left out, for ever."""


@dataclass(frozen=True, slots=True)
class LakeSettings(OutputSettings):
    """Delta tables below `directory`."""

    type: ClassVar[str] = LAKE
    directory: Path
    retention: RetentionSettings = field(default_factory=RetentionSettings)

    @property
    def place(self) -> str:
        """The folder, and what is in it."""
        return f"the lake in {self.directory}"

    @property
    def folder(self) -> Path:
        """That of the tables."""
        return self.directory

    @property
    def personal_data(self) -> Sequence[PersonalData]:
        """One lake is erased from at a time."""
        advice = f"not searched: erase there as well, with --output {self.name}"
        return (PersonalData(str(self.directory), advice),)


class LakeSection(OutputSection):
    """Delta tables that `m365watch query` and any other engine can read."""

    type: Literal["lake"] = Field(title="lake")
    """The kind of output."""

    config: LakeConfig = Field(default=DEFAULTS, validate_default=True, title=OBJECT)
    """The options of the output."""

    def resolve(self, name: str, *, folder: Path, overall: GlobalOverrides) -> LakeSettings:  # noqa: ARG002
        """The settings of the lake."""
        keys = self.config.retention
        retention = RetentionSettings(
            days=keys.days,
            size_bytes=_megabytes(keys.megabytes),
            tables=tuple(
                TableRetention(table, days=own.days, size_bytes=_megabytes(own.megabytes))
                for table, own in sorted(keys.tables.items())
            ),
        )
        return LakeSettings(name, absolute(folder, self.config.directory), retention)


def _megabytes(given: int | None) -> int | None:
    return None if given is None else given * _MEGABYTE_BYTES


def _build(settings: LakeSettings, context: BuildContext) -> Output:
    from m365watch.outputs.lake.lake_output import LakeOutput

    return LakeOutput(
        settings.name,
        settings.directory,
        writer_id=context.collector_name,
        clock=context.clock,
        retention=settings.retention,
    )


async def _check(settings: LakeSettings, context: CheckContext) -> Sequence[Checked]:
    """The lake may belong to a collector that runs: it is looked at, and never opened."""
    return await asyncio.to_thread(_check_tables, settings, context)


def _check_tables(settings: LakeSettings, context: CheckContext) -> list[Checked]:
    """The lake's own step, and one for each other table of it that is not as it should be."""
    try:
        from m365watch.lake.integrity_errors import torn_fix
        from m365watch.lake.maintenance.integrity_check import try_table
        from m365watch.lake.schema import AUDIT_TABLE, TABLES
    except ImportError as error:
        fix = "run: pip install deltalake pyarrow"
        what = f"the Python package {error.name} is missing"
        return [bad(Check.OUTPUT, what, fix=fix, subject=settings.name)]
    require_writable(settings.directory)
    steps = []
    for shape in TABLES:
        try:
            is_filled = shape is AUDIT_TABLE and _has_delivered(settings, context)
            found = try_table(settings.directory, shape, where=settings.name, is_acknowledged=is_filled)
            if shape is AUDIT_TABLE:
                if context.ledger is not None:
                    require_in_step(context.ledger, settings, collector=context.collector)
                seen = f"{settings.directory} can be written; {found}"
                steps.append(good(Check.OUTPUT, seen, subject=settings.name))
        except OutputUnusable as error:
            step = failed_output(settings.name, error)
            # Nobody is kept from working by what a power cut has torn off.
            is_torn = error.fix == torn_fix(shape.name)
            steps.append(replace(step, verdict=Verdict.NOTE) if is_torn else step)
    return steps


def require_in_step(ledger: Path, settings: LakeSettings, *, collector: str) -> None:
    """Nothing, where a start of the collector of that name would go on with this lake.

    Raises: OutputUnusable: lake and ledger are not each other's.
    """
    from m365watch.lake.maintenance.integrity_check import require_in_step
    from m365watch.outputs.lake.lake_output import app_id_of

    account = partial(_account, ledger, settings.name)
    app_id = app_id_of(settings.name, collector)
    require_in_step(settings.directory, app_id, account, where=settings.name)


def _has_delivered(settings: LakeSettings, context: CheckContext) -> bool:
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
