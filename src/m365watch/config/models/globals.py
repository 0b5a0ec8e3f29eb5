"""The keys of `globals` and `global_overrides`: what holds for the whole collector."""

# Annotations stay objects here (`base.Section` says why).

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from m365watch.config.models import values
from m365watch.config.models.base import (
    DEFAULTS,
    NO_EFFECT,
    OBJECT,
    ON_OFF,
    FilePath,
    Label,
    Number,
    Section,
    Switch,
    Whole,
)
from m365watch.config.models.webhook import WebhookSection
from m365watch.config.validation_report import KeyPath
from m365watch.http.settings import NetworkSettings


class PersistenceConfig(Section):
    """Options of `persistence`."""

    directory_name: FilePath = Field(default=Path("state"), title="a path")
    """Where the ledger is, relative to the configuration file's folder."""


class Persistence(Section):
    """Where the collector keeps its state."""

    type: Literal["filesystem", "json", "memory"] = Field(default="filesystem", title="filesystem or memory")
    """The kind of store; `json` is the older name of `filesystem`. `memory` keeps it in a temporary folder
    that goes at the end, as `--no-save-state` does, and the next run delivers everything again; lakes and
    files cannot do without the state."""

    config: PersistenceConfig = Field(default=DEFAULTS, validate_default=True, title=OBJECT)
    """The options of the store."""


class GlobalOverrides(Section):
    """The keys of `globals` that Devo's collector server lets a job override; they win over `globals`."""

    debug: Switch = Field(default=False, title=ON_OFF)
    """Whether more is reported than an operator needs every day."""

    queue_max_size_in_mb: Whole = Field(default=1_024, ge=1, le=5_120, title="a whole number, 1 to 5,120")
    """How many megabytes (of 1,048,576 bytes) may wait on disk for each output."""

    queue_max_size_in_messages: Annotated[Whole | None, NO_EFFECT] = Field(
        default=None, ge=1, le=100_000, title="a whole number, 1 to 100,000"
    )
    """Devo's queue in memory; records wait in the ledger here."""

    queue_max_elapsed_time_in_sec: Annotated[Whole | None, NO_EFFECT] = Field(
        default=None, ge=1, le=600, title="a whole number of seconds, 1 to 600"
    )
    """Devo's queue in memory; records wait in the ledger here."""

    queue_wrap_max_size_in_messages: Annotated[Whole | None, NO_EFFECT] = Field(
        default=None, ge=1, le=500, title="a whole number, 1 to 500"
    )
    """Devo's queue in memory; records wait in the ledger here."""

    queue_generate_metrics: Annotated[Switch | None, NO_EFFECT] = Field(default=None, title=ON_OFF)
    """Devo's figures about its queue."""

    sender_stats_period_in_sec: Whole = Field(
        default=300, ge=60, le=1_800, title="a whole number of seconds, 60 to 1,800"
    )
    """How often the senders of outputs report their figures. A collector that had nothing to say of itself
    for as long says so."""

    devo_sender_threshold_for_using_gzip_in_transport_layer: Number = Field(
        default=1.1, ge=-1.0, le=1.1, title="a number, -1.0 to 1.1"
    )
    """How full an output's queue is when its sender starts to compress: below 0 always, above 1 never."""

    devo_sender_compression_level: Whole = Field(default=6, ge=1, le=9, title="a whole number, 1 to 9")
    """How hard the senders compress: 1 to 6 quickly (ISA-L at its level 1), from 7 on as hard as zlib at
    that level."""

    devo_sender_compression_buffer_in_bytes: Whole = Field(
        default=51_200, ge=1, le=10_485_760, title="a whole number of bytes, 1 to 10,485,760"
    )
    """How much the senders compress at once."""

    generate_collector_details: Annotated[Switch | None, NO_EFFECT] = Field(default=None, title=ON_OFF)
    """Devo's details about the collector."""


class Globals(GlobalOverrides):
    """What holds for the whole collector."""

    id: Label | None = Field(default=None, title="a text")
    """The number of the job on Devo's collector server; it stands in what the collector says of itself."""

    name: Annotated[Label, AfterValidator(values.parse_collector_name)] = Field(
        default="m365watch", title='a name of letters, digits, "_" and "-"'
    )
    """The collector's name in what it reports, and the lake's name for this writer: it stays as it is once
    records are there; ".", "#" and spaces become "_"."""

    allow_readable_secrets: Switch = Field(default=False, title=ON_OFF)
    """Lets secrets and private keys pass whose files others can read, and warns of each at every start.
    Files that systemd or Docker hands to the service, and those of a Kubernetes volume with an `fsGroup`,
    do not need it."""

    answer_megabytes_max: Whole = Field(
        default=256, ge=16, le=4_096, title="a whole number of megabytes, 16 to 4,096"
    )
    """The largest answer of Microsoft's services that is accepted, such as a blob, before and after it is
    decompressed. One blob of this size takes several times as much memory."""

    watch_configuration: Switch = Field(default=True, title=ON_OFF)
    """Whether a running collector looks every 2 seconds for changes of this file, and takes up what has
    changed, outputs included, and of its own files of rules and exceptions (`detections`). `systemctl
    reload`, or SIGHUP, has it read the files at once, also where this is off."""

    persistence: Persistence = Field(
        default=DEFAULTS, validate_default=True, title="an object with type and config"
    )
    """Where the collector keeps its state."""

    network: NetworkSettings = Field(default=DEFAULTS, validate_default=True, title=OBJECT)
    """How servers are reached: proxy, authorities, the collector's own address, time-outs, TLS."""

    webhook: WebhookSection | None = Field(default=None, title=OBJECT)
    """Where Microsoft may tell of new content; left out, the collector polls and listens nowhere."""


QUICK_LEVEL_MAX = 6
"""Up to here lines are compressed at one and the same level, the quickest."""


def compression_oddities(section: Section, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    """Says where a level of compression asks for more than it gets; `path` is that of its key."""
    key = str(path[-1])
    level = getattr(section, key)
    if key in section.model_fields_set and level is not None and 1 < level <= QUICK_LEVEL_MAX:
        slow = QUICK_LEVEL_MAX + 1
        yield path, f"{level} is treated as 1; from {slow} on lines are compressed harder, and slower"
