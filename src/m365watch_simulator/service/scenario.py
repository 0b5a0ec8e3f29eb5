"""A scenario: how the simulated service departs from its good days, read from a small YAML file."""

from __future__ import annotations

import re
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from m365watch.common.errors import SettingsRefused
from m365watch.common.model import ContentType
from m365watch_simulator.entra.aadsts import aadsts_codes


class Call(StrEnum):
    """What a rule strikes: the calls of a collector, and the content of a blob itself."""

    TOKEN = "token"
    SUBSCRIPTIONS = "subscriptions"
    START = "start"
    LIST = "list"
    """The first page of a listing."""
    PAGE = "page"
    """Every further page."""
    FETCH = "fetch"
    GRAPH = "graph"
    """Every call of Graph's audit log queries; its subject is the tenant."""
    APPLICATION = "application"
    """Graph's account of an application's credentials; its subject is the tenant."""
    ANNOUNCEMENTS = "announcements"
    """Graph's service announcements; its subject is the tenant."""
    NOTIFY = "notify"
    """Not a call to the service but one of its own: a notification; its subject is the blob."""
    CONTENT = "content"
    """Not a call: what a blob holds, decided once when the blob is made."""


class Answer(StrEnum):
    """What is answered in place of the right answer."""

    AF429_AS_403 = "af429_as_403"
    AF429_AS_429 = "af429_as_429"
    RETRY_AFTER = "retry_after"
    RETRY_AFTER_DATE = "retry_after_date"
    HTML_404 = "html_404"
    HTML_500 = "html_500"
    HTML_503 = "html_503"
    TIMEOUT_408 = "timeout_408"
    AF10001 = "af10001"
    AF50000 = "af50000"
    UNAUTHORIZED = "unauthorized_message"
    EXPIRED = "expired"
    UNKNOWN = "unknown"
    INVALID_KEY = "invalid_key"
    NEXT_PAGE_REFUSED = "next_page_refused"
    DROP_SUBSCRIPTION = "drop_subscription"
    DISABLE_SUBSCRIPTION = "disable_subscription"
    RESET = "reset"
    STALL = "stall"
    REDIRECT = "redirect"
    EMPTY_BODY = "empty_body"
    EMPTY_ARRAY = "empty_array"
    ERROR_OBJECT_200 = "error_object_200"
    INVALID_JSON = "invalid_json"
    TRUNCATED = "truncated"
    TRUNCATED_GZIP = "truncated_gzip"
    SLOW_DRIP = "slow_drip"
    BOM = "bom"
    PADDED = "padded"
    PRETTY_ARRAY = "pretty_array"
    GARBAGE_CONTENT_URI = "garbage_content_uri"
    GARBAGE_NEXT_PAGE = "garbage_next_page"
    REPEATED_PAGE = "repeated_page"
    AADSTS = "aadsts"
    TOKEN_WITHOUT_ROLES = "token_without_roles"
    SHORT_TOKEN = "short_token"
    LONE_SURROGATE = "lone_surrogate"
    NAN = "nan"
    WITHOUT_ID = "without_id"
    HUGE_RECORD = "huge_record"
    UNREADABLE_RECORD = "unreadable_record"
    LOST_NOTIFICATION = "lost_notification"
    DOUBLED_NOTIFICATION = "doubled_notification"
    LATE_NOTIFICATION = "late_notification"


