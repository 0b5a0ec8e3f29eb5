"""What is not looked at in full could not have been fulfilled, however the record is written."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from promises import guarantee

from m365watch.detection.engine.lazy_decoder import TRIES_MIN, decode_record
from m365watch.detection.engine.match_extractor import Told
from m365watch.detection.engine.purposes import list_sought
from m365watch.detection.engine.rule_matcher import Matcher, kinds_of, operations_of
from m365watch.detection.fields.enrichment_context import NOTHING_KNOWN, Knowledge
from m365watch.detection.fields.record_view import View
from m365watch.detection.rules.condition import (
    Compared,
    Comparison,
    Condition,
    ContainsOneOf,
    Every,
    Exists,
    IsNull,
    Like,
    Matches,
    Never,
    OneOf,
    Order,
    Some,
    Wildcard,
)
from m365watch.detection.rules.condition import Test as Asked
from m365watch.detection.rules.condition_compiler import compile_condition
from m365watch.detection.rules.extension import Extension, Severity
from m365watch.detection.rules.rule import Rule
from m365watch.records.headers import headers_of
from rules import TENANT

KNOWLEDGE = Knowledge(
    accepted_domains=frozenset({"contoso.example"}), vips=frozenset({"ann@contoso.example"})
)
TOLD = Told(TENANT, datetime(2026, 11, 3, tzinfo=UTC))
FIELDS = (
    "Operation",
    "m365.operation",
    "RecordType",
    "Workload",
    "UserType",
    "UserId",
    "ObjectId",
    "ResultStatus",
    "Parameters",
    "Parameters.ForwardTo",
    "Parameters.Name",
    "ModifiedProperties.Role.TemplateId.new",
    "ModifiedProperties.Role.TemplateId.old",
    "ExtendedProperties.RequestType",
    "m365.user_agent",
    "m365.app",
    "m365.ip",
    "m365.ok",
    "m365.human",
    "m365.external_recipients",
    "m365.gained.Role.TemplateId",
    "Target.ID",
    "Data.op",
    "AppAccessContext.ClientAppId",
)
TEXTS = (
    "New-InboxRule",
    "UserLoggedIn",
    "Exchange",
    "15",
    "true",
    "eve@example.net",
    "Cmsi:Cmsi",
    "python-requests/2.31",
    "62e90394-69f5-4237-9190-012177145e10",
    "ann@contoso.example",
    "caf\u00e9 invoice",
    "a",
    "",
    'say "payroll" now',
    "back\\slash",
    "MailRedirect",
)
PLAIN = (Wildcard.MANY,)
KEPT = Extension(
    entity={"user": "UserId", "app": "m365.app", "address": "m365.ip"},
    explanation="{ObjectId} {ExtendedProperties.RequestType} {Parameters.Name} {m365.external_recipients}",
    group_by=("UserId", "Target.ID"),
)
STRANGE = (b'{"Operation":"x","UserId":"\xff"}', b'{"Operation":"x","UserId":"\\ud800"}', b"{")
"""Records that strict decoders refuse."""
OWN_IDS = ("a", " b", "", "caf\\u00e9", "[1", "x" * 120)
OWN_TIMES = (b"T00:00:00", b"T07:00:01", b"T07:00:01Z", b"T07:00:01.25", b" 07:00:01", b"T25:00:00")


def make_matcher(rules: Sequence[Rule], *, knowledge: Knowledge = NOTHING_KNOWN) -> Matcher:
    """What looks for these rules."""
    return Matcher(list_sought(rules, knowledge), knowledge=knowledge)


def make_condition(dice: random.Random, depth: int = 0) -> Condition:
    """Any condition that a rule may have."""
    if depth < 3 and dice.random() < 0.55:
        parts = tuple(make_condition(dice, depth + 1) for _ in range(dice.choice([1, 2, 3])))
        joins: list[Callable[[tuple[Condition, ...]], Condition]] = [
            Every,
            Some,
            lambda found: Never(found[0]),
        ]
        return dice.choice(joins)(parts)
    field = dice.choice(FIELDS) if dice.random() < 0.97 else None
    text, other = dice.choice(TEXTS), dice.choice(TEXTS)
    piece = text[dice.randrange(len(text) + 1) :][: dice.choice([2, 5, 40])] or "x"
    makers: list[Callable[[], Any]] = [
        lambda: Like((text,) if text else ()),
        lambda: Like((*PLAIN, piece, *PLAIN)),
        lambda: Like((piece, *PLAIN)),
        lambda: Like((*PLAIN, piece), cased=True),
        lambda: Like((piece, Wildcard.ONE, *PLAIN, other or "y")),
        lambda: OneOf(frozenset((text.lower(), other.lower()))),
        lambda: ContainsOneOf(
            (piece.lower(), other.lower() or "z"), dice.choice(["anywhere", "start", "end"])
        ),
        lambda: Matches("(?i)invoice|forward|requests/[0-9]"),
    ]
    if field is not None:
        makers += [lambda: Exists(dice.random() < 0.5), IsNull, lambda: Compared(Order.AT_LEAST, 15)]
    return Asked(field, dice.choice(makers)())


def make_record(dice: random.Random) -> bytes:
    """A record of these fields, in any shape and spelling."""

    def text() -> Any:
        return dice.choice(
            [*TEXTS, *TEXTS, None, 15, True, ["x", dice.choice(TEXTS)], {"a": dice.choice(TEXTS)}]
        )

    def pairs(*names: str) -> Any:
        found: Any = [
            {"Name": name, dice.choice(["Value", "NewValue"]): text(), "OldValue": text()}
            for name in names
            if dice.random() < 0.7
        ]
        if dice.random() < 0.2:
            found = {name: text() for name in names}
        return json.dumps(found) if dice.random() < 0.2 else found

    fields = {
        "Id": "1",
        "CreationTime": "2026-11-02T00:00:00",
        "Operation": dice.choice(["New-InboxRule", " new\u2013inboxrule", "UserLoggedIn", "Other", None]),
        "RecordType": dice.choice([15, "15", 1, None]),
        "Workload": dice.choice(["Exchange", "exchange", "AzureActiveDirectory", None]),
        "UserType": dice.choice([0, 3, 15, "15", "4", 15.0, True, None, [15]]),
        "UserId": text(),
        "ObjectId": text(),
        "ResultStatus": text(),
        "UserAgent": text(),
        "ClientAppId": text(),
        "ClientIP": dice.choice(["192.0.2.1:5", "", None]),
        "Parameters": pairs("ForwardTo", "Name")
        if dice.random() < 0.8
        else '-ForwardTo "eve@example.net" -Name a',
        "ModifiedProperties": pairs("Role.TemplateId", "Role"),
        "ExtendedProperties": pairs("RequestType", "UserAgent"),
        "AppAccessContext": {"ClientAppId": text()},
        "Target": [{"ID": text()}],
        "Data": json.dumps({"op": text()}),
    }
    kept = {key: value for key, value in fields.items() if dice.random() < 0.8}
    written = json.dumps(kept, ensure_ascii=dice.random() < 0.5, indent=dice.choice([None, 1]))
    if dice.random() < 0.3:
        # A letter may be written as its number, and nobody does; a rule must not be deceived by it.
        written = written.replace("orwar", "or\\u0077ar").replace("nvoice", "nvoi\\u0063e")
    return written.replace("\n", " ").encode()


@guarantee(34)
@pytest.mark.parametrize("seed", range(25))
def test_every_rule_finds_what_it_finds_by_itself(seed: int) -> None:
    """The index, what is put in of the header, guards and partial decoding change nothing."""
    dice = random.Random(seed)
    conditions = [make_condition(dice) for _ in range(40)]
    rules = [
        Rule(f"{number}", f"rule {number}", Severity.LOW, "x.yml", condition=condition)
        for number, condition in enumerate(conditions)
    ]
    alone = [compile_condition(condition) for condition in conditions]
    # Few rules together: one that has to be asked in any case would make up for another's guard.
    matchers = [make_matcher(rules[at : at + 2], knowledge=KNOWLEDGE) for at in range(0, len(rules), 2)]
    for record in [make_record(dice) for _ in range(60)]:
        view = View(decode_record(record) or {}, knowledge=KNOWLEDGE, tenant=TENANT)
        expected = [rule.id for rule, holds in zip(rules, alone, strict=True) if holds(view)]
        [header] = headers_of([record])
        found = {match.rule_id for one in matchers for match in one.match(record, TOLD, header=header)}

        assert sorted(found, key=int) == expected, record


def test_rules_of_other_operations_cost_nothing() -> None:
    """A record that no rule can match is not decoded at all."""
    rule = Rule("1", "r", Severity.LOW, "x.yml", condition=Asked("Operation", Like(("New-InboxRule",))))
    matcher = make_matcher([rule])
    [header] = headers_of([b'{"Operation":"FileAccessed"}'])

    assert matcher.plan_for(header) is None


def test_a_rule_without_operations_is_left_out_by_what_the_header_says() -> None:
    """Its workload, its type, a part of its operation's name, who is at work."""
    for test in (
        Asked("UserType", OneOf(frozenset({"2"}))),
        Asked("m365.human", Like(("true",))),
        Asked("Workload", Like(("Exchange",))),
        Asked("RecordType", OneOf(frozenset({"15"}))),
        Asked("Operation", Like((Wildcard.MANY, "Inbox", Wildcard.MANY))),
    ):
        matcher = make_matcher([Rule("1", "r", Severity.LOW, "x.yml", condition=test)])
        [other] = headers_of(
            [b'{"Operation":"FileAccessed","RecordType":6,"Workload":"SharePoint","UserType":3}']
        )
        [its] = headers_of(
            [b'{"Operation":"New-InboxRule","RecordType":15,"Workload":"Exchange","UserType":2}']
        )

        assert operations_of(test) is None
        assert matcher.plan_for(other) is None
        assert matcher.plan_for(its) is not None


