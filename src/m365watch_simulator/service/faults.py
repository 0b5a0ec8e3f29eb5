"""Which request is struck: decided from seed, rule and request alone, so that a run can be repeated."""

from __future__ import annotations

from collections import Counter

import xxhash

from m365watch.common.model import ContentType
from m365watch_simulator.service.scenario import Call, Rule, Scenario


class FaultPlan:
    """A scenario's rules at work on one tenant.

    Each blob (for fetches) and each feed (for other calls) has its own count of requests, and
    chance is a hash of seed, rule, subject and count: what runs at the same time changes nothing.
    """

    def __init__(self, scenario: Scenario, *, seed: int) -> None:
        """Rules keep their order: the first that strikes decides."""
        self._rules = list(enumerate(scenario.rules))
        self._seed = seed
        self._requests: Counter[tuple[Call, str]] = Counter()
        self._strikes: Counter[tuple[int, Call, str]] = Counter()

    def strike(self, call: Call, subject: str, content_type: ContentType | None = None) -> Rule | None:
        """The rule that strikes this request, which is counted; None for the right answer."""
        if not self._rules:
            return None
        self._requests[call, subject] += 1
        ordinal = self._requests[call, subject]
        for number, rule in self._rules:
            if self._concerns(number, rule, call, subject, content_type) and self._strikes_now(
                number, rule, call, subject, ordinal
            ):
                self._strikes[number, call, subject] += 1
                return rule
        return None

    def settled(self, call: Call, subject: str, content_type: ContentType) -> list[Rule]:
        """The rules that strike every request for `subject`, now and later; nothing is counted."""
        return [
            rule
            for number, rule in self._rules
            if rule.permanent and self._concerns(number, rule, call, subject, content_type)
        ]

    def content_rules(self, content_id: str, content_type: ContentType) -> list[Rule]:
        """The rules that shape what the blob `content_id` holds."""
        return [
            rule
            for number, rule in self._rules
            if self._concerns(number, rule, Call.CONTENT, content_id, content_type)
            and self._chance(number, "content", content_id, 0) < rule.probability
        ]

    def _concerns(
        self, number: int, rule: Rule, call: Call, subject: str, content_type: ContentType | None
    ) -> bool:
        if call not in rule.on:
            return False
        if rule.content_types and content_type not in rule.content_types:
            return False
        return rule.share == 1 or self._chance(number, "share", subject, 0) < rule.share

    def _strikes_now(self, number: int, rule: Rule, call: Call, subject: str, ordinal: int) -> bool:
        if ordinal < rule.nth:
            return False
        if rule.times != "always" and self._strikes[number, call, subject] >= rule.times:
            return False
        return rule.probability == 1 or self._chance(number, call, subject, ordinal) < rule.probability

    def _chance(self, number: int, purpose: str, subject: str, ordinal: int) -> float:
        """A number in [0, 1)."""
        text = f"{self._seed}/{number}/{purpose}/{subject}/{ordinal}"
        return xxhash.xxh3_64_intdigest(text.encode()) / 2**64
