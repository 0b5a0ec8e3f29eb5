"""Marks the tests that hold promises of docs/guarantees.md: `@guarantee(3)`, or `@guarantee(3, 7)`."""

from __future__ import annotations

import pytest

guarantee = pytest.mark.guarantee
