"""A flood hides nothing that comes after it, with the rules of the packs as they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from promises import guarantee

from m365watch.detection.correlation.risk_score import make_risk_rule
from m365watch.detection.engine.detection_engine import Engine
from m365watch.detection.engine.record_batch import Portion
from m365watch.detection.fields.enrichment_context import NOTHING_KNOWN
from m365watch.detection.rule_test_cases import find_alerts
from m365watch.detection.rules.rule import Rule
from m365watch.detection.rules.rule_library import load_packs
from m365watch.detection.store.detection_store import DetectionState
from m365watch.records.headers import headers_of
from rules import TENANT, load_good, record
from test_joined_correlations import MINUTE, NOW, ONE, TWO, joint

BATCH = 400


@pytest.fixture(scope="module")
def packs() -> Sequence[Rule]:
    """All rules of the packs, and what adds them up."""
    return (*load_packs(["core"]).rules, make_risk_rule())


def sign_in(second: int, *, right: bool, user: str = "ann", address: str = "203.0.113.9") -> bytes:
    """A sign-in, or a wrong password."""
    return record(
        second,
        Id=f"{user}-{address}-{second}",
        Operation="UserLoggedIn" if right else "UserLoginFailed",
        RecordType=15,
        Workload="AzureActiveDirectory",
        UserType=0,
        UserId=f"{user}@contoso.example",
        ClientIP=address,
        ActorIpAddress=address,
        ErrorNumber="0" if right else "50126",
        LogonError="" if right else "InvalidUserNameOrPassword",
        ResultStatus="Success",
        ApplicationId="x",
    )


def guessing(*seconds: int) -> list[bytes]:
    """Wrong passwords of one account from one address."""
    return [sign_in(second, right=False) for second in seconds]


def spraying(second: int, *, addresses: str) -> list[bytes]:
    """Sixty accounts within a minute."""
    return [sign_in(second + n, right=False, user=f"u{n}", address=addresses.format(n=n)) for n in range(60)]


def cmdlet(second: int, operation: str, user: str, **parameters: str) -> bytes:
    """A command of Exchange."""
    return record(
        second,
        Operation=operation,
        RecordType=1,
        Workload="Exchange",
        UserType=2,
        UserId=f"{user}@contoso.example",
        ClientIP="203.0.113.9",
        ResultStatus="True",
        Parameters=[{"Name": name, "Value": value} for name, value in parameters.items()],
    )


def link(second: int) -> bytes:
    """A file opened to anyone who has the link."""
    return record(
        second,
        Operation="AnonymousLinkCreated",
        RecordType=14,
        Workload="OneDrive",
        UserType=0,
        UserId="eve@contoso.example",
        ClientIP="203.0.113.7",
        ObjectId=f"https://contoso/{second}",
        SourceFileName=f"{second}",
        SiteUrl="https://contoso",
        EventData="<Type>Edit</Type>",
    )


TAMPERING = [
    cmdlet(45 * MINUTE, "Set-AdminAuditLogConfig", "ann", UnifiedAuditLogIngestionEnabled="False"),
    cmdlet(
        65 * MINUTE,
        "Set-Mailbox",
        "ann",
        ForwardingSmtpAddress="smtp:x@evil.example",
        DeliverToMailboxAndForward="False",
        Identity="ann",
    ),
]
FLOODS = {
    "3,000 wrong passwords, then the right one": [
        *guessing(*range(50 * MINUTE)),
        sign_in(51 * MINUTE, right=True),
    ],
    "1,000 at one account, then a spray from 60 addresses": [
        *guessing(*range(1_000)),
        *spraying(40 * MINUTE, addresses="198.51.100.{n}"),
    ],
    "1,000 at one account, then a spray from the same address": [
        *guessing(*range(1_000)),
        *spraying(40 * MINUTE, addresses="203.0.113.9"),
    ],
    "1,001 links, then somebody who switches the audit log off": [
        *(link(2 * number) for number in range(1_001)),
        *TAMPERING,
    ],
}


def run(path: Path, rules: Sequence[Rule], records: Sequence[bytes]) -> Counter[str]:
    """How often each rule has told an alert, of an engine that has the records in batches."""
    state = DetectionState(path, survives_power_cuts=False)
    engine = Engine(rules, state)
    for number, place in enumerate(range(0, len(records), BATCH), start=1):
        batch = records[place : place + BATCH]
        engine.take([Portion(TENANT, NOW, batch, headers_of(batch))], number=number, now=NOW)
    engine.look(now=NOW)
    told = Counter(kept.alert.title for kept in state.alerts.list())
    state.close()
    return told


@guarantee(34)
@pytest.mark.slow
@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_hides_nothing_from_the_packs(tmp_path: Path, packs: Sequence[Rule], flood: str) -> None:
    """Every alert that all records together give, a run gives as well: newest first and oldest first."""
    records = FLOODS[flood]
    expected = Counter(
        one.title for one in find_alerts(packs, records, knowledge=NOTHING_KNOWN, tenant=TENANT, now=NOW)
    )

    assert run(tmp_path / "oldest.sqlite", packs, records) == expected
    assert run(tmp_path / "newest.sqlite", packs, records[::-1]) == expected


def test_a_step_that_is_flooded_still_comes_before_the_next(tmp_path: Path) -> None:
    """Half an hour of the first step, each second; the second step right after it."""
    library = load_good(tmp_path, ONE, TWO, joint("outer", "temporal_ordered", ["one", "two"]))
    records = [record(second, Operation="One") for second in range(30 * MINUTE)]
    records.append(record(31 * MINUTE, Operation="Two"))

    assert run(tmp_path / "d.sqlite", library.rules, records)["outer"] == 1


def test_a_grave_match_in_a_flood_of_light_ones_is_told_as_grave(tmp_path: Path) -> None:
    """Matches of each severity have room of their own: what was raised is not among those that go."""
    raised = ONE.replace("condition: s", "condition: s\n  large:\n    Size: 7")
    raised += "m365watch: {raise: {to: critical, when: large}, group_by: [UserId]}\n"
    library = load_good(tmp_path, raised)
    records = [
        record(second, Operation="One", Size=int(second == 1_235) * 7) for second in range(30 * MINUTE)
    ]
    state = DetectionState(tmp_path / "d.sqlite", survives_power_cuts=False)
    engine = Engine(library.rules, state)
    engine.take([Portion(TENANT, NOW, records, headers_of(records))], number=1, now=NOW)

    assert [kept.alert.severity.value for kept in state.alerts.list()] == ["critical"]