_ONLY_ON: dict[Answer, frozenset[Call]] = {
    Answer.AF10001: frozenset({Call.SUBSCRIPTIONS, Call.START, Call.LIST, Call.PAGE, Call.FETCH}),
    Answer.EXPIRED: frozenset({Call.FETCH}),
    Answer.UNKNOWN: frozenset({Call.FETCH}),
    Answer.INVALID_KEY: frozenset({Call.FETCH}),
    Answer.EMPTY_ARRAY: frozenset({Call.FETCH}),
    Answer.PADDED: frozenset({Call.FETCH}),
    Answer.PRETTY_ARRAY: frozenset({Call.FETCH}),
    Answer.TRUNCATED_GZIP: frozenset({Call.FETCH}),
    Answer.NEXT_PAGE_REFUSED: frozenset({Call.PAGE}),
    Answer.DROP_SUBSCRIPTION: frozenset({Call.LIST, Call.PAGE, Call.FETCH}),
    Answer.DISABLE_SUBSCRIPTION: frozenset({Call.LIST, Call.PAGE, Call.FETCH}),
    Answer.GARBAGE_CONTENT_URI: frozenset({Call.LIST, Call.PAGE}),
    Answer.GARBAGE_NEXT_PAGE: frozenset({Call.LIST, Call.PAGE}),
    Answer.REPEATED_PAGE: frozenset({Call.PAGE}),
    Answer.AADSTS: frozenset({Call.TOKEN}),
    Answer.TOKEN_WITHOUT_ROLES: frozenset({Call.TOKEN}),
    Answer.SHORT_TOKEN: frozenset({Call.TOKEN}),
    Answer.LONE_SURROGATE: frozenset({Call.CONTENT}),
    Answer.NAN: frozenset({Call.CONTENT}),
    Answer.WITHOUT_ID: frozenset({Call.CONTENT}),
    Answer.HUGE_RECORD: frozenset({Call.CONTENT}),
    Answer.UNREADABLE_RECORD: frozenset({Call.CONTENT}),
    Answer.LOST_NOTIFICATION: frozenset({Call.NOTIFY}),
    Answer.DOUBLED_NOTIFICATION: frozenset({Call.NOTIFY}),
    Answer.LATE_NOTIFICATION: frozenset({Call.NOTIFY}),
}
"""Answers that fit some calls only; the others fit every call but `content` and `notify`."""

_HARMLESS = frozenset({Answer.SLOW_DRIP, Answer.BOM, Answer.PADDED, Answer.PRETTY_ARRAY})
"""Odd answers to a fetch that still hold every record."""

