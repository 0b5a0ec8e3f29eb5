"""What is wrong in the world of one seed, and how the collector is set and treated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from random import Random

Spans = tuple[tuple[float, float], ...]
"""When a fault is on: seconds of the world's time, from and to."""


class Fault(StrEnum):
    """Everything that may be wrong; several at once."""

    LATE = "content is listed long after it was created"
    INCIDENT = "content of some hours is listed three days late"
    SAME_SECOND = "much content is created in one second, and at whole seconds"
    CUT_BODIES = "bodies are cut short, and whole later"
    PARTIAL_BLOBS = "a content id stands for a part of a blob first, and for all of it later"
    SAME_CONTENT_ID = "one content id is used for two blobs"
    DUPLICATES = "records come again in other blobs, some with their keys in another order"
    CHANGED_RECORDS = "records come again with the same Id and other content"
    ODD_RECORDS = "records without Id or CreationTime"
    GARBAGE = "elements and whole bodies that are no records"
    POISON = "blobs that fail for a while: unknown, invalid, empty, HTML, errors"
    BIG = "bodies larger than all that may be in flight"
    EDGE = "content that expires at the 7-day edge"
    PAGES_EXPIRE = "page tokens are refused"
    PAGES_REPEAT = "pages repeat what came before, and go in circles for a while"
    FOREIGN_PAGES = "NextPageUri names another host"
    NOT_AUTHORISED = "tokens are revoked in the middle, and the token endpoint fails"
    DISABLED = "subscriptions are disabled behind the collector's back"
    THROTTLED = "requests are throttled"
    ERRORS = "the service answers with 5xx"
    RESETS = "connections break before and within the answer"
    SKEW = "the collector's clock is wrong by hours, and jumps back"
    ASLEEP = "the machine sleeps for hours"
    AWAY = "the collector is off for days"
    LEDGER_FULL = "the ledger's disk is full"
    LEDGER_LOCKED = "another program locks the ledger"
    OUTPUT_FAILS = "outputs fail now and then, also after they have made a batch durable"
    OUTPUT_DOWN = "an output is down for up to a day"
    OUTPUT_HANGS = "an output hangs"
    OUTPUT_FULL = "the disk of an output is full"
    QUEUES_FULL = "the disk of the outputs' queues is full"
    OUTPUT_REFUSES = "an output refuses records"
    WIRE_BREAKS = "the wire breaks"
    CRASHES = "the collector crashes"
    SMALL_BUDGET = "few requests a minute are allowed"


AWAY_TOO_LONG_H = (24 * 7.5,) * 3
"""Hours after which what came first is not listed any more; half of the absences."""
OFTEN = 0.5
SOMETIMES = 0.2
_CHANCES = {
    Fault.CRASHES: 0.8,
    Fault.LATE: 0.4,
    Fault.SAME_SECOND: 0.4,
    Fault.DUPLICATES: OFTEN,
    Fault.BIG: 0.3,
    Fault.PAGES_EXPIRE: 0.65,
    Fault.PAGES_REPEAT: 0.6,
    Fault.LEDGER_FULL: 0.3,
    Fault.WIRE_BREAKS: 0.35,
}
_ALWAYS_ON = frozenset({Fault.PAGES_EXPIRE, Fault.PAGES_REPEAT})
"""What strikes a part of the requests, and does so as long as the scripted lives last."""
_CONTENT_ONLY = (
    Fault.SAME_SECOND,
    Fault.DUPLICATES,
    Fault.CHANGED_RECORDS,
    Fault.ODD_RECORDS,
    Fault.POISON,
    Fault.GARBAGE,
    Fault.CUT_BODIES,
)
"""What touches one feed alone; with nothing else wrong, no other feed may be late."""
QUIET_SEEDS = 0.25
"""The share of seeds in which only one feed is ill, and the others are watched for delays."""


@dataclass(frozen=True, slots=True)
class Life:
    """One life of the collector."""

    lasts_s: float
    """Until it is stopped in order, unless it crashes before."""
    crash_s: float | None
    """When a crash comes near, in seconds of the life; None: never."""
    crash_turns: int
    """The turns of the loop that it still has then."""
    off_s: float
    """How long nothing runs afterwards."""
    skew_s: float
    """How far its clock is ahead at the start."""
    jump_at_s: float
    jump_s: float
    """When and how far the clock jumps in the middle; 0 for not at all."""
    sleep_at_s: float
    sleep_s: float
    """When and how long the machine sleeps; 0 for not at all."""


ROUTED = 0.4
"""How many of the seeds with several outputs have tenants whose records do not go to all of them."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that the seed decides beforehand."""

    seed: int
    faults: frozenset[Fault]
    is_quiet: bool
    """Whether only the first feed is ill: then the others are watched for delays."""
    lives: tuple[Life, ...]
    span_s: float
    """About how long the scripted lives last altogether, with the time between them."""
    period_s: float
    lookback_s: float
    requests_per_minute: int | None
    bytes_in_flight_max: int
    queue_bytes_max: int
    outputs: tuple[str, ...]
    spans: dict[Fault, Spans]
    """When those faults are on that last for a while."""
    page_blobs: int
    token_life_s: int
    routes: tuple[tuple[str, ...], ...] = ()
    """The outputs of each tenant, where those are not all."""
    big_bytes: int = 1_200_000
    """What the largest bodies have."""


