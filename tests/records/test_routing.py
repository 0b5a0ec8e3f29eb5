"""Devo's table of each record."""

from __future__ import annotations

import pytest

from m365watch.model import Header
from m365watch.records.routing import Router, table_of


@pytest.mark.parametrize(
    ("workload", "table"),
    [
        ("AzureActiveDirectory", "cloud.office365.management.azureactivedirectory"),
        ("OneDrive", "cloud.office365.management.onedrive"),
        ("SecurityComplianceCenter", "cloud.office365.management.securitycompliancecenter"),
        (None, "cloud.office365.management.unknown"),
        ("  ", "cloud.office365.management.unknown"),
        ("../../etc/passwd", "cloud.office365.management.etc_passwd"),
        ("a.b", "cloud.office365.management.a_b"),
        ("Ünï", "cloud.office365.management.n"),
    ],
)
def test_the_table_follows_the_workload_and_is_always_one_level(workload: str | None, table: str) -> None:
    """Devo's rule; a hostile Workload can neither leave its folder nor add a level."""
    assert table_of(workload) == table


def test_an_override_tag_replaces_every_table_of_its_service() -> None:
    """Devo's `override_tag`."""
    headers = [Header(Workload="Exchange"), Header(Workload=None)]

    assert Router().tables(headers, override_tag="my.app.m365") == ["my.app.m365", "my.app.m365"]


def test_more_workloads_than_are_remembered_are_routed_all_the_same() -> None:
    """The memory is bounded, the answer is not."""
    headers = [Header(Workload=f"W{number}") for number in range(2_500)]

    assert Router().tables(headers, override_tag=None) == [table_of(header.Workload) for header in headers]
