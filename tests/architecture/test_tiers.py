"""`./dev test --quick` has something of every promise and every package, whatever is marked slow."""

from __future__ import annotations

import re

from sources import PACKAGE, ROOT
from tools.guarantees_page import PAGE, list_promises, list_tests, read_tests

_IMPORTED = re.compile(r"^\s*(?:from|import) m365watch\.(\w+)", re.MULTILINE)


def test_every_promise_has_a_quick_test() -> None:
    """Who breaks a promise learns it at the desk."""
    promises = list_promises((ROOT / PAGE).read_text("utf-8"))
    quick = {number for test in list_tests() if not test.is_slow for number in test.promises}

    assert [number for number, _ in promises if number not in quick] == []


def test_every_package_has_a_quick_test() -> None:
    """A file counts for the packages that it imports."""
    missing = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        text = path.read_text("utf-8")
        found = missing.intersection(_IMPORTED.findall(text))
        if found and any(not test.is_slow for test in read_tests(path.name, text)):
            missing -= found

    assert missing == set()
