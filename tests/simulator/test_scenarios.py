from __future__ import annotations

import re
from importlib.resources import files

import pytest

from m365watch.common.errors import SettingsRefused
from m365watch_simulator.entra.aadsts import aadsts_codes
from m365watch_simulator.service.scenario import Answer, load_scenario, parse_scenario, scenario_names

FOLDER = files("m365watch_simulator") / "scenarios"
IN_CONTRACT = [
    "html-500", "html-503", "af50000", "af429-as-403", "af429-as-429", "retry-after", "unauthorized",
    "truncated", "empty-body", "empty-array", "bom", "error-object-200", "garbage-content-uri",
    "large-body", "slow-drip", "reset", "expired", "incident", "stop-start-limbo", "start-cooldown",
    "throttled-tenant", "json-media-type", "long-expiration", "no-roles", "page-token-refused",
]  # fmt: skip


@pytest.mark.parametrize("name", scenario_names())
def test_a_packaged_scenario_says_what_it_rests_on(name: str) -> None:
    """Contract 7.5: documented, observed or defensive, in the header and as a key, the same."""
    text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    scenario = load_scenario(name)
    assert text.startswith(f"# [{scenario.evidence}] ")
    assert scenario.about.endswith(".")


def test_every_fault_of_the_specification_has_its_scenario() -> None:
    """Contract 7: each fault named there can be chosen by name."""
    assert set(IN_CONTRACT) <= set(scenario_names())


def test_every_answer_is_used_by_some_scenario() -> None:
    """No answer is kept that no packaged scenario shows, but for the two that tests give rules for."""
    used = {rule.answer for name in scenario_names() for rule in load_scenario(name).rules}
    assert set(Answer) - used == {Answer.AF10001, Answer.TOKEN_WITHOUT_ROLES}


@pytest.mark.parametrize(
    ("text", "mistakes"),
    [
        ("rules: [{on: fetch}]", ["rules.0.answer: Field required"]),
        (
            "rules: [{on: list, answer: empty_array}]",
            ["rules.0: empty_array does not fit list; it fits fetch"],
        ),
        (
            "rules: [{on: fetch, answer: bom, times: 0}]",
            ["rules.0.times: give a number from 1 on, or always"],
        ),
        (
            "rules: [{on: token, answer: aadsts, code: 1}]",
            [f"rules.0.code: give one of {', '.join(map(str, aadsts_codes()))}"],
        ),
        ("behavior: {}", ["behavior: there is no such key"]),
        (r'"a\eb": {}', ["a b: there is no such key"]),
        ("behaviour: {roles: [], rules: 1}", ["behaviour.rules: there is no such key"]),
        ("rules: [", ["line 1: expected the node content, but found '<stream end>'"]),
        ("- 1", ["the whole file: Input should be a valid dictionary or instance of Scenario"]),
    ],
)
def test_a_mistake_in_a_scenario_is_one_clear_line(text: str, mistakes: list[str]) -> None:
    """Every mistake, with the path of its key."""
    with pytest.raises(SettingsRefused) as caught:
        parse_scenario(text, where="mine.yaml")
    assert caught.value.mistakes == mistakes
    assert caught.value.where == "mine.yaml"


def test_all_mistakes_are_named_at_once() -> None:
    """Three mistakes, three lines."""
    text = "about: 1\nrules:\n  - {on: fetch, answer: boo}\n  - {on: fetch, answer: bom, share: 2}\n"
    with pytest.raises(SettingsRefused) as caught:
        parse_scenario(text, where="mine.yaml")
    paths = [re.split(r": ", mistake)[0] for mistake in caught.value.mistakes]
    assert paths == ["about", "rules.0.answer", "rules.1.share"]


def test_an_unknown_name_lists_the_known_ones() -> None:
    """A typing error in --scenario is answered with what there is."""
    with pytest.raises(SettingsRefused, match="no file and no scenario of this name") as caught:
        load_scenario("af430")
    assert "bad-day" in caught.value.mistakes[0]


def test_an_empty_file_is_a_good_day() -> None:
    """Nothing is required."""
    assert parse_scenario("", where="empty").rules == ()


def test_the_codes_of_the_token_endpoint_are_known() -> None:
    """Contract 1.7: the codes that the table gives to a confidential client."""
    needed = {
        7000215, 7000222, 700027, 700016, 90002, 900144, 7000218, 70011, 1002012, 500011, 650057,
        650052, 7000112, 700024, 50012, 50027, 900023, 90055, 90024, 90012, 90033,
    }  # fmt: skip
    assert needed <= set(aadsts_codes())


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("true:bo", "the whole file: "),
        ("[" * 5_000, "is nested too deeply"),
        ("rules: 2026-02-30", "has a value that cannot be read: day is out of range for month"),
    ],
)
def test_what_is_no_scenario_at_all_is_one_line(text: str, mistake: str) -> None:
    """Found by the fuzzer: a text that begins as a truth value, and nesting, ended in a traceback."""
    with pytest.raises(SettingsRefused) as refused:
        parse_scenario(text, where="mine.yaml")

    assert refused.value.mistakes[0].startswith(mistake)
