"""Rules are loaded as they are, and every mistake is told in one line with its file and key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from promises import guarantee
from verdicts import packs

from library_rules import DETECTION
from m365watch.detection.rules.rule_library import PACKS_DIRECTORY, load_library, load_packs
from rules import RULE_ID, alerts_of, load_good, load_text, record, rule_text


@guarantee(36)
@pytest.mark.parametrize(
    ("keys", "at", "told"),
    [
        ({"m365watch": {"quite": "1h"}}, "quite", "m365watch.quite: is no known key; there are aliases, "),
        (
            {"m365watch": {"low": {"period": "1h", "periods": 2}}},
            "periods:",
            "there are learn, period, threshold",
        ),
        (
            {"m365watch": {"quiet": "soon"}},
            "quiet",
            "m365watch.quiet: is no span such as 90s, 5m, 24h, 7d or 2w",
        ),
        ({"m365watch": {"quiet": "91d"}}, "quiet", "m365watch.quiet: is longer than 90 days"),
        ({"m365watch": {"risk": 101}}, "risk", "m365watch.risk: is too large; give at most 100"),
        ({"m365watch": {"raise": [{"to": "critical"}]}}, "to", "m365watch.raise.0.when: is missing"),
        (
            {"m365watch": {"raise": [{"to": "critical", "when": "t"}]}},
            "when",
            "m365watch.raise.0.when: there is no selection t; the rule has s",
        ),
        (
            {"m365watch": {"kind": "several"}},
            "m365watch",
            "m365watch: says kind several, and lacks the key several with its numbers",
        ),
        ({"m365watch": {"kind": "always"}}, "kind", "m365watch.kind: is not known; give 'each', 'several'"),
        ({"m365watch": ["x"]}, "m365watch", "m365watch: is no map of keys and values"),
        (
            {"m365watch": {"contain": ["revoke_session"]}},
            "contain",
            "m365watch.contain: revoke_session is no step that is known; did you mean revoke_sessions?",
        ),
        (
            {"m365watch": {"contain": ["nuke_it"]}},
            "contain",
            "nuke_it is no step that is known; write a step of your own as a sentence: Call the help desk",
        ),
        (
            {"m365watch": {"entity": {"user": "UserKey|m365.who"}}},
            "user",
            "m365watch.entity.user: m365.who is no derived field; there are m365.admin, ",
        ),
        ({"m365watch": {"group_by": ["m365.who"]}}, "group_by", "m365watch.group_by: m365.who is no"),
        (
            {"m365watch": {"first_seen": {"key": ["m365.who"]}}},
            "key",
            "m365watch.first_seen.key: m365.who is no derived field",
        ),
        (
            {"m365watch": {"explanation": "{who} did"}},
            "explanation",
            "m365watch.explanation: {who} is neither an entity nor a field",
        ),
        (
            {"m365watch": {"explanation": "In {m365.countri}"}},
            "explanation",
            "m365watch.explanation: m365.countri is no derived field; did you mean m365.country?",
        ),
        (
            {"m365watch": {"explanation": "It was {user"}},
            "explanation",
            "m365watch.explanation: a { has no }; close it, as {UserId}",
        ),
        (
            {"m365watch": {"check": ["Ask {user}[[ of {count}"]}},
            "- Ask",
            "m365watch.check.0: a [[ has no ]]; close it, or take it out",
        ),
        ({"id": "1"}, "id", "id: Sigma rule identifier must be an UUID; make one with `uuidgen`"),
        (
            {"level": "bad"},
            "level",
            "is not a valid Sigma rule level; give informational, low, medium, high or critical",
        ),
        ({"status": "bad"}, "status", "status: 'bad' is not a valid Sigma rule status; give stable, test, "),
        ({"date": "2026-13-45"}, "date", "date: Rule date '2026-13-45' is invalid, use yyyy-mm-dd"),
        ({"tags": ["attack.t1078", "phishing"]}, "tags", "tags: Sigma tag must start with namespace"),
        ({"references": "x"}, "references", "references: Sigma rule references must be a list"),
        ({"related": [{"id": "x"}]}, "related", "related: "),
        ({"logsource": {"product": "windows"}}, "product", "logsource.product: windows is not m365"),
        (
            {"logsource": {"product": "m365", "service": "exchnage"}},
            "service",
            "logsource.service: exchnage is none of this feed; give one of audit, azureactivedirectory",
        ),
        ({"logsource": ["m365"]}, "logsource", "logsource: Sigma logsource must be a valid YAML map"),
        ({"detection": {"s": {"Operation": "x"}}}, "detection", "must contain at least one condition"),
        ({"detection": {"condition": "s"}}, "detection", "detection: No detections defined"),
        (
            {"detection": {"s": {"Operation": "x"}, "condition": "t"}},
            "condition",
            "detection.condition: there is no selection t; the selections are s",
        ),
        (
            {"detection": {"s": {"Operation": "x"}, "condition": "s or (s and)"}},
            "condition",
            "detection.condition: is not understood at ')'; the selections are s",
        ),
        (
            {"detection": {"s": {"Operation|foo": ["x", "y"]}, "condition": "s"}},
            "Operation|foo",
            "detection.s.Operation|foo: Unknown modifier 'foo'",
        ),
        (
            {"detection": {"s": {"UserId|re": ["a", "b("]}, "condition": "s"}},
            "- b(",
            "detection.s.UserId|re.1: the regular expression 'b(' cannot be used: missing ); mend it",
        ),
        (
            {"detection": {"s": {"OperationCount|gt": "many"}, "condition": "s"}},
            "OperationCount",
            "detection.s.OperationCount|gt: its modifier takes no such value",
        ),
        (
            {"detection": {"s": {"ObjectId|contains": ["a", None]}, "condition": "s"}},
            "- null",
            "detection.s.ObjectId|contains.1: its modifier takes no such value",
        ),
        (
            {"detection": {"s": {"Operation": {"A": "B"}}, "condition": "s"}},
            "Operation",
            "detection.s.Operation: takes a text, a number, true, false, null or a list of these",
        ),
        (
            {"detection": {"s": {"Operation|expand": "%none%"}, "condition": "s"}},
            "Operation",
            "detection.s.Operation|expand: there is no list none",
        ),
        (
            {"detection": {"s": {"m365.countri": "x"}, "condition": "s"}},
            "m365.countri",
            "m365.countri is no derived field; did you mean m365.country?",
        ),
        (
            {"detection": {"s": {"UserId|fieldref": "m365.who"}, "condition": "s"}},
            "UserId|fieldref",
            "detection.s.UserId|fieldref: m365.who is no derived field; there are m365.admin, ",
        ),
        ({"detection": {"s": {}, "condition": "s"}}, "s: {}", "detection.s: Detection is empty"),
        (
            {"detection": {"s": {"Operation": []}, "condition": "s"}},
            "Operation: []",
            "detection.s.Operation: an empty list matches nothing; give a value, or null for a field without",
        ),
        (
            {"detection": {"s": [{"Operation": "x"}, {"UserId|contains": []}], "condition": "s"}},
            "UserId|contains",
            "detection.s.1.UserId|contains: an empty list matches nothing",
        ),
    ],
)
def test_a_mistake_is_one_line_with_file_and_key(
    tmp_path: Path, keys: dict[str, Any], at: str, told: str
) -> None:
    """The rule is left out; whoever wrote it reads where, what and what to do."""
    text = rule_text(DETECTION, **keys)
    library = load_text(tmp_path, text)
    line = next(
        n
        for n, one in enumerate(text.splitlines(), 1)
        if one.strip().lstrip("- ").startswith(at.lstrip("- "))
    )

    assert library.rules == ()
    [mistake] = library.mistakes
    assert str(mistake).startswith(f"rules/mine.yml:{line} (A rule): ")
    assert told in str(mistake)
    assert "\n" not in str(mistake)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"timespan": "400d"}, "correlation.timespan: is longer than 90 days"),
        ({"timespan": "5x"}, "correlation.timespan: Timespan '5x' is invalid; write a number and s, m, h"),
        ({"type": "many"}, "correlation.type: 'many' is no valid Sigma correlation type; there are event_"),
        ({"condition": {"more": 3}}, "correlation.condition: Sigma correlation condition must have"),
        ({"group-by": ["m365.who"]}, "correlation.group-by: m365.who is no derived field"),
        (
            {"type": "value_count", "condition": {"gte": 2, "field": "m365.who"}},
            "correlation.condition: m365.who is no derived field",
        ),
        (
            {"type": "temporal", "rules": ["one", "two"], "condition": "one"},
            "correlation.condition: Rules defined but not referenced in extended condition: two; write",
        ),
    ],
)
def test_a_mistake_of_a_correlation_is_one_line(tmp_path: Path, keys: dict[str, Any], told: str) -> None:
    """The rules that it joins stay in force."""
    usual = {"type": "event_count", "rules": ["one"], "timespan": "5m", "condition": {"gte": 3}}
    joint = {"title": "N", "level": "high", "correlation": usual | keys}
    two = rule_text(DETECTION, name="two", id="5f1c6c0e-7d0b-4a51-9a4e-000000000002")
    library = load_text(tmp_path, rule_text(DETECTION, name="one"), two, yaml.safe_dump(joint))

    assert [told in str(one) for one in library.mistakes] == [True], library.mistakes
    assert [one.name for one in library.rules] == ["one", "two"]


def test_a_kind_is_not_for_correlations(tmp_path: Path) -> None:
    """It would count for nothing."""
    correlation = {"type": "event_count", "rules": ["one"], "timespan": "5m", "condition": {"gte": 3}}
    low = {"low": {"period": "1h"}}
    joint = {"title": "N", "level": "high", "correlation": correlation, "m365watch": low}
    [mistake] = load_text(tmp_path, rule_text(DETECTION, name="one"), yaml.safe_dump(joint)).mistakes

    assert "m365watch.kind: low is for rules with a detection" in str(mistake)


@pytest.mark.parametrize(
    "keys",
    [
        {"simulation": [{"type": "x"}], "regression_tests_path": "x", "foo": 1, "version": 2},
        {"tags": ["attack.t1078.004", "attack.g0016", "attack.initial-access", "cve.2024-1"]},
        {"m365watch": {"explanation": "{user} wrote } and ]] [[to {UserId}]]"}},
    ],
)
def test_what_only_looks_like_a_mistake_is_none(tmp_path: Path, keys: dict[str, Any]) -> None:
    """Keys of others' own are Sigma's custom attributes."""
    load_good(tmp_path, rule_text(DETECTION, **keys))


@pytest.mark.parametrize(
    ("key", "value", "meant"),
    [("m365wach", {"risk": 5}, "m365watch"), ("levl", "high", "level"), ("Tags", ["attack.t1078"], "tags")],
)
def test_a_misspelled_key_is_told_and_its_rule_stays_in_force(
    tmp_path: Path, key: str, value: object, meant: str
) -> None:
    """Others may add keys of their own; one that only looks like ours does nothing."""
    text = rule_text(DETECTION, **{key: value})
    text = text.replace("level: medium\n", "") if meant == "level" else text
    library = load_text(tmp_path, text)
    [mistake] = library.mistakes

    assert mistake.text == f"{key}: unknown key; did you mean {meant}?"
    assert mistake.follows == "its rules stay in force"
    assert f"\n{key}:" in "\n" + "\n".join(text.splitlines()[mistake.line - 1 :][:1])
    assert len(library.rules) == 1


def test_an_empty_list_in_a_filter_is_a_mistake(tmp_path: Path) -> None:
    rule = rule_text(DETECTION, name="one")
    section = {"rules": ["one"], "s": {"UserId": []}, "condition": "not s"}
    logsource = {"product": "m365", "service": "exchange"}
    text = yaml.safe_dump({"title": "F", "logsource": logsource, "filter": section})
    [mistake] = load_text(tmp_path, rule, text).mistakes

    assert "filter.s.UserId: an empty list matches nothing" in str(mistake)


def test_of_a_rule_with_a_mistake_what_joins_it_is_told_once(tmp_path: Path) -> None:
    """Nothing is known of it that could be told."""
    bad = rule_text({"s": {"m365.nothing": "x"}, "condition": "s"}, name="one")
    joint = {"type": "event_count", "rules": ["one"], "timespan": "5m", "condition": {"gte": 3}}
    library = load_text(tmp_path, bad, yaml.safe_dump({"title": "N", "level": "high", "correlation": joint}))

    assert ["joins is left out" in str(one) for one in library.mistakes] == [False, True]
    assert library.rules == ()


def test_a_selection_nested_without_end_is_one_mistake(tmp_path: Path) -> None:
    """And takes no time."""
    deep = "[x, {a: y}, " * 200 + "x" + "]" * 200
    text = rule_text({"s": "DEEP", "condition": "s"}).replace("DEEP", deep)
    [mistake] = load_text(tmp_path, text).mistakes

    assert str(mistake).endswith("is nested too deeply")
    assert len(str(mistake)) < 300


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: [", "mine.yml:2: is no YAML: "),
        ("- a\n- b\n", "is no map of keys and values"),
        ("5", "is no map of keys and values"),
        ("a: &a [x]\nb: *c\n", "is no YAML"),
        ("!!python/object/apply:os.system [true]", "is no YAML"),
    ],
)
def test_a_file_that_is_no_rule_is_told(tmp_path: Path, text: str, line: str) -> None:
    """Whatever stands in the file, loading goes on with the next."""
    library = load_text(tmp_path, text)

    assert library.rules == ()
    assert line in str(library.mistakes[0])


def test_every_mistake_of_a_rule_is_told_at_once(tmp_path: Path) -> None:
    """Nobody has to mend one to hear of the next, wherever in the rule they stand."""
    detection = {
        "s": {"Operation|re": "a(", "UserId|foo": "x"},
        "t": {"m365.nothing": "x"},
        "condition": "s and u",
    }
    extension = {"quiet": "x", "risk": 500, "oops": 1}
    library = load_text(tmp_path, rule_text(detection, id="1", level="bad", m365watch=extension))

    keys = [mistake.text.partition(": ")[0] for mistake in library.mistakes]
    assert sorted(keys) == [
        "detection.condition",
        "detection.s.Operation|re",
        "detection.s.UserId|foo",
        "detection.t.m365.nothing",
        "id",
        "level",
        "m365watch.oops",
        "m365watch.quiet",
        "m365watch.risk",
    ]
    assert [mistake.line for mistake in library.mistakes] == sorted(one.line for one in library.mistakes)


def test_every_rule_that_a_correlation_lacks_is_told(tmp_path: Path) -> None:
    """Also beside other mistakes; one that is there, and has a mistake, is not called missing."""
    correlation = {
        "title": "Many",
        "level": "bad",
        "correlation": {
            "type": "event_count",
            "rules": ["nobody", "mine", "noone"],
            "timespan": "5x",
            "condition": {"gte": 3},
        },
    }
    library = load_text(
        tmp_path, yaml.safe_dump(correlation), rule_text(DETECTION, name="mine", status="bad")
    )

    assert [mistake.text for mistake in library.mistakes if ".rules" in mistake.text] == [
        "correlation.rules.0: there is no rule nobody; name one by its name or id",
        "correlation.rules.1: mine has mistakes of its own and is left out; mend it first",
        "correlation.rules.2: there is no rule noone; name one by its name or id",
    ]
    assert {mistake.text.partition(":")[0] for mistake in library.mistakes} >= {
        "level",
        "correlation.timespan",
    }


@guarantee(36)
def test_a_bad_rule_leaves_its_neighbours_in_force(tmp_path: Path) -> None:
    """One mistake costs one rule."""
    good = rule_text(DETECTION)
    bad = rule_text(DETECTION, title="Bad", id="5f1c6c0e-7d0b-4a51-9a4e-000000000002", level="x")
    library = load_text(tmp_path, bad, good)

    assert [rule.title for rule in library.rules] == ["A rule"]
    assert [mistake.rule for mistake in library.mistakes] == ["Bad"]


def test_two_rules_of_one_id_are_told(tmp_path: Path) -> None:
    """The first of them counts."""
    library = load_text(tmp_path, rule_text(DETECTION), rule_text(DETECTION, title="Other"))

    assert [rule.title for rule in library.rules] == ["A rule"]
    assert f"id: {RULE_ID} is also that of a rule in rules/mine.yml" in library.mistakes[0].text


def test_a_place_that_is_not_there_is_told(tmp_path: Path) -> None:
    """A directory that was mistyped would otherwise be a silent detector."""
    [mistake] = load_library([tmp_path / "nowhere"]).mistakes

    assert mistake.text == "there is no such file or directory"


def test_a_correlation_without_its_rule_is_told(tmp_path: Path) -> None:
    """It could never hold."""
    correlation = {
        "title": "Many",
        "correlation": {
            "type": "event_count",
            "rules": ["nobody"],
            "group-by": ["UserId"],
            "timespan": "5m",
            "condition": {"gte": 3},
        },
    }
    library = load_text(tmp_path, yaml.safe_dump(correlation))

    assert library.rules == ()
    assert library.mistakes[0].text.startswith("correlation.rules.0: there is no rule nobody")


def test_correlations_that_join_each_other_are_told(tmp_path: Path) -> None:
    """A circle has no beginning."""

    def joins(name: str, other: str) -> str:
        return yaml.safe_dump(
            {
                "title": name,
                "name": name,
                "correlation": {
                    "type": "event_count",
                    "rules": [other],
                    "group-by": ["UserId"],
                    "timespan": "5m",
                    "condition": {"gte": 3},
                },
            }
        )

    library = load_text(tmp_path, joins("one", "two"), joins("two", "one"))

    assert library.rules == ()
    assert len(library.mistakes) == 2


def test_a_copy_of_a_rule_of_the_packs_takes_its_place(tmp_path: Path) -> None:
    """So its knobs are turned: same id, other numbers; it reads the lists of the pack that it is from."""
    source = PACKS_DIRECTORY / "core" / "b02_inbox_rule_hides_mail.yml"
    (tmp_path / "mine").mkdir()
    turned = source.read_text(encoding="utf-8").replace("level: high", "level: low")
    (tmp_path / "mine" / "b02.yml").write_text(turned, encoding="utf-8")

    library = load_packs(directories=[tmp_path / "mine"])

    assert [str(one) for one in library.mistakes] == []
    assert [(str(rule.severity), rule.path) for rule in library.find("B02")] == [("low", "mine/b02.yml")]
    assert len(library.rules) == len(packs().rules)


def test_a_key_that_is_written_twice_is_told(tmp_path: Path) -> None:
    """YAML would let the second one count, and nobody would miss the first; the rules beside it go on."""
    text = rule_text(DETECTION, title="Double").replace("level: medium", "level: medium\nlevel: low")
    good = rule_text(DETECTION, id="5f1c6c0e-7d0b-4a51-9a4e-000000000002")
    library = load_text(tmp_path, text, good)
    line = text.splitlines().index("level: low") + 1

    assert [rule.title for rule in library.rules] == ["A rule"]
    [mistake] = library.mistakes
    assert str(mistake).startswith(f"rules/mine.yml:{line} (Double): ")
    assert mistake.text == f"the key level stands in line {line - 1} already; keep one of them"


def test_the_same_key_in_two_maps_is_no_mistake(tmp_path: Path) -> None:
    """Each selection has its own Operation, and an anchor may be used again."""
    detection = {"a": {"Operation": "x"}, "b": {"Operation": "y"}, "condition": "a or b"}

    assert load_good(tmp_path, rule_text(detection)).rules


def laughs(key: str) -> str:
    """A kilobyte of YAML that unfolds to a billion values below `key`."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    return "\n".join([*lines, f"{key}: *a8", ""])


