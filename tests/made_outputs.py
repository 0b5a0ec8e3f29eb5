"""Outputs as a configuration has them, made without one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import SecretStr

from m365watch.http.settings import TlsSettings
from m365watch.outputs.console.spec import ConsoleSection
from m365watch.outputs.devo.spec import DevoConfig, DevoSection
from m365watch.outputs.devo_http.spec import DevoHttpConfig, DevoHttpSection
from m365watch.outputs.files.spec import FilesConfig, FilesSection
from m365watch.outputs.lake.spec import LakeConfig, LakeSection
from m365watch.outputs.syslog.spec import SyslogConfig, SyslogSection


def lake_in(directory: Path, name: str = "lake") -> LakeSection:
    return LakeSection(type="lake", config=LakeConfig(directory=directory)).named(name)


def files_in(directory: Path, name: str = "files", **options: Any) -> FilesSection:
    """`options` are not checked, so that they may be smaller than those of a file."""
    made = FilesSection(type="files", config=FilesConfig(directory=directory)).named(name)
    return made.with_options(**options)


def console(name: str = "console") -> ConsoleSection:
    return ConsoleSection(type="console").named(name)


def syslog_to(address: str, port: int, name: str = "syslog", **options: Any) -> SyslogSection:
    """`options` are not checked."""
    config = SyslogConfig(address=address, port=port)
    return SyslogSection(type="syslog", config=config).named(name).with_options(**options)


def devo_http_to(endpoint: str, token: str, **options: Any) -> DevoHttpSection:
    """`options` are not checked."""
    config = DevoHttpConfig(endpoint=endpoint, domain="acme", token=SecretStr(token))
    return DevoHttpSection(type="devo_http", config=config).named("devo").with_options(**options)


def devo_to(address: str, port: int, tls: TlsSettings, **options: Any) -> DevoSection:
    """`options` are not checked."""
    made = DevoConfig.model_construct(address=address, port=port, **options_of(tls) | options)
    return DevoSection(type="devo_platform", config=made).named("devo")


def options_of(tls: TlsSettings) -> dict[str, Any]:
    """The options of an output that come to these."""
    password = tls.key_password
    return {
        "chain": tls.chain,
        "cert": tls.cert,
        "key": tls.key,
        "key_password": None if password is None else SecretStr(password.reveal()),
        "verify_hostname": tls.verify_hostname,
    }
