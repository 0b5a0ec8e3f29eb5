"""`m365watch consent`: let a tenant's administrator consent, and put the tenant into the configuration."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlunsplit

import typer

from m365watch.cli.configuration import ConfigOption
from m365watch.cli.program import is_there
from m365watch.cli.setup.consent_options import (
    FormOption,
    InputOption,
    NoWriteOption,
    RedirectUriOption,
    TenantOption,
    YesOption,
    parse_authority,
    parse_client_id,
    parse_clouds,
    parse_form,
    parse_redirect,
    read_config,
)
from m365watch.cli.tenants.file_change import command_line, require_somebody, write_tenant
from m365watch.cli.terminal.console import write_line
from m365watch.common.urls import split_url

if TYPE_CHECKING:
    from m365watch.auth.consent.authorization_request import ConsentAttempt, Redirect
    from m365watch.common.model import TenantId
    from m365watch.config.config_file import FileText
    from m365watch.config.models.settings import TenantSettings
    from m365watch.http.client import Session

ANYBODY = "common"
"""No tenant in particular: ANY_TENANT of `authorization_request`, which help does not import."""

consent = typer.Typer(
    help=(
        "Let a tenant's administrator consent to the application, and write the tenant into FILE.\n\n"
        "`serve` does all of it where a browser runs on this machine. Where it runs elsewhere, `url` makes"
        " the address to open, and `exchange` takes what the browser was sent back with."
    ),
    rich_markup_mode=None,
    no_args_is_help=True,
)
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON in place of text.")]
KeepOption = Annotated[
    Path | None,
    typer.Option(
        "--keep",
        metavar="FILE",
        help="A private file with what the answer is checked by: `url` writes it, `exchange` reads it.",
        show_default=False,
    ),
]


@consent.command("url")
def show_urls(
    config: ConfigOption = None,
    *,
    input_name: InputOption = None,
    client_id: Annotated[
        str | None,
        typer.Option("--client-id", metavar="GUID", help="The application, where there is no FILE yet."),
    ] = None,
    cloud: Annotated[
        str | None,
        typer.Option(
            "--cloud",
            metavar="NAME",
            help="worldwide, gcc, gcc-high, dod, china or all; left out, that of FILE, or worldwide.",
            show_default=False,
        ),
    ] = None,
    form: FormOption = None,
    tenant: TenantOption = ANYBODY,
    redirect_uri: RedirectUriOption = None,
    state: Annotated[str, typer.Option("--state", metavar="TEXT", help="A state of your own.")] = "",
    keep: KeepOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the addresses at which an administrator consents; with --form and one cloud, that one alone.

    With --keep the address carries a random state and a PKCE challenge, which `exchange --keep` checks.

    Exit codes: 0 printed; 1 FILE cannot be written; 2 the configuration or the call is wrong.
    """
    from m365watch.auth.consent.authorization_request import ConsentAttempt, ConsentForm

    known, clouds = _application_and_clouds(config, input_name, client_id=client_id, cloud=cloud)
    forms = list(ConsentForm) if form is None else [parse_form(form)]
    if keep is not None and (len(forms) > 1 or len(clouds) > 1 or state):
        raise typer.BadParameter("--keep is for one question: give --form, one cloud, and no --state")
    authority, uri = parse_authority(tenant), parse_redirect(redirect_uri)
    attempts = [
        ConsentAttempt(one, each, known, redirect_uri=uri, tenant=authority, state=state)
        for each in clouds
        for one in forms
    ]
    if keep is not None:
        attempts = [attempts[0].guarded()]
        _keep(keep, attempts[0], config)
    if as_json:
        _print_json(redirect_uri=uri, urls=[_url_document(attempt) for attempt in attempts])
    elif len(attempts) == 1:
        write_line(attempts[0].url)
    else:
        for attempt in attempts:
            write_line(f"{attempt.cloud.name:<10} {attempt.form:<6} {attempt.url}")


