"""What is wrong in the world of one seed, and how the collector is set and treated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum, StrEnum, auto
from random import Random

from m365watch.ledger.bloom_filter import FilterSizes
from m365watch.ledger.limits import LedgerBounds

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
    LEAPS = "the collector's clock leaps ahead by days"
    ASLEEP = "the machine sleeps for hours"
    AWAY = "the collector is off for days"
    DAYS = "days pass between the lives, and the ledger forgets what is old"
    LEDGER_FULL = "the ledger's disk is full"
    LEDGER_LOCKED = "another program locks the ledger"
    LEDGER_LOST = "the ledger is gone, or damaged"
    LEDGER_PUT_BACK = "an older copy of the ledger is put back"
    OUTPUT_FAILS = "outputs fail now and then, also after they have made a batch durable"
    OUTPUT_DOWN = "an output is down for up to a day"
    OUTPUT_HANGS = "an output hangs"
    OUTPUT_FULL = "the disk of an output is full"
    QUEUES_FULL = "the disk of the outputs' queues is full"
    OUTPUT_REFUSES = "an output refuses records"
    WIRE_BREAKS = "the wire breaks"
    CRASHES = "the collector crashes"
    SMALL_BUDGET = "few requests a minute are allowed"
    ERASED = "records are erased from the lake"
    NARROW = "windows are refused that start up to an hour inside the seven days"


HORIZON = timedelta(days=8, hours=12)
"""How long the ledger remembers here: longer than content is listed by more than the day that a clock which
is ahead is believed, and not by so much that no seed would come to its end."""
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
    Fault.LEDGER_FULL: 0.6,
    Fault.WIRE_BREAKS: 0.5,
    Fault.PARTIAL_BLOBS: 0.5,
    Fault.DAYS: 0.35,
    Fault.OUTPUT_DOWN: 0.4,
    Fault.QUEUES_FULL: 0.3,
    Fault.LEDGER_LOST: 0.4,
    Fault.LEDGER_PUT_BACK: 0.35,
    Fault.THROTTLED: 0.4,
    Fault.NARROW: 0.4,
    Fault.ERASED: 0.75,
    Fault.LEAPS: 0.4,
}
_ALWAYS_ON = frozenset({Fault.PAGES_EXPIRE, Fault.PAGES_REPEAT, Fault.THROTTLED})
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
_APART = frozenset({Fault.ERASED, Fault.NARROW, Fault.LEAPS})
"""What is decided by a source of its own, so that all else of a seed is as it was before it was there."""
QUIET_SEEDS = 0.25
"""The share of seeds in which only one feed is ill, and the others are watched for delays."""
QUIET_REFUSALS = 0.7
"""The share of those in which tokens are revoked as well."""


class Fate(Enum):
    """What becomes of the ledger after a life."""

    KEPT = auto()
    GONE = auto()
    """Its file is removed."""
    OVERWRITTEN = auto()
    """The beginning of its file is nonsense."""
    CUT = auto()
    """Its file ends in the middle."""
    PUT_BACK = auto()
    """The last copy takes its place."""


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
    leap_at_s: float = 0.0
    leap_s: float = 0.0
    """When and how far the clock leaps ahead, until the end of the life; 0 for not at all."""
    copy_at_s: float | None = None
    """When the ledger is copied beside the running collector; None: never."""
    fate: Fate = Fate.KEPT
    learning_turns: int | None = None
    """The turns of the loop after which it crashes while its ledger learns what outputs hold; None: never."""
    erased_share: float = 0.0
    """The share of the lake's records that is erased afterwards."""


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
    bounds: LedgerBounds
    """So small that a few records are merged, spared by filters, and forgotten."""
    filter_sizes: FilterSizes
    upkeep_s: float
    evict_every_s: float
    routes: tuple[tuple[str, ...], ...] = ()
    """The outputs of each tenant, where those are not all."""
    big_bytes: int = 1_200_000
    """What the largest bodies have."""
    narrow_s: float = 0.0
    """By how much less than seven days the service lists."""