_BOOLEAN = "tag:yaml.org,2002:bool"
_CALLS = frozenset(Call) - {Call.CONTENT, Call.NOTIFY}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Rule(_Strict):
    """One departure: whom it strikes, when, and how often."""

    on: tuple[Call, ...]
    """One call or a list of them."""
    answer: Answer
    share: float = Field(default=1.0, gt=0, le=1)
    """The share of blobs (fetch, content) or feeds (other calls) that is struck at all."""
    probability: float = Field(default=1.0, gt=0, le=1)
    """The chance of each single request to be struck."""
    nth: int = Field(default=1, ge=1)
    """The first request for the same blob or feed that can be struck."""
    times: int | Literal["always"] = 1
    """How often the same blob or feed is struck at most; `always` makes the fault permanent."""
    content_types: tuple[ContentType, ...] = ()
    """Only these; all where empty."""
    after_s: float = Field(default=1.0, ge=0)
    """Retry-After, for the answers that carry it, and how late a `late_notification` is."""
    duration_s: float = Field(default=1.0, ge=0)
    """How long `slow_drip` and `stall` take, and how long a `short_token` lives."""
    size_bytes: int = Field(default=32 * 1024 * 1024, ge=1)
    """How large `padded` makes a body and `huge_record` a record."""
    code: int = 90033
    """The code of `aadsts`."""

    @field_validator("on", "content_types", mode="before")
    @classmethod
    def _as_list(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("code")
    @classmethod
    def _known(cls, value: int) -> int:
        if value not in aadsts_codes():
            msg = f"give one of {', '.join(map(str, aadsts_codes()))}"
            raise ValueError(msg)
        return value

    @field_validator("times")
    @classmethod
    def _at_least_once(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            msg = "give a number from 1 on, or always"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _fits(self) -> Rule:
        fitting = _ONLY_ON.get(self.answer, _CALLS)
        wrong = [call for call in self.on if call not in fitting]
        if wrong:
            msg = f"{self.answer} does not fit {', '.join(wrong)}; it fits {', '.join(sorted(fitting))}"
            raise ValueError(msg)
        return self

    @property
    def permanent(self) -> bool:
        """Whether a struck blob or feed never gets the right answer."""
        return self.times == "always" and self.probability == 1 and self.nth == 1

    @property
    def hides_content(self) -> bool:
        """Whether a blob answered so does not hand its records out."""
        return self.answer not in _HARMLESS


class Incident(_Strict):
    """A service incident: what happened in a span comes out late, together, and partly twice."""

    began_h_ago: float = Field(gt=0, le=167)
    """Hours before the start of the simulator."""
    hours: float = Field(gt=0)
    released_h_ago: float = Field(ge=0)
    """When the records came out; not before the incident's end."""


class Behaviour(_Strict):
    """The service's switches; each default is a good day."""

    blob_media_type: Literal["application/octet-stream", "application/json; charset=utf-8"] = (
        "application/octet-stream"
    )
    """Under which Content-Type blobs are served."""
    expiration_days: float = Field(default=7.0, gt=0)
    """contentExpiration after contentCreated: 7 documented, about 20 observed."""
    lookback_slack_s: float = Field(default=3600.0, ge=0)
    """How much more than 7 days back a window may start."""
    start_cooldown_s: float = Field(default=0.0, ge=0)
    """How long a subscription cannot be started again; 900 documented, hardly enforced."""
    limbo_s: float = Field(default=0.0, ge=0)
    """How long a start right after a stop leaves the subscription dead."""
    page_token_life_s: float = Field(default=3600.0, gt=0)
    """After which a NextPageUri is refused with AF20031."""
    token_life_s: int = Field(default=3599, ge=1)
    roles: tuple[str, ...] = ("ActivityFeed.Read", "ActivityFeed.ReadDlp")
    """Empty: tokens carry no roles and the API answers AF10001."""
    token_tenant: str | None = None
    """The tenant that tokens name in place of their own."""
    clock_ahead_s: float = 0.0
    """How far the `Date` of every answer is ahead of the time that all else goes by."""
    graph_roles: tuple[str, ...] = (
        "AuditLogsQuery.Read.All",
        "ServiceHealth.Read.All",
        "ServiceMessage.Read.All",
    )
    """The roles of tokens for Graph; empty: its audit log queries answer 403. Without Application.Read.All
    and Application.ReadWrite.OwnedBy, so does the application's registration; without ServiceHealth.Read.All
    and ServiceMessage.Read.All, so do service health and the message center."""
    directory_roles: tuple[str, ...] = ()
    """The template ids of the roles of the directory that the application has; Privileged Authentication
    Administrator lets it disable administrators."""
    graph_page_announcements: int = Field(default=100, ge=1)
    """Announcements on a page, unless fewer are asked for."""
    takes_conditions: bool = True
    """False: Graph refuses a `$filter` of announcements."""
    secret_days: float = 180.0
    """How long after the start of the simulator the application's secret ends."""
    alike_secrets_days: tuple[float, ...] = ()
    """The same of further secrets of the application that begin with the same characters."""
    graph_looks: int = Field(default=3, ge=1)
    """How often a query has to be asked how it stands before it has succeeded."""
    graph_page_records: int = Field(default=500, ge=1)
    """Records on a page of a query."""
    graph_records_max: int | None = Field(default=None, ge=1)
    """How many records a query hands out; None: all that it finds."""
    audit_enabled: bool = True
    """False: the tenant's unified audit was never enabled."""
    consented: bool = True
    """False: the tenant does not know the application (AADSTS700016) until an administrator consents."""
    consent_answer: Literal["granted", "canceled", "declined", "no_admin"] = "granted"
    """What whoever opens the consent page does."""
    consent_delay_s: float = Field(default=0.0, ge=0)
    """How long a consent takes until tokens are handed out."""
    redirect_uris: tuple[str, ...] = ()
    """The redirect URIs that are registered; empty: any on loopback."""
    code_life_s: int = Field(default=600, ge=1)
    """How long an authorization code is good."""
    secret_expired: bool = False
    application_enabled: bool = True
    requests_per_minute: int | None = Field(default=None, ge=1)
    """The tenant's throttle; 2,000 documented, none by default so that tests run fast."""
    shared_requests_per_minute: int | None = Field(default=None, ge=1)
    """The throttle of all requests without PublisherIdentifier together."""
    throttle_status: Literal[403, 429] = 403
    """The HTTP status of AF429."""
    webhook_failures_max: int = Field(default=3, ge=1)
    """How many notifications in a row may be refused before a webhook is disabled."""
    notifications_name_tenants: bool = True
    """Whether notifications carry tenantId and clientId: documented, and absent in what was published."""
    cut_blobs: bool = True
    """Whether a window that starts inside a blob lists the rest of that blob."""
    duplicates: bool = True
    """Whether records come again: in other blobs days later, in one blob, with shuffled keys."""
    appears_late_s: float = Field(default=0.0, ge=0)
    """How long after its contentCreated a blob is listed for the first time, at most."""
    incident: Incident | None = None


class Scenario(_Strict):
    """A named set of switches and rules."""

    about: str = "A good day."
    """One sentence for `--list-scenarios`."""
    evidence: Literal["documented", "observed", "defensive"] = "documented"
    """Whether Microsoft documents it, somebody saw it on the wire, or nobody did."""
    behaviour: Behaviour = Behaviour()
    rules: tuple[Rule, ...] = ()


class _Loader(yaml.SafeLoader):
    """Reads true and false as booleans and nothing else: `on` is a key of rules."""


_Loader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if pair[0] != _BOOLEAN]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOLEAN, re.compile(r"(?:true|false)\Z"), ["t", "f"])