@guarantee(26)
@pytest.mark.parametrize("key", ["title", "detection", "m365watch", "<<"])
def test_aliases_that_unfold_to_gigabytes_are_refused(tmp_path: Path, key: str) -> None:
    """At once, with the line; the rule beside it is in force."""
    good = rule_text({"s": {"Operation": "One"}, "condition": "s"})
    library = load_text(tmp_path, laughs(key))
    (tmp_path / "rules" / "other.yml").write_text(good)

    (mistake,) = library.mistakes
    assert "aliases (*name) unfold to more than 100,000 values here" in str(mistake)
    assert mistake.line
    assert len(load_library([tmp_path / "rules"]).rules) == 1


def test_an_alias_inside_of_what_it_names_is_refused(tmp_path: Path) -> None:
    """It would have no end."""
    (mistake,) = load_text(tmp_path, "title: &a [x, *a]\n").mistakes

    assert str(mistake).startswith("rules/mine.yml:1: is no YAML: an alias (*name) stands inside")


def test_aliases_that_spare_writing_are_read(tmp_path: Path) -> None:
    """As in many rules: a list that two selections share."""
    shared = "x: &names [One, Two]\n"
    text = rule_text({"s": {"Operation": "LIST"}, "condition": "s"}).replace("LIST", "*names")

    assert load_good(tmp_path, shared + text).rules