def test_kinds_of_records_share_what_their_rules_ask_and_no_more() -> None:
    """A value that one kind has shown is known in the next, where its rule stands elsewhere."""
    asks: dict[str, Condition] = {
        "1": Every((Asked("Operation", Like(("a",))), Asked("UserId", Like(("ann",))))),
        "2": Asked("ObjectId", Like((Wildcard.MANY, "payroll", Wildcard.MANY))),
        "3": Every((Asked("Workload", Like(("Exchange",))), Asked("ObjectId", Like(("all invoices",))))),
    }
    matcher = make_matcher(
        [Rule(name, name, Severity.LOW, "x.yml", condition=one) for name, one in asks.items()]
    )
    records = [
        json.dumps({"Operation": operation, "UserId": "ann", "ObjectId": "all payroll"} | more).encode()
        for operation, more in (
            ("a", {}),
            ("b", {}),
            ("c", {}),
            ("d", {"Workload": "Exchange", "ObjectId": "all invoices"}),
        )
    ]
    headers = headers_of(records)
    found, looked_at = matcher.match_all([(records, kinds_of(headers), TOLD)])

    assert [one.rule_id for one in found] == ["1", "2", "2", "2", "3"]
    assert looked_at == 4
    plans = [matcher.plan_for(header) for header in headers]
    assert plans[1] is plans[2]
    assert len({id(one) for one in plans}) == 3


