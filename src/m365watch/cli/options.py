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

CONFIG_VARIABLES = ("M365WATCH_CONFIG", "CONFIG_FILE")
"""The variables that name the configuration, the first that is set; the second is Devo's."""

CONFIG_NAME = "m365watch.yaml"
"""The name under which a configuration is looked for where none is named."""

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
    from m365watch.config.loader import load_settings

    path = require_config(config)
    return load_settings(path, environment=os.environ, for_reading=for_reading, for_board=for_board)


def configuration_files(config: Path | None, *, job: Path | None, collector: Path | None) -> tuple[Path, ...]:
    """The files that `read_settings` reads, given the same.

    Raises: typer.BadParameter: none is named, or both kinds are.
    """
    from m365watch.config.config_file import COLLECTOR_FILE, JOB_FILE

    pair = choose_pair(config, job, collector, environment=os.environ, standard=(JOB_FILE, COLLECTOR_FILE))
    return pair or (require_config(config),)


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
        typer.BadParameter: both kinds are named.
    """
    given = job is not None or collector is not None
    if config is not None and given:
        raise _misnamed("give either --config, or the two files of Devo's collector server")
    if given:
        return job or standard[0], collector or standard[1]
    if named_config(config, environment) is None and all(map(is_there, standard)):
        return standard
    return None


def named_config(config: Path | None, environment: Mapping[str, str]) -> Path | None:
    """The configuration that the command line or a variable names, else the first that is found.

    One that is named without its folder may be in the folder `config`, where Devo's collector looks as well.
    """
    named = config or next((Path(environment[one]) for one in CONFIG_VARIABLES if environment.get(one)), None)
    if named is None:
        return next(filter(is_there, config_places(environment)), None)
    beside = CONFIG_FOLDER / named
    return beside if not is_there(named) and not named.is_absolute() and is_there(beside) else named


def config_places(environment: Mapping[str, str]) -> tuple[Path, ...]:
    """Where a configuration is looked for: here, in the user's folder, and in that of the system."""
    user = environment.get("XDG_CONFIG_HOME") or Path(environment.get("HOME") or "/") / ".config"
    system = Path("/etc/m365watch")
    return (
        Path(CONFIG_NAME),
        Path(user) / "m365watch" / CONFIG_NAME,
        system / CONFIG_NAME,
        system / "config.yaml",
    )


def require_config(config: Path | None) -> Path:
    """The same; raises typer.BadParameter where none is named and none is found."""
    found = named_config(config, os.environ)
    if found is None:
        places = ", ".join(map(str, config_places(os.environ)))
        variables = " or ".join(CONFIG_VARIABLES)
        raise _misnamed(
            f"no configuration: looked for {places}; name one with --config or in {variables}, "
            "or write a first one with `m365watch init`"
        )
    return found


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