def make_plan(seed: int, random: Random) -> Plan:
    """The plan of `seed`, decided by `random` alone."""
    is_quiet = random.random() < QUIET_SEEDS
    if is_quiet:
        faults = frozenset(fault for fault in _CONTENT_ONLY if random.random() < OFTEN)
    else:
        faults = frozenset(fault for fault in Fault if random.random() < _CHANCES.get(fault, SOMETIMES))
    lives = tuple(_life(random, faults) for _ in range(1 if is_quiet else random.choice((1, 2, 2, 3, 4))))
    if is_quiet:
        # Long enough for a delay to be seen.
        lives = (replace(lives[0], lasts_s=random.uniform(2_000.0, 6_000.0)),)
    pages = Fault.PAGES_EXPIRE in faults or Fault.PAGES_REPEAT in faults
    span_s = sum(life.lasts_s + life.off_s + life.sleep_s for life in lives)
    small = Fault.SMALL_BUDGET in faults
    plan = Plan(
        seed=seed,
        faults=faults,
        is_quiet=is_quiet,
        lives=lives,
        span_s=span_s,
        period_s=random.choice((60.0, 300.0, 600.0)),
        lookback_s=random.choice((300.0, 3_600.0, 7_200.0)),
        requests_per_minute=random.choice((12, 25, 60)) if small else random.choice((400, 2_000, None)),
        bytes_in_flight_max=random.choice(
            (3_000, 600_000) if is_quiet else (3_000, 600_000, 600_000, 32 << 20)
        ),
        queue_bytes_max=random.choice((1_500, 8_000, 1 << 30)),
        outputs=_outputs(random),
        spans={fault: _spans(random, lives, fault=fault) for fault in Fault if fault in faults},
        page_blobs=random.choice((1, 1, 2, 3) if pages else (1, 2, 3, 5, 50)),
        token_life_s=random.choice((60, 600, 3_600)),
    )
    # Of a source of its own, so that all else of a seed is as it was.
    return replace(plan, routes=_routes(Random(f"{seed}/routes"), plan.outputs))


def _routes(random: Random, outputs: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """In some of the histories with several outputs, some of them for each of two tenants."""
    if len(outputs) == 1 or random.random() >= ROUTED:
        return ()
    return tuple(tuple(sorted(random.sample(outputs, random.randint(1, len(outputs))))) for _ in range(2))


def _outputs(random: Random) -> tuple[str, ...]:
    return random.choice(
        (("lake", "files", "devo"),) * 4 + (("lake",), ("devo",), ("lake", "devo"), ("lake", "files"))
    )


def _life(random: Random, faults: frozenset[Fault]) -> Life:
    lasts_s = random.choice((30.0, 200.0, 900.0, 1_800.0, 3_600.0)) * random.uniform(0.5, 1.5)
    off_s = random.choice((0.0, 0.0, 1.0, 30.0, 600.0, 7_200.0))
    if Fault.AWAY in faults:
        off_s = random.choice((12, 25, 60, *AWAY_TOO_LONG_H)) * 3_600.0
    skews = (0.0, 2.0 * 3_600, 7.5 * 3_600, -2.0 * 3_600, -5.0 * 3_600, 30.0 * 3_600)
    skew_s = random.choice(skews) if Fault.SKEW in faults else 0.0
    asleep = Fault.ASLEEP in faults and random.random() < OFTEN
    crashes = Fault.CRASHES in faults and random.random() < 0.75
    early = random.random() < OFTEN
    return Life(
        lasts_s=lasts_s,
        crash_s=(random.uniform(0.0, 6.0) if early else random.uniform(0.0, lasts_s)) if crashes else None,
        crash_turns=int(10.0 ** random.uniform(0.0, 2.6)),
        off_s=off_s,
        skew_s=skew_s,
        jump_at_s=random.uniform(0.0, lasts_s),
        jump_s=-random.choice((600.0, 3_600.0 * 3)) if Fault.SKEW in faults else 0.0,
        sleep_at_s=random.uniform(0.0, lasts_s),
        sleep_s=random.choice((1.0, 8.0, 25.0)) * 3_600 if asleep else 0.0,
    )


def _spans(random: Random, lives: Sequence[Life], *, fault: Fault) -> Spans:
    """One to three spans of time that meet a life; for some faults all of it."""
    if fault in _ALWAYS_ON:
        return ((0.0, math.inf),)
    found = []
    begins_s = [sum(life.lasts_s + life.off_s for life in lives[:place]) for place in range(len(lives))]
    for _ in range(random.choice((1, 1, 2, 3))):
        place = random.randrange(len(lives))
        start_s = begins_s[place] + random.choice((0.0, random.uniform(0.0, lives[place].lasts_s)))
        found.append((start_s, start_s + random.choice((3.0, 40.0, 400.0, 4_000.0, 90_000.0))))
    return tuple(found)