def make_plan(seed: int, random: Random) -> Plan:
    """The plan of `seed`, decided by `random` alone."""
    is_quiet = random.random() < QUIET_SEEDS
    if is_quiet:
        faults = frozenset(fault for fault in _CONTENT_ONLY if random.random() < OFTEN)
    else:
        faults = frozenset(
            fault
            for fault in Fault
            if fault not in _APART and random.random() < _CHANCES.get(fault, SOMETIMES)
        )
    lives = tuple(_life(random, faults) for _ in range(1 if is_quiet else random.choice((1, 2, 2, 3, 4))))
    if faults & {Fault.LEDGER_LOST, Fault.LEDGER_PUT_BACK}:
        # One more, which begins without what the others knew.
        lives = (*lives, _life(random, faults))
    lives = _with_fates(random, lives, faults)
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
        queue_bytes_max=random.choice((1_500, 1_500, 8_000, 1 << 30)),
        outputs=_outputs(random),
        spans={fault: _spans(random, lives, fault=fault) for fault in Fault if fault in faults},
        page_blobs=random.choice((1, 1, 2, 3) if pages else (1, 2, 3, 5, 50)),
        token_life_s=random.choice((60, 600, 3_600)),
        bounds=_bounds(random),
        filter_sizes=FilterSizes(random.choice((None, 2, 12)), random.choice((None, 1))),
        upkeep_s=random.choice((0.25, 2.0, 15.0)),
        evict_every_s=random.choice((0.5, 0.5, 60.0, 1_800.0)),
    )
    # Of sources of their own, so that all else of a seed is as it was.
    plan = replace(plan, routes=_routes(Random(f"{seed}/routes"), plan))
    plan = _with_cut_learning(Random(f"{seed}/learning"), plan)
    plan = _with_parts(Random(f"{seed}/parts"), plan)
    plan = _with_erasures(Random(f"{seed}/erased"), plan)
    plan = _narrowed(Random(f"{seed}/narrow"), plan)
    plan = _with_leaps(Random(f"{seed}/leaps"), plan)
    return _refusing_tokens(Random(f"{seed}/tokens"), plan)


def _with_cut_learning(random: Random, plan: Plan) -> Plan:
    """A life that crashes while its ledger learns mostly leaves that ledger to the next one."""
    lives = [plan.lives[0]]
    for life in plan.lives[1:]:
        is_cut = lives[-1].fate is not Fate.KEPT and life.learning_turns is not None
        lives.append(replace(life, fate=Fate.KEPT) if is_cut and random.random() < 0.8 else life)
    return replace(plan, lives=tuple(lives))


def _with_parts(random: Random, plan: Plan) -> Plan:
    """Where blobs are served in part first, an output often lacks the part: it is down, its queue is full.

    For it the blob is fetched again, and has grown by then for the others.
    """
    is_due = Fault.PARTIAL_BLOBS in plan.faults and len(plan.outputs) > 1 and random.random() < OFTEN
    if not is_due or Fault.OUTPUT_DOWN in plan.faults:
        return plan
    span = (0.0, random.choice((40.0, 150.0, 400.0)))
    return replace(
        plan,
        faults=plan.faults | {Fault.OUTPUT_DOWN},
        spans=plan.spans | {Fault.OUTPUT_DOWN: (span,)},
        queue_bytes_max=500,
    )


def _with_erasures(random: Random, plan: Plan) -> Plan:
    """Somebody's records are erased from the lake between some of the lives, if there is a lake."""
    if plan.is_quiet or "lake" not in plan.outputs or random.random() >= _CHANCES[Fault.ERASED]:
        return plan
    lives = []
    for life in plan.lives:
        # Rather where the ledger goes as well: else it is the ledger that knows what has been there.
        shares = (0.0, 0.0, 0.3) if life.fate is Fate.KEPT else (0.3, 0.9)
        lives.append(replace(life, erased_share=random.choice(shares)))
    return replace(plan, lives=tuple(lives), faults=plan.faults | {Fault.ERASED})


def _narrowed(random: Random, plan: Plan) -> Plan:
    """The service lists less than it should, within what a collector makes up for by itself."""
    if plan.is_quiet or random.random() >= _CHANCES[Fault.NARROW]:
        return plan
    narrow_s = random.choice((30.0, 200.0, 3_000.0))
    return replace(plan, narrow_s=narrow_s, faults=plan.faults | {Fault.NARROW})


def _with_leaps(random: Random, plan: Plan) -> Plan:
    """The clock is days ahead in some of the lives, from their beginning or from some moment on.

    Not after a ledger was lost or put back: of what is too old by the clock, the next learns nothing.
    """
    if plan.is_quiet or random.random() >= _CHANCES[Fault.LEAPS]:
        return plan
    lives, is_learning = [], False
    for life in plan.lives:
        at_s = random.choice((0.0, random.uniform(0.0, life.lasts_s)))
        leap_s = random.choice((0.0, 5.0, 10.0, 40.0)) * 86_400.0
        lives.append(life if is_learning else replace(life, leap_at_s=at_s, leap_s=leap_s))
        is_learning |= life.fate is not Fate.KEPT
    return replace(plan, lives=tuple(lives), faults=plan.faults | {Fault.LEAPS})