@pytest.mark.parametrize(
    "wanted",
    [
        Like(("New-InboxRule",)),
        OneOf(frozenset(("new-inboxrule", "set-inboxrule"))),
        ContainsOneOf(("w-in",)),
        Like(("New-", *PLAIN)),
        Like((*PLAIN, "-InboxRule")),
        Like((*PLAIN, "ew-inbox", *PLAIN)),
    ],
)
def test_an_odd_spelling_of_an_operation_hides_no_record_without_a_header(wanted: Comparison) -> None:
    """Its Id cannot be read, and so no header: its operation is asked of it as it would be of any other."""
    matcher = make_matcher([Rule("1", "r", Severity.LOW, "x.yml", condition=Asked("Operation", wanted))])
    spelled = ("New-InboxRule", " New\u2013InboxRule ", "New\u2013Mailbox", "Set-Mailbox")
    records = [b'{"Id":"\xff","Operation":"%s"}' % one.encode() for one in spelled]
    headers = headers_of(records)
    found = [bool(matcher.match(one, TOLD, header=its)) for one, its in zip(records, headers, strict=True)]

    assert {header.Operation for header in headers} == {None}
    assert found == [True, True, wanted == Like(("New-", *PLAIN)), False]


def test_what_is_remembered_is_bounded() -> None:
    """A million users do not make a million answers."""
    rule = Rule("1", "r", Severity.LOW, "x.yml", condition=Asked("UserId", Like(("ann",))))
    matcher = make_matcher([rule])
    matcher._memory.most = 50
    for number in range(500):
        record = json.dumps({"Operation": "x", "UserId": f"u{number}"}).encode()
        [header] = headers_of([record])
        matcher.match(record, TOLD, header=header)
        matcher.trim()

        assert matcher._memory.values <= 51


@guarantee(34)
@pytest.mark.parametrize("seed", range(6))
def test_a_record_like_one_before_has_the_matches_it_has_by_itself(seed: int) -> None:
    """What alike records have in common is drawn again; id, time and all else come out the same."""
    dice = random.Random(seed)
    rules = [
        Rule(f"{number}", f"rule {number}", Severity.LOW, "x.yml", condition=make_condition(dice))
        for number in range(8)
    ]
    rules = [replace(one, extension=KEPT) for one in rules]
    matcher = make_matcher(rules, knowledge=KNOWLEDGE)
    models = [make_record(dice) for _ in range(12)]
    found = 0
    for number in range(200):
        record = dice.choice(models).replace(b'"Id": "1"', f'"Id": "{dice.choice(OWN_IDS)}{number}"'.encode())
        record = record.replace(b"T00:00:00", dice.choice(OWN_TIMES))
        [header] = headers_of([record])
        alike = matcher.match(record, TOLD, header=header)
        found += len(alike)

        assert alike == make_matcher(rules, knowledge=KNOWLEDGE).match(record, TOLD, header=header), record
    assert found


