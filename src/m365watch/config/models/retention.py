"""How long records stay in a lake."""

# Annotations stay objects here (`base.Section` says why).

from typing import Annotated

from pydantic import AfterValidator, Field

from m365watch.config.models import values
from m365watch.config.models.base import Section, Whole

_DAYS = "a whole number of days, 1 to 36,500"
_MEGABYTES = "a whole number of megabytes, 1 to 1,000,000,000"
_MEGABYTE_BYTES = 1_000_000


class TableRetention(Section):
    """How long the records of one of Devo's tables stay; `devo.collectors.out` are the notices."""

    days: Whole | None = Field(default=None, ge=1, le=36_500, title=_DAYS)
    """Records of this table go when their day (UTC) is more than so many days ago; longer than those of
    all tables, or shorter. Left out, the days of all tables hold."""

    megabytes: Whole | None = Field(default=None, ge=1, le=1_000_000_000, title=_MEGABYTES)
    """What the table's records may take on disk; its oldest days go until it fits. A file with several tables
    counts for each by its number of records."""

    @property
    def size_bytes(self) -> int | None:
        """`megabytes` in bytes."""
        return None if self.megabytes is None else self.megabytes * _MEGABYTE_BYTES


TableRetentions = Annotated[
    dict[Annotated[str, AfterValidator(values.parse_table_name)], TableRetention], Field(max_length=1_000)
]


class Retention(TableRetention):
    """How long records stay in the lake. The ledger still knows those that went, so that none comes again."""

    days: Whole | None = Field(default=None, ge=1, le=36_500, title=_DAYS)
    """Records go when their day (UTC) is more than so many days ago; left out, they stay."""

    megabytes: Whole | None = Field(default=None, ge=1, le=1_000_000_000, title=_MEGABYTES)
    """What all records together may take on disk; the oldest days go until they fit, but for today's.
    Files that were replaced are not counted; they stay for two hours more."""

    tables: TableRetentions = Field(default={}, title="an object, one key for each table")
    """Other bounds for single tables."""

    @property
    def is_set(self) -> bool:
        """Whether anything ever goes."""
        return bool(self.days or self.megabytes or self.tables)
