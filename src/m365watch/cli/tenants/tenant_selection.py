"""--tenant of commands that read what was kept: tenants by a part of their ids, also such as have left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from m365watch.lake.sql_sandbox.sandbox_client import LakeReader

KeptTenantsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--tenant", "-t", metavar="ID", help="Only tenants whose id has this in it; may be repeated."
    ),
]
TENANTS_MAX = 100_000
_IN_LAKE = "SELECT DISTINCT tenant_id FROM audit UNION SELECT DISTINCT tenant_id FROM alerts"


def tenants_meant(
    parts: Sequence[str], configured: Collection[str], *, kept: Callable[[], Iterable[str]]
) -> frozenset[str]:
    """The tenants, in lower case, with one of `parts` in their ids; none where no part is given.

    `kept` names those of which there is something, and is not asked where all parts are whole ids of
    `configured`. Where no tenant is known at all, nobody knows better than who asks.
    Raises: typer.BadParameter: a part is in no tenant's id, which would look like a tenant without anything.
    """
    wanted = frozenset(part.strip().lower() for part in parts)
    if "" in wanted:
        raise typer.BadParameter("--tenant is empty; leave it out, or give a text")
    known = {one.lower() for one in configured}
    if wanted <= known:
        return wanted
    known |= {one.lower() for one in kept()}
    if not known:
        return wanted
    for part in parts:
        if not any(part.strip().lower() in one for one in known):
            raise typer.BadParameter(f"no tenant has {part!r} in its id", param_hint="--tenant")
    return frozenset(one for one in known if any(part in one for part in wanted))


def configured_tenants(given: Sequence[str] | None, configured: Collection[str]) -> tuple[str, ...]:
    """The tenants of these ids, in lower case. Raises: typer.BadParameter: one is not configured."""
    wanted = tuple(dict.fromkeys(one.strip().lower() for one in given or ()))
    for one in wanted:
        if one not in configured:
            raise typer.BadParameter(f"--tenant: {one} is no tenant of the configuration")
    return wanted


def tenants_of_lake(
    reader: LakeReader, parts: Sequence[str] | None, configured: Collection[str]
) -> tuple[str, ...] | None:
    """The same of the lake; None, which is all of it, where no part is given.

    Raises: typer.BadParameter; what `LakeReader.query` does.
    """
    if not parts:
        return None

    def kept() -> Iterable[str]:
        return (str(row[0]) for row in reader.query(_IN_LAKE, rows_max=TENANTS_MAX).rows)

    return tuple(sorted(tenants_meant(parts, configured, kept=kept)))
