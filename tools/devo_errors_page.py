"""The reference page of the errors under Devo's names: class, code, our code, cause and cure."""

from __future__ import annotations

from m365watch.health.devo_error_codes import (
    CONNECTION_CLOSED,
    LIMITS_FORMAT,
    LIMITS_TYPE,
    ROWS,
    DevoClass,
    DevoRow,
)
from tools.errors_page import table

HEAD = f"""\
# Errors as Devo names them

Made from the code by `./dev docs`. In the lines of `run` and in `devo.collectors.out`, a warning or an error
begins so: `SetupError [CODE:0100] reason: `. What happened follows, then what happens next. The column
*our code* is the name under which [errors.md](errors.md) has it, and `--log-format json` keeps it as `code`.

Rows with ● begin with Devo's own words for a lost connection or a lost store of state,
`{CONNECTION_CLOSED}` The query of [monitoring.md](../monitoring.md) counts them.

InitVariablesError 0, which concerns a collector's internal configuration, does not occur: there is none.
"""

TITLES: dict[DevoClass, str] = {
    DevoClass.InitVariablesError: "before anything else: the configuration",
    DevoClass.SetupError: "credentials, permissions, subscriptions, outputs",
    DevoClass.PrePullError: "the state: the ledger, and what of the past can be listed",
    DevoClass.PullError: "collecting and delivering",
    DevoClass.ApiError: "Microsoft's interface",
}


def render() -> str:
    """The page: a section for each of Devo's classes."""
    return HEAD + "".join(render_class(*titled) for titled in TITLES.items())


def render_class(devo_class: DevoClass, title: str) -> str:
    """One section: the class with its range, and its rows in the order of their codes."""
    rows = [row for row in (*ROWS, LIMITS_TYPE, LIMITS_FORMAT) if row.devo_class is devo_class]
    cells = [cells_of(row) for row in sorted(rows, key=lambda row: row.number)]
    span = f"{devo_class.value.start}-{devo_class.value.stop - 1}"
    head = f"\n## {devo_class.name} ({span}): {title}\n\n"
    return head + table(["code", "", "our code", "cause", "cure"], cells)


def cells_of(row: DevoRow) -> list[str]:
    """One line of the table."""
    mark = "●" if row.fixed == CONNECTION_CLOSED else ""
    return [f"{row.number:04}", mark, f"`{row.code}`", row.cause, row.cure]