@consent.command()
def serve(
    config: ConfigOption = None,
    *,
    input_name: InputOption = None,
    form: FormOption = "admin",
    tenant: TenantOption = ANYBODY,
    redirect_uri: RedirectUriOption = None,
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            metavar="PORT",
            min=0,
            max=65_535,
            help="In place of the redirect URI's; 0 picks a free one.",
            show_default=False,
        ),
    ] = None,
    timeout_s: Annotated[
        float, typer.Option("--timeout", metavar="SECS", min=0.1, max=86_400, help="How long to wait.")
    ] = 600,
    opens: Annotated[
        bool, typer.Option("--open", help="Open the address in this machine's browser.")
    ] = False,
    yes: YesOption = False,
    no_write: NoWriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Print the address, wait on loopback for the administrator's answer, and write the tenant into FILE.

    The answer has to carry this question's random state, and a code is exchanged with its PKCE verifier.
    The tenant is the one that a token of Entra's names. What changes in FILE is shown before, and asked for.
    With --json, one line has the address, and another the tenant. A browser on another machine gets here
    by `ssh -L 8400:127.0.0.1:8400`; without that, use `url` and `exchange`.

    Exit codes: 0 the tenant is in FILE; 1 nobody consented, or you said no; 2 the configuration or the
    call is wrong.
    """
    from m365watch.auth.consent.authorization_request import ConsentAttempt
    from m365watch.auth.consent.redirect_server import listen_on_loopback

    if not no_write:
        require_somebody(yes=yes, instead="add --yes to write the tenant, or --no-write to only see it")
    asked, uri = parse_form(form or "admin"), parse_redirect(redirect_uri, is_served=True)
    file = read_config(config)
    application = _read_application(file, input_name)
    parts = split_url(uri)
    with listen_on_loopback(parts.port or 80 if port is None else port) as listener:
        here = f"{parts.hostname}:{listener.getsockname()[1]}"
        attempt = ConsentAttempt(
            asked,
            application.cloud,
            application.client_id,
            redirect_uri=urlunsplit(parts._replace(netloc=here, path=parts.path or "/")),
            tenant=parse_authority(tenant),
        ).guarded()
        _announce(attempt, timeout_s=timeout_s, opens=opens, as_json=as_json)
        found = _wait_for_answer(attempt, application, listener, timeout_s=timeout_s)
    _end(file, application.input_name, found, yes=yes, no_write=no_write, as_json=as_json)


@consent.command()
def exchange(
    redirect: Annotated[
        str | None,
        typer.Argument(
            metavar="[REDIRECT]",
            help="The whole address that the browser was sent back to; - reads it from standard input.",
            show_default=False,
        ),
    ] = None,
    config: ConfigOption = None,
    *,
    code: Annotated[
        str | None, typer.Option("--code", metavar="CODE", help="The code alone.", show_default=False)
    ] = None,
    input_name: InputOption = None,
    form: FormOption = None,
    tenant: TenantOption = ANYBODY,
    redirect_uri: RedirectUriOption = None,
    state: Annotated[
        str, typer.Option("--state", metavar="TEXT", help="What the answer's state has to be.")
    ] = "",
    keep: KeepOption = None,
    yes: YesOption = False,
    no_write: NoWriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Exchange a code that was brought by hand, and write the tenant of its token into FILE.

    Give the redirect as a whole, or --code. One of the admin-consent page has no code: a token is then
    asked for as the collector will ask for it, and has to name the same tenant.

    Exit codes: 0 the tenant is in FILE; 1 refused, or you said no; 2 the configuration or the call is wrong.
    """
    from m365watch.auth.consent.authorization_request import ConsentAttempt

    if not no_write:
        require_somebody(yes=yes, instead="add --yes to write the tenant, or --no-write to only see it")
    file = read_config(config)
    application = _read_application(file, input_name)
    address, query = _answer_given(redirect, code)
    if keep is not None:
        attempt = _kept_attempt(keep, application)
    else:
        asked = form or ("admin" if "admin_consent=" in query else "code")
        attempt = ConsentAttempt(
            parse_form(asked),
            application.cloud,
            application.client_id,
            redirect_uri=parse_redirect(redirect_uri),
            tenant=parse_authority(tenant),
            state=state,
        )
    found = _exchange_by_hand(address, query, attempt, application)
    if keep is not None:
        with suppress(OSError):
            keep.unlink()
    _end(file, application.input_name, found, yes=yes, no_write=no_write, as_json=as_json)


