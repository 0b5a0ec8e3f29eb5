"""What `status` says of the detections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.text import Text

from m365watch.cli.terminal.formatting import count, whole_line
from m365watch.detection.alerts.stored_alert import AlertState
from m365watch.detection.rules.extension import Severity

if TYPE_CHECKING:
    from m365watch.detection.alerts.triage import DetectionFigures

_SHOWN = (Severity.CRITICAL, Severity.HIGH, Severity.MEDIUM)


def detection_lines(figures: DetectionFigures) -> list[Text]:
    """How many alerts wait for somebody, and whether a bound was met."""
    if figures.rebuilt_percent is not None:
        told = f"detections: being made anew from the lake, {figures.rebuilt_percent} % done"
        return [whole_line(told, style="yellow")]
    waiting = [(one, figures.count(AlertState.OPEN, one)) for one in _SHOWN]
    named = ", ".join(f"{number:,} {severity}" for severity, number in waiting if number)
    taken = sum(figures.count(AlertState.ACKNOWLEDGED, one) for one in Severity)
    others = f"; {taken:,} acknowledged" if taken else ""
    urgent = any(number for severity, number in waiting if severity is not Severity.MEDIUM)
    style = "red" if urgent else "yellow" if named else ""
    told = f"detections: {f'alerts open: {named}' if named else 'no open alert'}{others}"
    lines = [whole_line(told + ("; `m365watch alerts list`" if named else ""), style=style)]
    if figures.hours_full:
        full = count(figures.hours_full, "hour")
        lines.append(
            whole_line(f"detections: in {full} a group had more matches than are kept", style="yellow")
        )
    if figures.trouble:
        told = f"detections: their process {figures.trouble}; the collector does them itself, more slowly"
        lines.append(whole_line(told, style="yellow"))
    return lines


def detections_document(figures: DetectionFigures) -> dict[str, Any]:
    """The same as `status --json` has it."""
    return {
        "alerts": {
            str(state): {str(severity): figures.count(state, severity) for severity in Severity}
            for state in AlertState
        },
        "matches": figures.matches,
        "hours_full": figures.hours_full,
        "rebuilt_percent": figures.rebuilt_percent,
        "trouble": figures.trouble,
    }
