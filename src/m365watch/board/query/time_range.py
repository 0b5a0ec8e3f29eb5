"""The span of time that a view is about: named (the last day) or by its two ends."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

HOUR_S = 3_600
EXACT_UP_TO_S = 6 * HOUR_S
"""A longer span begins and ends with a full hour, so that hourly rollups serve it."""
SPAN_MAX_S = 400 * 86_400
DAY_S = 24 * HOUR_S
LONG_S = 14 * DAY_S
"""From so long on, what is small on a page is told by days."""
POINTS_MAX = 120
SPARK_POINTS = 24
"""A chart has at most so many steps."""
_STEPS_S = (60, 300, 900, 1_800, HOUR_S, 2 * HOUR_S, 6 * HOUR_S, 12 * HOUR_S, 86_400, 7 * 86_400)

PRESETS: dict[str, tuple[str, int]] = {
    "1h": ("Last hour", HOUR_S),
    "6h": ("Last 6 hours", 6 * HOUR_S),
    "24h": ("Last 24 hours", 86_400),
    "3d": ("Last 3 days", 3 * 86_400),
    "7d": ("Last 7 days", 7 * 86_400),
    "30d": ("Last 30 days", 30 * 86_400),
    "90d": ("Last 90 days", 90 * 86_400),
}
"""Words and seconds by the name that stands in a URL."""
PRESET = "7d"
"""What is shown where a URL says nothing, or nothing that can be read."""


@dataclass(frozen=True, slots=True)
class TimeRange:
    """Half-open [start, end), in whole seconds since 1970."""

    start_s: int
    end_s: int
    preset: str = ""
    """The name it goes by; empty where its ends were given."""

    @property
    def span_s(self) -> int:
        """Its length."""
        return self.end_s - self.start_s

    @property
    def has_full_hours(self) -> bool:
        """Whether both ends are full hours."""
        return self.start_s % HOUR_S == 0 and self.end_s % HOUR_S == 0

    @property
    def step_s(self) -> int:
        """How long a step of a chart is: the least that makes at most `POINTS_MAX` of them."""
        steps = (one for one in _STEPS_S if self.span_s <= one * POINTS_MAX)
        return next((one for one in steps if one >= HOUR_S or self.span_s <= EXACT_UP_TO_S), _STEPS_S[-1])

    @property
    def spark_s(self) -> int:
        """How long a step of a spark is."""
        if self.span_s >= LONG_S:
            return -(-self.span_s // (31 * DAY_S)) * DAY_S
        return max(self.step_s, -(-self.span_s // SPARK_POINTS // self.step_s) * self.step_s)

    @property
    def lane_s(self) -> int:
        """How long a step of a lane is."""
        return max(self.step_s, DAY_S) if self.span_s >= LONG_S else self.step_s

    @property
    def before(self) -> TimeRange:
        """The span of the same length that ends where this begins."""
        return TimeRange(self.start_s - self.span_s, self.start_s)

    @property
    def words(self) -> str:
        """How a heading names it."""
        if self.preset:
            return PRESETS[self.preset][0]
        return f"{instant_words(self.start_s)} to {instant_words(self.end_s)}"

    @property
    def ends(self) -> tuple[str, str]:
        """Both ends as a field of a form has them, in UTC."""
        return instant_text(self.start_s)[:-1], instant_text(self.end_s)[:-1]

    def query(self) -> dict[str, str]:
        """What stands for it in a URL; nothing for the usual one."""
        if self.preset:
            return {} if self.preset == PRESET else {"range": self.preset}
        return {"from": instant_text(self.start_s), "to": instant_text(self.end_s)}


def read_range(query: dict[str, str], *, now: datetime) -> TimeRange:
    """The span that a URL's query means; the usual one where it means none."""
    if (chosen := span_between(query.get("from", ""), query.get("to", ""))) is not None:
        return chosen
    name = query.get("range", PRESET)
    name = name if name in PRESETS else PRESET
    now_s = int(now.timestamp())
    return _whole(now_s - PRESETS[name][1], now_s + 1, name)


def unread_range(query: dict[str, str]) -> list[str]:
    """What `read_range` leaves out of it, each with what it should be."""
    start, end, name = query.get("from", ""), query.get("to", ""), query.get("range", "")
    if (start or end) and span_between(start, end) is None:
        days = SPAN_MAX_S // DAY_S
        return [f"from={start} and to={end} are no two instants, the earlier first, of at most {days} days"]
    if name and name not in PRESETS and not start:
        return [f"range={name} is not one of {', '.join(PRESETS)}"]
    return []


def span_between(start_text: str, end_text: str) -> TimeRange | None:
    """The span between two instants, in UTC where they do not say; None where they make none."""
    start, end = _seconds(start_text), _seconds(end_text)
    if start is None or end is None or not 0 <= start < end or end - start > SPAN_MAX_S:
        return None
    return _whole(start, end)


def _whole(start: int, end: int, preset: str = "") -> TimeRange:
    unit = HOUR_S if end - start > EXACT_UP_TO_S + 1 else 60
    return TimeRange(start // unit * unit, -(-end // unit) * unit, preset)


def _seconds(text: str) -> int | None:
    """Seconds since 1970 of an instant or of a number; None where it is neither."""
    try:
        at = datetime.fromisoformat(text)
        return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        return int(text) if text.isascii() and text.isdigit() and len(text) <= 11 else None


def instant_text(seconds: int) -> str:
    """An instant as URLs have it: 2026-11-27T09:00Z."""
    return f"{_instant(seconds):%Y-%m-%dT%H:%M}Z"


def instant_words(seconds: int) -> str:
    """An instant as people read it, in UTC."""
    return f"{_instant(seconds):%-d %b %Y %H:%M}"


def _instant(seconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
