"""A target that finds nothing proves nothing: each of these finds a bug that is put into the product."""

from __future__ import annotations

import pytest
from promises import guarantee

import fuzz_heads
import fuzz_sections
from fuzz_contract import Target
from fuzz_hunt import Source
from fuzz_trials import try_inputs
from m365watch.board.config_editor import change_validation
from m365watch.config.validation_report import KeyPath
from m365watch.http import bounded_listener

_why_not = change_validation._Judging._why_not


def without_variables(judging: change_validation._Judging, path: KeyPath, value: object) -> str | None:
    return None if "${" in str(value) else _why_not(judging, path, value)


HEADS, SECTIONS = fuzz_heads.TARGETS[0], fuzz_sections.TARGETS[0]
BUGS: dict[str, tuple[Target, object, str, object]] = {
    "headers without number": (HEADS, bounded_listener, "_HEADERS_MAX", 1 << 30),
    "heads without end": (HEADS, bounded_listener._Connection, "_count", lambda one, part: None),
    "a refusal without a word": (
        HEADS,
        bounded_listener._Connection,
        "_refuse",
        lambda one, status: one.abort,
    ),
    "places that are kept": (HEADS, bounded_listener.Listener, "release", lambda listener, one: None),
    "secrets that move": (SECTIONS, change_validation._Judging, "_why_not_kept", lambda judging: None),
    "files of the machine": (
        SECTIONS,
        change_validation._Judging,
        "_why_not_file",
        lambda judging, path, text: None,
    ),
    "entries of the keyring": (SECTIONS, change_validation, "is_reference", lambda text: False),
    "variables": (SECTIONS, change_validation._Judging, "_why_not", without_variables),
    "clouds for others": (
        SECTIONS,
        change_validation,
        "_reached_by_others",
        lambda kind, new, document: iter(()),
    ),
}


@guarantee(26)
@pytest.mark.slow
@pytest.mark.parametrize("name", BUGS)
def test_a_bug_that_is_planted_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target, owner, attribute, bug = BUGS[name]
    monkeypatch.setattr(owner, attribute, bug)

    source = Source(target, [], f"1/{name}/0", count=800, until_s=None, watches=False)
    finding = try_inputs(target, source.inputs, on_kept=lambda _: None).finding

    assert finding is not None
    assert finding.what.startswith("Broken")
