"""The papers: what is committed speaks of the project alone, and says what is true."""

from __future__ import annotations

import os
import re
import tomllib

import pytest

import m365watch
from sources import ROOT, list_committed_files

REGISTRY_HOST = re.compile(r"pypi[.]org|pythonhosted[.]org|npmjs[.](org|com)|(deb|security)[.]debian[.]org")
MACHINE_PATH = re.compile(
    r"""(?<![\w.}>*-])/(?:[w]ork|[r]oot|(?:[h]ome|[U]sers)/[a-z_]\w*)(?=[/\s'"`),]|$)"""
)
LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)")
README_LINES_MAX = 120


def read_texts() -> list[tuple[str, str]]:
    """Each committed text with its name; what is not UTF-8 is no text."""
    texts = []
    for path in list_committed_files():
        try:
            texts.append((str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")))
        except UnicodeDecodeError:
            continue
    return texts


@pytest.mark.parametrize("pattern", [REGISTRY_HOST, MACHINE_PATH])
def test_no_committed_file_names_a_place_of_ours(pattern: re.Pattern[str]) -> None:
    """A registry's host or a folder of somebody's machine would tie the project to it."""
    assert [
        f"{name}: {match.group()}" for name, text in read_texts() for match in [pattern.search(text)] if match
    ] == []


def test_a_machine_path_is_told_from_a_url() -> None:
    """The check above sees folders of a machine, and no parts of other paths."""
    found = [
        text
        for text in ("see /wo" + "rk/x", "'/ho" + "me/ann/x'", "in /ro" + "ot.")
        if MACHINE_PATH.search(text)
    ]

    assert len(found) == 2
    assert not MACHINE_PATH.search("https://host/wo" + "rk/x and ${HOME}/ro" + "ot/x")


def test_the_readme_is_short() -> None:
    """A newcomer reads it to the end."""
    assert len((ROOT / "README.md").read_text().splitlines()) < README_LINES_MAX


def test_links_between_the_papers_lead_somewhere() -> None:
    """A page that is named is there."""
    assert [
        f"{name}: {target}"
        for name, text in read_texts()
        if name.endswith(".md")
        for target in LINK.findall(text)
        if not ((ROOT / name).parent / target).exists()
    ] == []


@pytest.mark.parametrize(
    "name", ["LICENSE", "README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"]
)
def test_every_paper_is_there(name: str) -> None:
    """A project that is given away says what it is, how it is built and whom to tell."""
    assert (ROOT / name).stat().st_size > 0


@pytest.mark.parametrize("name", ["dev", ".ci/run"])
def test_scripts_can_be_run(name: str) -> None:
    """A fresh checkout can run them as they are."""
    assert os.access(ROOT / name, os.X_OK)


def test_the_changelog_knows_the_version() -> None:
    """The newest heading of the changelog is the version that the package reports."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)

    assert newest
    assert newest.group(1) == project["version"] == m365watch.__version__
