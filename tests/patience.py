"""How long a test waits for what has to happen."""

from __future__ import annotations

PATIENCE_S = 120.0
"""Nothing but a hang takes as long: on a machine that has other things to do, a second's work takes many."""

STOPPED_WITHIN_S = 30.0
"""How long a collector may take to stop where it is to do so in good time: the 10 s that are promised, on a
machine that is three times as slow."""
