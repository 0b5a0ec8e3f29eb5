"""What makes two records the same."""

from __future__ import annotations

import pytest
from promises import guarantee

from m365watch.common.model import Header, TenantId
from m365watch.records.identity import IDENTITY_BYTES, IdentityMaker, minute_prefix

TENANT = TenantId("11111111-1111-1111-1111-111111111111")
OTHER_TENANT = TenantId("22222222-2222-2222-2222-222222222222")


def header(**changes: str | int | None) -> Header:
    fields: dict[str, str | int | None] = {
        "Id": "a",
        "CreationTime": "2026-11-17T09:03:11",
        "Operation": "FileAccessed",
        "RecordType": 6,
        "Workload": "SharePoint",
    }
    return Header(**(fields | changes))  # type: ignore[arg-type]


def identity(one: Header, *, tenant: TenantId = TENANT, seed: int = 1) -> bytes | None:
    return IdentityMaker(seed).identities(tenant, [one])[0]


def test_the_same_five_fields_make_the_same_identity() -> None:
    """Nothing else of the record counts, least of all the order of its keys."""
    assert identity(header()) == identity(header(Workload="OneDrive"))


@guarantee(10)
@pytest.mark.parametrize(
    "changes",
    [{"Id": "b"}, {"CreationTime": "2026-11-17T09:03:12"}, {"Operation": "FileDeleted"}, {"RecordType": 7}],
)
def test_another_field_makes_another_record(changes: dict[str, str | int]) -> None:
    """The same Id with another time or operation is another record."""
    assert identity(header(**changes)) != identity(header())


@guarantee(10)
def test_two_tenants_never_share_an_identity() -> None:
    """Nobody vouches for an Id beyond its tenant."""
    assert identity(header()) != identity(header(), tenant=OTHER_TENANT)


def test_two_ledgers_never_share_an_identity() -> None:
    """The seed is secret, so that nobody can prepare records that meet."""
    assert identity(header(), seed=1) != identity(header(), seed=2)


@pytest.mark.parametrize("absent", [None, ""])
def test_a_record_without_id_has_no_identity(absent: str | None) -> None:
    """It is never taken for a duplicate."""
    assert identity(header(Id=absent)) is None


def test_identities_sort_by_time_so_that_neighbours_meet_in_the_store() -> None:
    """Four bytes of minutes stand first."""
    created = ["2026-11-17T09:03:00", "2026-11-17T09:04:00", "2026-11-18T00:00:00", "2031-01-01T00:00:00"]
    made = IdentityMaker(9).identities(TENANT, [header(CreationTime=at) for at in created])

    assert made == sorted(one for one in made if one is not None)
    assert {len(one or b"") for one in made} == {IDENTITY_BYTES}


@pytest.mark.parametrize("created", ["", "soon", "1999-12-31T23:59", "2026-13-40T09:00"])
def test_a_time_that_is_none_sorts_first_and_still_counts(created: str) -> None:
    """The hash carries the text of the time, whatever it says."""
    assert minute_prefix(created) == bytes(4)
    assert identity(header(CreationTime=created)) != identity(header(CreationTime=created + "x"))