@guarantee(26)
@pytest.mark.parametrize(
    "text",
    [
        "title: A\nlogsource: {product: m365}\ndetection: {s: {X: a}, condition: 2}\n",
        "title: A\ncorrelation: {type: event_count, rules: [{x: 1}], timespan: 1h, condition: {gte: 1}}\n",
        "title: A\nlogsource: {product: m365}\nfilter: {rules: [[]], s: {X: a}, condition: not s}\n",
    ],
)
def test_a_value_of_another_kind_costs_its_own_rule_alone(tmp_path: Path, text: str) -> None:
    """Found by the fuzzer: a number for a condition stopped the loading of all rules."""
    good = rule_text({"s": {"Operation": "One"}, "condition": "s"})
    library = load_text(tmp_path, text, good)

    assert len(library.rules) == 1
    assert library.mistakes
    assert all("mine.yml:" in str(one) and " (A): " in str(one) for one in library.mistakes)
    assert not any("object" in str(one) for one in library.mistakes)


def test_a_title_moves_no_terminal_s_cursor(tmp_path: Path) -> None:
    """Found by the fuzzer: a mistake named its rule as it stands there."""
    mistakes = load_text(tmp_path, 'title: "a\\e[2Jb\\0"\n').mistakes

    assert mistakes
    assert all(str(mistake).isprintable() for mistake in mistakes)


@guarantee(26)
@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\tb", "a\\b.c", "é"])
def test_a_field_of_any_name_can_be_asked_for(tmp_path: Path, name: str) -> None:
    """Found by the fuzzer: a name that JSON writes with escapes stopped the detections."""
    library = load_good(tmp_path, rule_text({"s": {name: "One"}, "condition": "s"}))
    top, _, inner = name.partition(".")
    fields: dict[str, Any] = {top: {inner: "One"} if inner else "One"}

    assert alerts_of(library, [record(**fields)])
    assert not alerts_of(library, [record(Other="One")])


@pytest.mark.parametrize(("key", "value"), [("id", 7), ("title", ["x"] * 1_000), ("level", 5), ("name", 5)])
def test_a_key_that_is_no_text_is_told_in_one_short_line(tmp_path: Path, key: str, value: object) -> None:
    """Neither in words about Python nor with all that stands in its place."""
    text = rule_text({"s": {"Operation": "X"}, "condition": "s"}, **{key: value})
    [mistake] = load_text(tmp_path, text).mistakes

    assert f" {key}: " in f" {mistake.text}"
    assert len(str(mistake)) < 150
