"""What is not kept of a record is what records of its kind never have."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from verdicts import packs

from m365watch.detection.engine.purposes import plan_uses
from m365watch.detection.engine.rule_pruning import told_by
from m365watch.detection.fields.enrichment_context import NOTHING_KNOWN
from m365watch.detection.fields.field_catalog import CATALOGUE
from m365watch.detection.fields.operations import normalise_operation
from m365watch.detection.fields.record_view import View
from m365watch.detection.rules.condition import Every, OneOf, Some
from m365watch.detection.rules.condition import Test as Asked
from m365watch_simulator.organization.organization import Organisation

SIGN_IN = Asked("Operation", OneOf(frozenset({"userloggedin"})))
FETCHED = Asked("Operation", OneOf(frozenset({"filedownloaded", "filesyncdownloadedfull"})))
CMDLET = Asked("Operation", OneOf(frozenset({"set-mailbox"})))
WANTED = (
    "UserId",
    "ObjectId",
    "Parameters.Name",
    "OperationProperties.RuleName",
    "m365.recipients",
    "m365.ip",
)
OF_ENTRA = ("m365.target_name", "m365.outside_actor")


def test_nothing_of_a_cmdlet_is_kept_of_a_sign_in() -> None:
    """What is a record's own stays, in its order."""
    assert told_by(SIGN_IN, WANTED) == ("UserId", "ObjectId", "m365.ip")
    assert told_by(Every((SIGN_IN, CMDLET)), OF_ENTRA) == OF_ENTRA
    assert told_by(SIGN_IN, OF_ENTRA) == OF_ENTRA
    assert told_by(FETCHED, OF_ENTRA) == ()


@pytest.mark.parametrize(
    "condition", [CMDLET, Some((SIGN_IN, CMDLET)), Asked("UserId", OneOf(frozenset({"a"})))]
)
def test_all_is_kept_where_one_of_the_records_may_have_it(condition: Asked | Some) -> None:
    """Of an operation that nothing is known of, and of any that is not named."""
    assert told_by(condition, (*WANTED, *OF_ENTRA)) == (*WANTED, *OF_ENTRA)


def test_what_is_not_kept_says_nothing_in_the_records_of_a_day() -> None:
    """Of each operation that the packs keep something of, or its value stands in another field."""
    rules = packs().rules
    wanted = {name for uses in plan_uses(rules).values() for use in uses for name in use.kept}
    names = tuple(sorted(name for name in wanted if not name.startswith("m365.") or name[5:] in CATALOGUE))
    at, tenant = datetime(2026, 11, 17, 9, tzinfo=UTC), "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
    seen = Counter[str]()
    organisation = Organisation(1, tenant, users=60, records_per_day=8_000)
    for one in organisation.records_between(at, at + timedelta(hours=2)):
        view = View(json.loads(one.body), knowledge=NOTHING_KNOWN, tenant=tenant)
        operation = normalise_operation(view.first("Operation"))
        if seen[operation] < 20:
            seen[operation] += 1
            kept = told_by(Asked("Operation", OneOf(frozenset({operation}))), names)
            told = {name for name in set(names) - set(kept) if view.values(name) not in ((), ("",))}
            assert {name for name in told if view.values(name) != view.values("ObjectId")} == set(), operation

    assert {"userloggedin", "filedownloaded", "mailitemsaccessed"} - set(seen) == set()
