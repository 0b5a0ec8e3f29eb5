"""What the collector knows of each kind of output; `outputs/<kind>/spec.py` says it."""

# Annotations stay objects here (`sections.Section` says why).

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Self, TypeAlias, TypeVar

from pydantic import BaseModel

from m365watch.common.clock import Clock, Random
from m365watch.common.errors import CollectorError
from m365watch.common.sections import Section
from m365watch.http.client import Session
from m365watch.http.settings import NetworkSettings, TlsSettings
from m365watch.registry.checks import Checked, Finding
from m365watch.registry.kinds import Registry
from m365watch.registry.outputs import Output

LAKE = "lake"
"""The type of the output that everything else reads; there is one where the configuration names none."""


@dataclass(frozen=True, slots=True)
class PersonalData:
    """Where an output may hold a person's records, told to whoever has them erased from the lake."""

    place: str
    advice: str
    """What it means, and what to do."""
    folder: Path | None = None
    """A folder whose files have one record a line: it is searched. None: nobody can look."""


class OutputSettings(Section):
    """One output: its section of the configuration, and its name there.

    `config.models.outputs.OutputSection` has the keys that all have.
    """

    type: str
    """A name of its spec."""

    _name: str = ""

    @property
    def name(self) -> str:
        """Its name in the configuration."""
        return self._name

    def named(self, name: str) -> Self:
        """The same under that name."""
        return self.told(_name=name)

    @property
    def place(self) -> str:
        """Where it writes, for people: an address, or `files in FOLDER`."""
        raise NotImplementedError

    @property
    def folder(self) -> Path | None:
        """The folder of this machine that it writes to, if it does; only this collector may write there."""
        return None

    @property
    def http_route(self) -> tuple[str, NetworkSettings] | None:
        """The URL that it posts to, and how that is reached, if it speaks HTTP."""
        return None

    @property
    def secured_by(self) -> TlsSettings | None:
        """How its connection is secured, if it has one of its own."""
        return None

    @property
    def waits_on_disk(self) -> bool:
        """Whether every batch waits in the output's queue on disk until it is durable at the receiver."""
        return False

    @property
    def uses_stdout(self) -> bool:
        """Whether it writes records on standard output, so that nothing else may."""
        return False

    @property
    def sends_events(self) -> bool:
        """Whether the collector's own events are to go there under a tag of Devo's."""
        return False

    @property
    def override_tags(self) -> tuple[str, ...] | None:
        """Every `override_tag` of the inputs, where the output has to know them; else None."""
        return None

    @property
    def personal_data(self) -> Sequence[PersonalData]:
        """Where records of a person may be that nothing is erased from."""
        advice = "not searched: what was sent is with the receiver; erase it there"
        return (PersonalData(self.place, advice),)

    def for_alerts(self, name: str, table: str) -> Self:  # noqa: ARG002 - of those that know tables
        """The same receiver under another name, for records of `table`."""
        return self.named(name)


@dataclass(frozen=True, slots=True)
class BuildContext:
    """What an output is built with."""

    clock: Clock
    random: Random
    collector_name: str


@dataclass(frozen=True, slots=True)
class CheckContext:
    """What an output is tried with."""

    clock: Clock
    session: Session
    limit_s: float
    """How long one output may take."""
    reach: Callable[[str, NetworkSettings], Awaitable[Finding | None]]
    """Goes to a URL without a token; the step that is broken on the way, if one is."""
    cure_of: Callable[[CollectorError], str]
    """What a person can do about an error of the network."""
    ledger: Path | None = None
    """What lakes are compared with; None where no state is kept."""
    collector: str = ""
    """Under which name the collector writes."""


T = TypeVar("T", bound=OutputSettings)
Model: TypeAlias = type[BaseModel]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OutputSpec(Generic[T]):
    """One kind of output."""

    type: str
    """Its name in the configuration."""
    aliases: tuple[str, ...] = ()
    """Other names for the same."""
    summary: str
    """What it is, in a few words; a new configuration says it."""
    section: Model
    """`outputs.NAME` in the configuration, a `config.models.outputs.OutputSection`."""
    build: Callable[[T, BuildContext], Output]
    """Makes the output; its libraries are imported only now."""
    check: Callable[[T, CheckContext], Awaitable[Sequence[Checked]]]
    """Tries it as a run will use it: no record is sent, and nothing stays behind.

    Raises: CollectorError, OSError: a run could not use it.
    """
    template: str
    """The YAML that a new instance begins with on the board."""
    prompts: Mapping[str, str | None] = field(default_factory=dict)
    """Options that `init` asks for, each with its usual value."""


OUTPUTS: Registry[OutputSpec[Any]] = Registry("m365watch.outputs", group="m365watch.outputs", default=LAKE)
"""Every kind of output."""
