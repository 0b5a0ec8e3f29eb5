"""Everything that is hunted, in the order in which it is."""

from __future__ import annotations

import fuzz_answers
import fuzz_heads
import fuzz_lakes
import fuzz_plans
import fuzz_receivers
import fuzz_records
import fuzz_requests
import fuzz_rules
import fuzz_sections
import fuzz_settings
import fuzz_simulator
import fuzz_states
from fuzz_contract import Target

TARGETS: tuple[Target, ...] = (
    *fuzz_records.TARGETS,
    *fuzz_settings.TARGETS,
    *fuzz_rules.TARGETS,
    *fuzz_answers.TARGETS,
    *fuzz_requests.TARGETS,
    *fuzz_states.TARGETS,
    *fuzz_lakes.TARGETS,
    *fuzz_receivers.TARGETS,
    *fuzz_plans.TARGETS,
    *fuzz_simulator.TARGETS,
    *fuzz_heads.TARGETS,
    *fuzz_sections.TARGETS,
)