def _refusing_tokens(random: Random, plan: Plan) -> Plan:
    """Tokens are revoked in most of the quiet histories: no other trouble hides what becomes of that."""
    if not plan.is_quiet or random.random() >= QUIET_REFUSALS:
        return plan
    return replace(
        plan,
        faults=plan.faults | {Fault.NOT_AUTHORISED},
        spans=plan.spans | {Fault.NOT_AUTHORISED: ((0.0, math.inf),)},
    )


def _routes(random: Random, plan: Plan) -> tuple[tuple[str, ...], ...]:
    """In some of the histories with several outputs, some of them for each of two tenants.

    Not where a ledger is lost or put back: what it learns of outputs is judged where these have all tenants.
    """
    outputs, is_kept = plan.outputs, all(life.fate is Fate.KEPT for life in plan.lives)
    if len(outputs) == 1 or not is_kept or random.random() >= ROUTED:
        return ()
    return tuple(tuple(sorted(random.sample(outputs, random.randint(1, len(outputs))))) for _ in range(2))


def _bounds(random: Random) -> LedgerBounds:
    """Far below those in earnest; now and then a merge takes all of it, or never comes."""
    return LedgerBounds(
        horizon=HORIZON,
        blobs_forgotten_max=random.choice((1, 3, 50)),
        merge_count=random.choice((1, 1, 4, 12, 30, 1_000)),
        merge_count_min=random.choice((1, 6)),
        merge_pause_calls=random.choice((0, 2)),
        step_count=random.choice((1, 2, 5, 40)),
        page_count=3,
        identities_forgotten_max=random.choice((2, 7, 100)),
        filter_count=random.choice((2, 8, 100)),
        filter_step_count=random.choice((1, 5, 100)),
        filter_both_max=random.choice((5, 20, 1_000)),
        filter_false_share=random.choice((0.05, 0.4)),
        # Its own, so that a seed is the same in every process.
        filter_hash=_number_of,
    )


def _number_of(identity: bytes) -> int:
    return int.from_bytes(identity, "big", signed=True)


def _outputs(random: Random) -> tuple[str, ...]:
    return random.choice(
        (("lake", "files", "devo"),) * 4 + (("lake",), ("devo",), ("lake", "devo"), ("lake", "files"))
    )


def _life(random: Random, faults: frozenset[Fault]) -> Life:
    lasts_s = random.choice((30.0, 200.0, 900.0, 1_800.0, 3_600.0)) * random.uniform(0.5, 1.5)
    off_s = random.choice((0.0, 0.0, 1.0, 30.0, 600.0, 7_200.0))
    if Fault.AWAY in faults:
        off_s = random.choice((12, 25, 60, *AWAY_TOO_LONG_H)) * 3_600.0
    if Fault.DAYS in faults:
        off_s = random.uniform(3.0, 6.0) * 86_400.0
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


def _with_fates(random: Random, lives: tuple[Life, ...], faults: frozenset[Fault]) -> tuple[Life, ...]:
    """The lives, with what becomes of their ledgers."""
    fates: list[Fate] = []
    copied = random.randrange(len(lives))
    if Fault.LEDGER_PUT_BACK in faults:
        at_s = random.choice((1.0, 5.0, random.uniform(0.0, lives[copied].lasts_s)))
        lives = (*lives[:copied], replace(lives[copied], copy_at_s=at_s), *lives[copied + 1 :])
    for place in range(len(lives)):
        fate = Fate.KEPT
        if Fault.LEDGER_PUT_BACK in faults and place >= copied and random.random() < OFTEN:
            fate = Fate.PUT_BACK
        elif Fault.LEDGER_LOST in faults and random.random() < OFTEN:
            fate = random.choice((Fate.GONE, Fate.OVERWRITTEN, Fate.CUT))
        fates.append(fate)
    return tuple(
        replace(life, fate=fate, learning_turns=_learning_turns(random, faults))
        for life, fate in zip(lives, fates, strict=True)
    )


def _learning_turns(random: Random, faults: frozenset[Fault]) -> int | None:
    """As many as end in the midst of it, where there is something to learn: that takes 30 to 60."""
    turns = int(random.uniform(13.0, 30.0))
    return turns if Fault.CRASHES in faults and random.random() < 0.8 else None


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
