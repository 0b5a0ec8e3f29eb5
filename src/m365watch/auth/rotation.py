"""Several credentials of one application: where one does not work the next is tried, and that is told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog

from m365watch.auth.factory import make_credentials
from m365watch.auth.refusals import code_of, is_known
from m365watch.common.clock import Clock
from m365watch.common.errors import CollectorError, CredentialsRefused, NeedsOperator, RetryLater, Unavailable
from m365watch.config.models.credentials import CredentialSettings
from m365watch.config.models.settings import TenantSettings
from m365watch.http.client import Session
from m365watch.http.settings import UNSET_NETWORK
from m365watch.registry.credential_specs import CREDENTIALS, Credential

_log = structlog.get_logger(__name__)

_SECOND = "second."


class CredentialFailed(Exception):
    """One credential did not work; carries what that amounts to."""

    def __init__(self, error: CollectorError) -> None:
        """`error` is what is told if no other credential works."""
        super().__init__()
        self.error = error


def is_of_credential(said: Mapping[str, object]) -> bool:
    """Whether a refusal of the token endpoint is about the credential and nothing else.

    It is if some kind of credential has a fix of its own for it; an unknown code counts if OAuth's own word
    for it says so.
    """
    code = code_of(said)
    if any(code in spec.fixes for spec in CREDENTIALS.specs):
        return True
    return (code is None or not is_known(code)) and said.get("error") == "invalid_client"


class Rotation:
    """An application's credentials, and which of them worked last; shared by all its tenants."""

    def __init__(self, credentials: Sequence[Credential]) -> None:
        """They are tried in the order given; there is at least one."""
        self._credentials = tuple(credentials)
        self._preferred = self._credentials[0]
        self._told: tuple[str, ...] = ()

    async def use(self, ask: Callable[[Credential], Awaitable[None]], *, where: str) -> None:
        """Ask with one credential after the other, what worked last first, until one works.

        Only `CredentialFailed` leads on; of a single credential its error is raised as it is. `where` is who
        asks.

        Raises: what `ask` raises; CredentialsRefused, or RetryLater where that may help: none works.
        """
        failures: list[tuple[Credential, CollectorError]] = []
        others = [one for one in self._credentials if one is not self._preferred]
        for credential in (self._preferred, *others):
            try:
                await ask(credential)
            except CredentialFailed as failed:
                failures.append((credential, failed.error))
            else:
                self._settle(credential, failures, where)
                return
        raise _together(failures, where)

    def _settle(
        self, credential: Credential, failures: Sequence[tuple[Credential, CollectorError]], where: str
    ) -> None:
        """Prefer what worked from now on; say, once, in whose place it is used."""
        self._preferred = credential
        if not failures:
            return
        names = (*(failed.name for failed, _ in failures), credential.name)
        if names == self._told:
            return
        self._told = names
        for failed, error in failures:
            fix = f"; {_fix_for(failed, error)}" if isinstance(error, NeedsOperator) and error.fix else ""
            _log.warning(
                f"{where}: credentials.{failed.name} does not work, and credentials.{credential.name} "
                f"is used in its place: {error.what}{fix}",
                code=error.code,
            )


class Applications:
    """The credentials of each application, made once however many tenants it reads."""

    def __init__(self, session: Session, clock: Clock) -> None:
        """Nothing is made yet."""
        # A managed identity is asked for on this machine or its link, where no proxy and no authority counts.
        self._session = session.over(UNSET_NETWORK)
        self._clock = clock
        self._made: dict[tuple[str, str, tuple[CredentialSettings, ...]], Rotation] = {}

    def of(self, tenant: TenantSettings) -> Rotation:
        """What the application of `tenant` proves itself with."""
        key = (tenant.client_id, tenant.cloud.name, tenant.credentials)
        if key not in self._made:
            made = make_credentials(
                tenant.client_id,
                tenant.credentials,
                session=self._session,
                clock=self._clock,
                cloud=tenant.cloud.name,
            )
            self._made[key] = Rotation(made)
        return self._made[key]


def _fix_for(credential: Credential, error: NeedsOperator) -> str:
    """What to do about the credential, at the key that it stands under."""
    if not credential.name.startswith(_SECOND) or f"credentials.{_SECOND}" in error.fix:
        return error.fix
    return error.fix.replace("credentials.", f"credentials.{_SECOND}")


def _together(failures: Sequence[tuple[Credential, CollectorError]], where: str) -> CollectorError:
    """One error for all: it names each credential with what is wrong with it."""
    if len(failures) == 1:
        return failures[0][1].with_traceback(None)
    what = "no credential works: " + "; ".join(
        f"credentials.{credential.name}: {error.what}" for credential, error in failures
    )
    passing = [error for _, error in failures if isinstance(error, RetryLater)]
    if passing:
        waits = [error.after_s for error in passing if error.after_s is not None]
        return Unavailable(what, where=where, after_s=min(waits, default=None))
    fixes = dict.fromkeys(
        _fix_for(credential, error) for credential, error in failures if isinstance(error, NeedsOperator)
    )
    return CredentialsRefused(what, fix=", or ".join(fixes), where=where)
