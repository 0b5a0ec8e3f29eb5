"""Configurations with an output on a wire."""

from __future__ import annotations

from pathlib import Path

import pytest

from m365watch.config.models.settings import Settings
from m365watch.registry.output_specs import OutputSettings
from settings_documents import Document, filled_in, mistakes_of, settings_of

EU = "collector-eu.devo.io"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"
PRIVATE_KEY = "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"
DEVO = {"address": EU, "port": 443, "type": "SSL", "chain": "chain.crt", "cert": "me.crt", "key": "me.key"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A configuration's folder with the three files of a Devo domain in it."""
    for name, text in (("chain.crt", CERTIFICATE), ("me.crt", CERTIFICATE), ("me.key", PRIVATE_KEY)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    return tmp_path


def document_of(kind: str, config: object, **rest: object) -> Document:
    return filled_in() | {"outputs": {"out": {"type": kind, "config": config}}} | rest


def settings_with(folder: Path, kind: str, config: object, **rest: object) -> Settings:
    return settings_of(document_of(kind, config, **rest), path=folder / "config.yaml")


def output_of(folder: Path, kind: str, config: object, **rest: object) -> OutputSettings:
    (output,) = settings_with(folder, kind, config, **rest).outputs
    return output


def mistakes_with(folder: Path, kind: str, config: object, **rest: object) -> list[str]:
    return [
        line.removeprefix("outputs.out.")
        for line in mistakes_of(document_of(kind, config, **rest), path=folder / "config.yaml")
    ]
