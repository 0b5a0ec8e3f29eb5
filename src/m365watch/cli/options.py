"""Which configuration a command reads: one file, or the two of Devo's collector server."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from m365watch.common.errors import SettingsRefused
from m365watch.common.file_access import is_there

if TYPE_CHECKING:
    from typer import BadParameter

    from m365watch.config.models.settings import Settings

CONFIG_VARIABLE = "CONFIG_FILE"
"""The variable in which Devo's containers have the configuration's name."""

CONFIG_FOLDER = Path("config")
"""Where Devo's collector looks for a configuration that is named without its folder."""


def read_settings(
    config: Path | None,
    *,
    job: Path | None,
    collector: Path | None,
    for_reading: bool = False,
    for_board: bool = False,
) -> Settings:
    """The settings of the configuration that the command line, or else the environment, names.

    With `for_reading`, for commands that send nothing, no secret has to be there, and the environment's
    proxy does not matter. With `for_board` those of the section `board` have to be there all the same.

    Raises:
        SettingsRefused: it cannot be used, or the way to the service cannot; every mistake in it is named.
        typer.BadParameter: none is named, or both kinds are.
    """
    settings = _read_files(config, job=job, collector=collector, for_reading=for_reading, for_board=for_board)
    if not for_reading:
        _check_ways(settings)
    return settings


def _check_ways(settings: Settings) -> None:
    """Refuse an environment by which a server of the configuration cannot be reached."""
    from m365watch.http.proxies import check_proxies
    from m365watch.http.tls import check_bundle_variable

    addresses = [
        (url, tenant.network)
        for tenant in settings.tenants
        for url in (tenant.cloud.login_url, tenant.cloud.management_url)
    ]
    addresses += [route for output in settings.outputs if (route := output.http_route)]
    check_proxies(addresses)
    if any(url.startswith("https:") and network.ca_bundle is None for url, network in addresses):
        check_bundle_variable(os.environ)


def _read_files(
    config: Path | None, *, job: Path | None, collector: Path | None, for_reading: bool, for_board: bool
) -> Settings:
    from m365watch.config.config_file import COLLECTOR_FILE, JOB_FILE

    pair = choose_pair(config, job, collector, environment=os.environ, standard=(JOB_FILE, COLLECTOR_FILE))
    if pair is not None:
        from m365watch.config.loader import load_server_settings

        return load_server_settings(
            job=pair[0],
            collector=pair[1],
            environment=os.environ,
            for_reading=for_reading,
            for_board=for_board,
        )
    path = find_config(config or Path(os.environ[CONFIG_VARIABLE]))
    from m365watch.config.loader import load_settings

    return load_settings(path, environment=os.environ, for_reading=for_reading, for_board=for_board)


def configuration_files(config: Path | None, *, job: Path | None, collector: Path | None) -> tuple[Path, ...]:
    """The files that `read_settings` reads, given the same.

    Raises: typer.BadParameter: none is named, or both kinds are.
    """
    from m365watch.config.config_file import COLLECTOR_FILE, JOB_FILE

    pair = choose_pair(config, job, collector, environment=os.environ, standard=(JOB_FILE, COLLECTOR_FILE))
    return pair or (find_config(config or Path(os.environ[CONFIG_VARIABLE])),)


def choose_pair(
    config: Path | None,
    job: Path | None,
    collector: Path | None,
    *,
    environment: Mapping[str, str],
    standard: tuple[Path, Path],
) -> tuple[Path, Path] | None:
    """The job's and the collector's file, `standard` where one is left out; None for a single configuration.

    Raises:
        typer.BadParameter: nothing is named, or both kinds are.
    """
    given = job is not None or collector is not None
    if config is not None and given:
        raise _misnamed("give either --config, or the two files of Devo's collector server")
    if given:
        return job or standard[0], collector or standard[1]
    if config is not None or environment.get(CONFIG_VARIABLE):
        return None
    if all(map(is_there, standard)):
        return standard
    raise _misnamed("name a configuration with --config; `m365watch init` writes a first one")


def find_config(named: Path) -> Path:
    """The file; one that is not there is looked for in the folder `config`, as Devo's collector does."""
    beside = CONFIG_FOLDER / named
    return beside if not is_there(named) and not named.is_absolute() and is_there(beside) else named


@contextmanager
def state_of(settings: Settings, *, no_save_state: bool) -> Iterator[Settings]:
    """The settings with their state where it is kept, or in a temporary folder that goes at the end.

    Raises:
        SettingsRefused: there is a lake or a files output, which tell by the state what they hold already.
    """
    if settings.keeps_state and not no_save_state:
        yield settings
        return
    refuse_bound(settings)
    told = settings.warnings
    # Not before: with all that it brings along it takes 2 ms of a start.
    from tempfile import TemporaryDirectory

    if no_save_state:
        told += ("--no-save-state: the next run reads and delivers again all that Microsoft still serves",)
    with TemporaryDirectory(prefix="m365watch-") as folder:
        yield replace(settings, state_directory=Path(folder), keeps_state=False, warnings=told)


def refuse_bound(settings: Settings) -> None:
    """Raises: SettingsRefused: an output tells by the state what it holds, and the state is not kept."""
    bound = [output.name for output in settings.outputs if output.folder is not None]
    if bound:
        mistake = f"--no-save-state: outputs.{bound[0]} cannot do without the state; leave the flag out"
        raise SettingsRefused([mistake], where=str(settings.path))


def _misnamed(what: str) -> BadParameter:
    # Not before: a run that is told all it needs does without the library.
    from typer import BadParameter

    return BadParameter(what)


def writes_records(settings: Settings) -> bool:
    """Whether an output writes records on stdout, so that nothing else may."""
    return any(output.uses_stdout for output in settings.outputs)
