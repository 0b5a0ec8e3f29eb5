"""Devo's table of each record."""

from __future__ import annotations

import pytest
from promises import guarantee

from m365watch.common.model import Header
from m365watch.records.routing import Router, fill_tag, table_of


@guarantee(26)
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


@pytest.mark.parametrize(
    ("tag", "workload", "operation", "table"),
    [
        ("my.app.{workload}", "OneDrive", "FileAccessed", "my.app.onedrive"),
        ("my.app.{workload}.{operation}", "Exchange", "Set-Mailbox", "my.app.exchange.set-mailbox"),
        ("my.app.m365-{operation}", "Exchange", "Add member to role.", "my.app.m365-add_member_to_role"),
        ("my.app.{workload}.{operation}", None, "  ", "my.app.unknown.unknown"),
        ("my.app.{workload}.{operation}", "../..", "a.b/c", "my.app.unknown.a_b_c"),
        ("my.app.{workload}.{operation}", "{operation}", "x", "my.app.operation.x"),
        ("{workload}.{operation}.{operation}", "A", "B", "a.b.b"),
    ],
)
def test_placeholders_are_filled_with_the_records_own_each_as_one_level(
    tag: str, workload: str | None, operation: str | None, table: str
) -> None:
    """{workload} and {operation} of an `override_tag`; a hostile record cannot add a level."""
    headers = [Header(Workload=workload, Operation=operation)] * 2
    router = Router()

    assert router.tables(headers, override_tag=tag) == [table, table]
    assert router.tables(headers, override_tag=tag) == [table, table]


def test_two_tags_of_one_router_are_not_mixed_up() -> None:
    """Several services share a router, each with a tag of its own."""
    header, router = Header(Workload="Exchange", Operation="Send"), Router()
    tags = ["my.app.{workload}", "my.other.{workload}", "my.app.{workload}"]

    assert [router.tables([header], override_tag=tag) for tag in tags] == [
        ["my.app.exchange"],
        ["my.other.exchange"],
        ["my.app.exchange"],
    ]


def test_more_operations_than_are_remembered_are_routed_all_the_same() -> None:
    """A tenant cannot fill the memory with operations of its own making."""
    headers = [Header(Workload="W", Operation=f"O{number}") for number in range(25_000)]
    tag, router = "my.app.{workload}.{operation}", Router()

    tables = router.tables(headers, override_tag=tag)

    assert tables == [fill_tag(tag, workload="W", operation=header.Operation) for header in headers]
    assert len(router._filled) <= 10_000
