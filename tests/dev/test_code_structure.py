"""The counter of code: what counts as a statement, as product, and as a shape to be mended."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.code_structure import count_statements, main, measure


def checkout(folder: Path, files: dict[str, str]) -> Path:
    """A checkout of these files."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def test_docstrings_and_placeholders_are_no_statements(tmp_path: Path) -> None:
    """What is left is counted at any depth."""
    path = tmp_path / "one.py"
    path.write_text(
        '"""Says."""\nclass A:\n    """Says."""\n    def f(self): ...\n    def g(self):\n        x = 1\n'
    )

    assert count_statements(path) == 4


def test_companions_are_no_product_wherever_they_lie(tmp_path: Path) -> None:
    """Moving the simulator out of the package changes no figure."""
    inside = measure(
        checkout(
            tmp_path / "a", {"src/m365watch/app.py": "x = 1", "src/m365watch/simulator/a.py": "y = 1\nz = 2"}
        )
    )
    beside = measure(
        checkout(
            tmp_path / "b", {"src/m365watch/app.py": "x = 1", "src/m365watch_simulator/a.py": "y = 1\nz = 2"}
        )
    )

    assert inside == beside
    assert (inside["product: statements"], inside["companions: statements"]) == (1, 2)


def test_shape_is_told_by_folders_and_names(tmp_path: Path) -> None:
    """The fullest folder, modules at the top, names of verbs, and files that name an output."""
    figures = measure(
        checkout(
            tmp_path,
            {
                "src/m365watch/__init__.py": "",
                "src/m365watch/boarding.py": "from outputs import DevoHttpOutput",
                "src/m365watch/lake/writer.py": "",
                "src/m365watch/lake/merging.py": "kind = 'devo_http'",
                "src/m365watch/lake/schema.py": "session_identity = 1",
            },
        )
    )

    assert figures["modules at the top of the package"] == 1
    assert figures["modules of the fullest folder"] == 3
    assert figures["modules named by a verb (-ing)"] == 2
    assert figures["files for one output (devo_http)"] == 2
    assert figures["files for one column of the lake (session_id)"] == 0


def test_two_checkouts_stand_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the ratio of the second to the first."""
    old = checkout(tmp_path / "old", {"src/m365watch/a.py": "x = 1\ny = 2\n"})
    new = checkout(tmp_path / "new", {"src/m365watch/a.py": "x = 1\n"})

    assert main([str(old), str(new)]) == 0

    [row] = [line for line in capsys.readouterr().out.splitlines() if "product: statements" in line]
    assert [cell.strip() for cell in row.split("|")[2:5]] == ["2", "1", "0.500"]
