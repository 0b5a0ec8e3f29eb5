"""What `status` says of a configuration that was refused while the collector ran."""

from __future__ import annotations

from datetime import UTC, datetime

from m365watch.cli.status.report_sections import configuration_document, configuration_lines
from m365watch.health.config_status import ConfigurationNote

NOW = datetime(2026, 1, 5, tzinfo=UTC)
CURE = "rename the output in the configuration and name another directory"


def test_a_refused_configuration_is_told_with_its_own_cure() -> None:
    """And of one that an older version noted, what helps with any mistake; programs get the cure too."""
    lines = {}
    for fix in (CURE, ""):
        note = ConfigurationNote(1.0, "m.json", 2.0, ["the lake ends with batch 0"], fix=fix)
        lines[fix] = [one.plain for one in configuration_lines(note, now=NOW)]
        assert (configuration_document(note) or {})["fix"] == fix

    assert lines[CURE][-1] == f"hint: {CURE}"
    assert lines[""][-1] == "hint: correct what is named; the file is read again once it is saved"
