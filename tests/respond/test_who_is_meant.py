"""Plans for records as they come over the wire: whom they lock out unasked, and whom not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from expand import written

from detected import detect, plan_of, rules_of, titles
from m365watch.detect.library import load_library
from m365watch.respond.steps import Plan
from test_from_records import SITE

ADA = "ada@contoso.example"
SIGMA = """\
title: The scanner signs in
id: 5f0d8a52-0000-4c4f-9a4e-0000000000f2
status: test
logsource: {product: m365}
detection:
  found: {Operation: UserLoggedIn}
  condition: found
level: high
"""
"""A rule as others write them, which knows nothing of containment."""


def asked(plan: Plan) -> list[bool]:
    """Of the steps that Graph carries out, whether each waits for a person's yes."""
    return [step.asks_always for step in plan.steps if step.operations]


def test_nobody_is_locked_out_unasked_for_risk_that_adds_up(tmp_path: Path) -> None:
    """Being attacked is a sign as well; the plan says that no rule asks for these steps."""
    signs = ("b03_inbox_rule_with_odd_name_or_lure", "b08_mailbox_delegation", "s06_site_admin_added")
    rules = rules_of(*signs)
    hides: dict[str, Any] = {"shape": "cmdlet", "UserId": ADA, "Operation": "New-InboxRule"}
    hides |= {"ObjectId": r"ada\\..", "Parameters": {"Name": "..", "MoveToFolder": "RSS Feeds"}}
    reads: dict[str, Any] = {"shape": "cmdlet", "UserId": ADA, "Operation": "Add-MailboxPermission"}
    reads["Parameters"] = {"Identity": "bea", "User": ADA, "AccessRights": "FullAccess"}
    owns = {"shape": "file", "UserId": ADA, "Operation": "SiteCollectionAdminAdded", "ObjectId": f"{SITE}/a"}
    records = written([hides, reads, owns | {"TargetUserOrGroupName": ADA}])
    kept = detect(tmp_path, records, rules, risk_points=10)
    [risk] = [one for one in kept if one.alert.detection == "RISK" and one.alert.group == ("user", ADA)]
    plan = plan_of(tmp_path, risk, rules)

    assert titles(plan, "disable_account") == [f"Disable the account {ADA}"]
    assert asked(plan) == [True, True]
    assert "the rule names nothing that would contain it: these are the usual steps" in plan.notes


def test_nobody_is_locked_out_unasked_for_a_rule_that_asks_for_nothing(tmp_path: Path) -> None:
    """Rules of Sigma's own know nothing of containment: this one finds a scanner at work."""
    (tmp_path / "own.yml").write_text(SIGMA, encoding="utf-8")
    rules = load_library([tmp_path / "own.yml"]).rules
    [kept] = detect(tmp_path, written([{"shape": "signin", "UserId": ADA}]), rules)

    assert asked(plan_of(tmp_path, kept, rules)) == [True, True]
