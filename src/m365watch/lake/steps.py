"""A lake that is not in step with the ledger: what a start says of it, and whoever looks before one."""

from __future__ import annotations

from m365watch.lake.integrity_errors import Cause


def behind(last_batch: int, found: int) -> Cause:
    """The lake ends with batch `found`, before the last one that the ledger knows to be there."""
    return Cause(
        f"the ledger has delivered batch {last_batch} here, but the lake ends with batch {found}",
        "put back the lake that belongs to this state directory,"
        " or rename the output in the configuration and name another directory,"
        " to fill a new lake from now on",
    )


def ahead(last_batch: int, found: int) -> Cause:
    """The lake ends with batch `found`, which the ledger knows nothing of."""
    return Cause(
        f"the lake ends with batch {found}, but the ledger knows only of batch {last_batch}",
        "put back the state directory that belongs to this lake,"
        " or name another directory for the lake;"
        " `m365watch ledger restore` with the present ledger's own file goes on with it",
    )
