"""What a plan acts on is kept of a record, whether the rule's text names it or not."""

from __future__ import annotations

from verdicts import packs

from m365watch.detection.engine.purposes import kept_fields
from m365watch.detection.fields.field_catalog import is_derived
from m365watch.detection.rules.containment import READS, WORDS


def test_what_a_plan_is_made_of_is_kept() -> None:
    """A rule that names a way to contain keeps the fields that the way is made of."""
    lacking = {
        (rule.name, word, field)
        for rule in packs().rules
        for word in rule.extension.contain
        for field in set(READS.get(word, ())) - set(kept_fields(rule))
    }

    assert lacking == set()


def test_every_word_and_field_that_plans_read_is_one() -> None:
    """No field is kept for a word that no rule may have, and none that nothing derives."""
    fields = {field for every in READS.values() for field in every}
    derived = {field.removeprefix("m365.") for field in fields if field.startswith("m365.")}

    assert set(READS) <= WORDS
    assert {field for field in derived if not is_derived(field)} == set()