def scenario_names() -> list[str]:
    """The packaged scenarios, sorted."""
    folder = files("m365watch_simulator") / "scenarios"
    return sorted(path.name.removesuffix(".yaml") for path in folder.iterdir() if path.name.endswith(".yaml"))


def load_scenario(name: str) -> Scenario:
    """The packaged scenario `name`, or the one in the file of that path.

    Raises: SettingsRefused: no such scenario, or one line per mistake in it.
    """
    if name in scenario_names():
        packaged = files("m365watch_simulator") / "scenarios" / f"{name}.yaml"
        return parse_scenario(packaged.read_text(encoding="utf-8"), where=name)
    path = Path(name)
    if not path.is_file():
        mistake = f"no file and no scenario of this name; there are {', '.join(scenario_names())}"
        raise SettingsRefused([mistake], where=name)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise SettingsRefused(["is not UTF-8 text; save it as UTF-8"], where=name) from None
    return parse_scenario(text, where=name)


def parse_scenario(text: str, *, where: str) -> Scenario:
    """The scenario that YAML `text` describes.

    Raises: SettingsRefused: one line per mistake.
    """
    try:
        document = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader, but for its booleans
        return Scenario.model_validate({} if document is None else document)
    except yaml.YAMLError as error:
        reason = str(getattr(error, "problem", None) or "no YAML")
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f"line {mark.line + 1}: "
        raise SettingsRefused([f"{line}{reason}"], where=where) from error
    except ValidationError as error:
        raise SettingsRefused([_mistake(detail) for detail in error.errors()], where=where) from error
    except RecursionError:
        raise SettingsRefused(["is nested too deeply"], where=where) from None
    except ValueError as error:
        # A date that no calendar has, for example.
        raise SettingsRefused([f"has a value that cannot be read: {error}"], where=where) from None


def _mistake(detail: ErrorDetails) -> str:
    """One line: the path of the key and what would be right."""
    steps = ".".join(str(step) for step in detail["loc"]) or "the whole file"
    path = "".join(sign if sign.isprintable() else " " for sign in steps)
    if detail["type"] == "extra_forbidden":
        return f"{path}: there is no such key"
    if detail["type"] == "enum":
        return f"{path}: {detail['input']!r} is none of {detail['ctx']['expected']}"
    return f"{path}: {detail['msg'].removeprefix('Value error, ')}"