@pytest.mark.parametrize("seed", range(3))
def test_a_record_that_was_read_into_shared_memory_has_the_same_matches(seed: int) -> None:
    """Another process sees records where they were read to; strange ones, and such without an Id, too."""
    dice = random.Random(seed)
    rules = [
        Rule(f"{number}", f"rule {number}", Severity.LOW, "x.yml", condition=make_condition(dice))
        for number in range(8)
    ]
    for record in (*[make_record(dice) for _ in range(60)], *STRANGE):
        [header] = headers_of([record])
        seen = memoryview(bytearray(b"before" + record + b"after"))[6 : 6 + len(record)]
        found = make_matcher(rules, knowledge=KNOWLEDGE).match(seen, TOLD, header=header)

        assert found == make_matcher(rules, knowledge=KNOWLEDGE).match(record, TOLD, header=header), record


@pytest.mark.parametrize("seed", range(6))
def test_records_that_come_together_have_the_matches_that_each_has_by_itself(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alike ones are looked at together, strange ones among them; whose they are and their order stay."""
    monkeypatch.setattr("m365watch.detection.engine.lazy_decoder.GLANCED_AT_ONCE", 7)
    dice = random.Random(seed)
    models = [*[make_record(dice) for _ in range(30)], *STRANGE]
    other = replace(TOLD, tenant="0f7c1f9c-2f0b-4a51-9a4e-b7a3c1c5d3d9")
    parts = [(dice.choices(models, k=60), told) for told in (TOLD, other, TOLD)]
    # Few rules together: one that has to be asked in any case would make up for another's guard.
    for _ in range(12):
        rules = [
            Rule(f"{number}", "r", Severity.LOW, "x.yml", condition=make_condition(dice)) for number in "12"
        ]
        matcher, alone = (make_matcher(rules, knowledge=KNOWLEDGE) for _ in range(2))
        expected = [
            match
            for records, told in parts
            for record, header in zip(records, headers_of(records), strict=True)
            for match in alone.match(record, told, header=header)
        ]
        came = [(records, kinds_of(headers_of(records)), told) for records, told in parts]

        assert matcher.match_all(came)[0] == expected, rules


def test_fields_that_never_come_together_again_are_remembered_one_by_one() -> None:
    """To remember them together pays only where they do; what they tell is the same."""
    condition = Every((Asked("UserId", Like(("ann",))), Asked("ObjectId", Like((Wildcard.MANY, "7")))))
    rule = Rule("1", "r", Severity.LOW, "x.yml", condition=condition, extension=KEPT)
    matcher = make_matcher([rule])
    grown: list[int] = []
    for number in range(4 * TRIES_MIN):
        own = {"Id": f"{number}", "CreationTime": "2026-11-02T00:00:00", "Operation": "x"}
        record = json.dumps({**own, "UserId": "ann", "ObjectId": f"{number}"}).encode()
        [header] = headers_of([record])
        before = matcher._memory.values
        found = matcher.match(record, TOLD, header=header)
        grown.append(matcher._memory.values - before)

        assert len(found) == (number % 10 == 7)
    assert sum(grown[-100:]) < sum(grown[100:200])


class Growing(set[str]):
    """A list of a file, which somebody adds to."""

    files = ()

    def look(self) -> int:
        """A number that grows when it does."""
        return len(self)


@guarantee(34)
def test_what_is_remembered_is_forgotten_when_a_list_changes() -> None:
    """A new name in a file of VIPs counts for a record that is like one before."""
    vips = Growing({"bob@contoso.example"})
    condition = Every((Asked("Operation", Like(("x",))), Asked("m365.vip", Like(("true",)))))
    matcher = make_matcher(
        [Rule("1", "r", Severity.LOW, "x.yml", condition=condition)], knowledge=Knowledge(vips=vips)
    )
    record = b'{"Id":"1","CreationTime":"2026-11-02T00:00:00","Operation":"x","UserId":"ann@contoso.example"}'
    [header] = headers_of([record])
    before = matcher.match(record, TOLD, header=header)
    vips.add("ann@contoso.example")
    matcher.trim()

    assert before == []
    assert len(matcher.match(record, TOLD, header=header)) == 1