def _application_and_clouds(
    config: Path | None, input_name: str | None, *, client_id: str | None, cloud: str | None
) -> tuple[str, list[Any]]:
    """Which application asks, and in which clouds."""
    if client_id is not None:
        if config is not None:
            raise typer.BadParameter("give either --config or --client-id")
        return parse_client_id(client_id), parse_clouds(cloud or "worldwide")
    application = _read_application(read_config(config), input_name, for_reading=True)
    return application.client_id, parse_clouds(cloud) if cloud else [application.cloud]


def _read_application(file: FileText, input_name: str | None, *, for_reading: bool = False) -> TenantSettings:
    from m365watch.common.errors import SettingsRefused
    from m365watch.config.editor.tenants import read_application
    from m365watch.http.proxies import check_proxies
    from m365watch.http.tls import check_bundle_variable

    application = read_application(file, input_name, environment=os.environ, for_reading=for_reading)
    if not application.client_id:
        mistake = f"inputs.{application.input_name}.credentials.client_id: is missing; consent is to it"
        raise SettingsRefused([mistake], where=str(file.path))
    if not for_reading:
        url, network = application.cloud.login_url, application.network
        check_proxies([(url, network)])
        if url.startswith("https:") and network.ca_bundle is None:
            check_bundle_variable(os.environ)
    return application


def _keep(path: Path, attempt: ConsentAttempt, config: Path | None) -> None:
    from m365watch.auth.consent.authorization_request import write_attempt
    from m365watch.common.atomic_files import NewFile, write_new_files
    from m365watch.common.errors import NeedsOperator

    try:
        write_new_files([NewFile(path, write_attempt(attempt).encode())])
    except NeedsOperator as error:
        raise NeedsOperator(error.what, where=error.where, fix="name another file with --keep") from None
    words = ["consent", "exchange", "--keep", str(path), "--config", str(config or "FILE")]
    sys.stderr.write(f"kept in {path}; with the answer: {command_line(*words)}\n")


def _kept_attempt(path: Path, application: TenantSettings) -> ConsentAttempt:
    """The attempt of the file, if it is one of this application; raises typer.BadParameter."""
    from m365watch.auth.consent.authorization_request import read_attempt

    try:
        return read_attempt(_private_text(path), cloud=application.cloud, client_id=application.client_id)
    except ValueError as error:
        raise typer.BadParameter(f"--keep: {path} {error}") from None
    except FileNotFoundError:
        raise typer.BadParameter(f"--keep: {path} is not there") from None


def _private_text(path: Path) -> str:
    """What the file holds; raises ValueError where others can read it."""
    from m365watch.common.file_access import read_small_file

    content, mode = read_small_file(path, bytes_max=65_536)
    if mode & 0o077:
        raise ValueError("can be read by others; make a new one")
    return content.decode("utf-8", "replace")


def _announce(attempt: ConsentAttempt, *, timeout_s: float, opens: bool, as_json: bool) -> None:
    """Tell the address; what else there is to say is no answer and goes to stderr."""
    if as_json:
        _print_json(redirect_uri=attempt.redirect_uri, timeout_s=timeout_s, **_url_document(attempt))
    else:
        sys.stderr.write("open this address in a browser, as an administrator of the tenant:\n")
        write_line(attempt.url)
        sys.stderr.write(f"waiting up to {timeout_s:g} s for the answer at {attempt.redirect_uri},\n")
        sys.stderr.write("which the application has to have among its redirect URIs (Authentication, Web)\n")
    sys.stderr.flush()
    if opens:
        import webbrowser

        if not webbrowser.open(attempt.url):
            sys.stderr.write("no browser can be started here; open the address yourself\n")


