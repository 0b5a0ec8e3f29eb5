"""The package drawn: each room once, in the band of its layer; `docs/reference/structure.svg`.

It counts nothing, so that two changes that are right each for itself never make a drawing that is wrong.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from html import escape
from pathlib import Path

from tools.layers import LAYERS

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "m365watch"
BANDS = (
    "what things are called",
    "what is read and known",
    "who is spoken with",
    "what is made of it",
    "ways through the house",
    "one run of all tenants",
    "what builds the parts",
    "who is served",
)
"""What the rooms of each layer have in common, from the lowest up."""

_WIDTH, _MARGIN, _LABEL = 980, 16, 170
_BOX_HEIGHT, _GAP, _PAD, _LETTER = 28, 8, 12, 8.0
_STYLE = """
text { font: 13px ui-sans-serif, system-ui, sans-serif; fill: #1b2430; }
.small { font-size: 11px; fill: #5b6675; }
.band { fill: #f2f5f9; }
.room { fill: #ffffff; stroke: #9db2cc; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .small { fill: #9aa7b5; }
  .band { fill: #161c24; }
  .room { fill: #0d1117; stroke: #3d5a80; }
}
"""


@dataclass(frozen=True, slots=True)
class Room:
    """A file or folder directly below the package."""

    name: str
    says: str
    """The first line of its docstring."""


def render(package: Path = PACKAGE) -> str:
    """The drawing; a room is as wide as its name, and a band as high as its rows."""
    y = _MARGIN
    parts: list[str] = []
    for number in range(len(LAYERS) - 1, -1, -1):
        paths = {name: path for name in sorted(LAYERS[number]) if (path := _path_of(package, name))}
        rows = _rows([_read(name, path) for name, path in paths.items()])
        height = len(rows) * (_BOX_HEIGHT + _GAP) + _GAP
        parts.append(
            f'<rect class="band" x="{_MARGIN}" y="{y}" width="{_WIDTH - 2 * _MARGIN}" height="{height}"'
            ' rx="8"/>'
        )
        parts.append(_small(_MARGIN + 12, y + height / 2 + 4, BANDS[number]))
        for row, rooms in enumerate(rows):
            parts += _draw_row(rooms, y + _GAP + row * (_BOX_HEIGHT + _GAP))
        y += height + 6
    parts.append(_small(_MARGIN, y + 14, "A room imports from its own band and those below."))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y + 26}" role="img">'
    title = "<title>The rooms of m365watch, in layers</title>"
    return "\n".join([head, title, f"<style>{_STYLE}</style>", *parts, "</svg>"]) + "\n"


def _small(x: float, y: float, text: str) -> str:
    return f'<text class="small" x="{x:g}" y="{y:g}">{escape(text)}</text>'


def _rows(rooms: list[Room]) -> list[list[Room]]:
    """The rooms, in as few rows as they need."""
    rows: list[list[Room]] = [[]]
    left = float(_LABEL)
    for room in rooms:
        if rows[-1] and left + _width_of(room) > _WIDTH - _MARGIN - _GAP:
            rows.append([])
            left = float(_LABEL)
        rows[-1].append(room)
        left += _width_of(room) + _GAP
    return rows


def _draw_row(rooms: list[Room], y: float) -> list[str]:
    parts: list[str] = []
    x = float(_LABEL)
    for room in rooms:
        width = _width_of(room)
        parts.append(
            f"<g><title>{escape(room.says)}</title>"
            f'<rect class="room" x="{x:g}" y="{y:g}" width="{width:g}" height="{_BOX_HEIGHT}" rx="6"/>'
            f'<text x="{x + _PAD:g}" y="{y + 18:g}">{escape(room.name)}</text></g>'
        )
        x += width + _GAP
    return parts


def _width_of(room: Room) -> float:
    return max(len(room.name) * _LETTER, 70) + 2 * _PAD


def _path_of(package: Path, name: str) -> Path | None:
    """The room's folder or file; none for a part of another room, which has a layer of its own."""
    folder, file = package / name, package / f"{name}.py"
    return folder if folder.is_dir() else file if file.is_file() and not name.startswith("__") else None


def _read(name: str, path: Path) -> Room:
    text = ast.get_docstring(ast.parse((path / "__init__.py" if path.is_dir() else path).read_text())) or ""
    return Room(name, text.partition("\n")[0])