def _wait_for_answer(
    attempt: ConsentAttempt, application: TenantSettings, listener: Any, *, timeout_s: float
) -> TenantId:
    from m365watch.auth.consent.redirect_server import RedirectServer
    from m365watch.cli.event_loop import run_in_loop
    from m365watch.http.client import open_session

    def warn() -> None:
        sys.stderr.write("warning: an answer to another question was refused; still waiting\n")
        sys.stderr.flush()

    async def wait() -> TenantId:
        async with open_session(application.network) as session:

            async def finish(redirect: Redirect) -> TenantId:
                return await _find_tenant(redirect, attempt, application, session)

            server = RedirectServer(attempt, finish, on_foreign=warn)
            return await server.wait(listener, timeout_s=timeout_s)

    return run_in_loop(wait())


async def _find_tenant(
    redirect: Redirect, attempt: ConsentAttempt, application: TenantSettings, session: Session
) -> TenantId:
    from m365watch.auth.consent.code_exchange import find_tenant
    from m365watch.auth.factory import make_credentials
    from m365watch.common.clock import SystemClock

    clock = SystemClock()
    credentials = make_credentials(
        application.client_id,
        application.credentials,
        session=session,
        clock=clock,
        cloud=application.cloud.name,
    )
    return await find_tenant(redirect, attempt, session, credentials=credentials, clock=clock)


def _answer_given(redirect: str | None, code: str | None) -> tuple[str, str]:
    """The address that was given without its query, and the query; raises typer.BadParameter."""
    from urllib.parse import urlencode

    if redirect in (None, "-") and code is None and sys.stdin.isatty():
        sys.stderr.write("paste the whole address that the browser was sent back to: ")
        sys.stderr.flush()
        redirect = "-"
    if (redirect is None) == (code is None):
        raise typer.BadParameter(
            "give the whole REDIRECT in quotes, - to have it read from standard input, or --code CODE"
        )
    if code is not None:
        return "", urlencode({"code": code.strip()})
    text = sys.stdin.readline() if redirect == "-" else redirect or ""
    if not text.strip():
        raise typer.BadParameter("standard input has no line; give it the address that the browser shows")
    address, mark, query = text.strip().partition("?")
    if not mark:
        raise typer.BadParameter("REDIRECT has no query; give the whole address that the browser shows")
    return address, query.partition("#")[0]


def _exchange_by_hand(
    address: str, query: str, attempt: ConsentAttempt, application: TenantSettings
) -> TenantId:
    from m365watch.auth.consent.authorization_request import ForeignAnswer, read_redirect
    from m365watch.cli.event_loop import run_in_loop
    from m365watch.common.errors import ConsentRefused
    from m365watch.http.client import open_session

    if address and address != attempt.redirect_uri:
        raise typer.BadParameter(
            f"REDIRECT does not start with {attempt.redirect_uri}; name its own with --redirect-uri"
        )
    if address and not attempt.state:
        sys.stderr.write("warning: no state is checked; `consent url --keep` lets the answer be checked\n")
    given = query if address or not attempt.state else f"{query}&state={attempt.state}"
    try:
        redirect = read_redirect(given, attempt)
    except ForeignAnswer:
        raise ConsentRefused(
            "the answer's state is not that of the question", fix="make a new address and open it"
        ) from None

    async def find() -> TenantId:
        async with open_session(application.network) as session:
            return await _find_tenant(redirect, attempt, application, session)

    return run_in_loop(find())


def _end(
    file: FileText, input_name: str, found: TenantId, *, yes: bool, no_write: bool, as_json: bool
) -> None:
    """Write the tenant, and tell it."""
    if not as_json:
        write_line(f"tenant {found} has consented")
    written = False if no_write else write_tenant(file, input_name, found, yes=yes)
    if as_json:
        _print_json(tenant_id=found, input=input_name, config=str(file.path), written=written)
    elif not no_write:
        name = "check" if is_there("check") else "run"
        sys.stderr.write(f"next: {command_line(name, '--config', str(file.path))}\n")


def _url_document(attempt: ConsentAttempt) -> dict[str, Any]:
    return {"cloud": attempt.cloud.name, "form": str(attempt.form), "url": attempt.url}


def _print_json(**document: Any) -> None:
    from m365watch.cli.terminal.json_output import SCHEMA, as_json

    write_line(as_json({"schema": SCHEMA, **document}))
