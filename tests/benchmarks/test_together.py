"""All benchmarks in one go: one table, whoever fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main, options_parser, passed_on
from benchmarks.figures import Judgement, Row
from benchmarks.growth import Step
from benchmarks.measuring import Cost
from benchmarks.outcome import Line, missed_of
from benchmarks.registry import BENCHMARKS
from benchmarks.together import page_of, run_together

AN_OLD_ONE = {
    "day": "2026-11-27",
    "cores": 2,
    "python": "3.11.7",
    "load_before": 0.1,
    "passed": True,
    "lines": [],
}
FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


def test_a_missed_figure_is_named_with_what_was_asked() -> None:
    """And one that could not be measured is neither kept nor missed."""
    kept = Judgement("CPU", "at most 10", 7.0, passed=True)
    missed = Judgement("records/s", "at least 60,000", 51_234.5, passed=False)
    unknown = Judgement("records/s to Tenzir", "at least 1.3", None, passed=True)

    line = Line("files", asked=2, missed=missed_of([kept, missed, unknown]))

    assert line.verdict == "1 of 2; missed: records/s 51,234, asked at least 60,000"


def test_the_page_is_what_the_figures_say() -> None:
    """Nobody writes a figure into the table by hand."""
    kept = json.loads((FOLDER / "figures.json").read_text())

    assert (FOLDER / "figures.md").read_text() == page_of(kept)
    assert list(kept) == [name for name in BENCHMARKS if name in kept]


def test_what_was_found_is_kept_and_the_rest_stays(tmp_path: Path) -> None:
    """One that is measured anew takes the place of its own lines only."""
    (tmp_path / "figures.json").write_text(json.dumps({"board": AN_OLD_ONE, "dedup": AN_OLD_ONE}))

    code = run_together(["dedup"], ["--records", "20000"], tmp_path, as_json=False)

    kept = json.loads((tmp_path / "figures.json").read_text())
    assert list(kept) == ["dedup", "board"]
    assert kept["board"] == AN_OLD_ONE
    assert kept["dedup"]["lines"][0]["case"] == "20,000 as they come"
    assert code == (0 if kept["dedup"]["passed"] else 1)
    assert (tmp_path / "figures.md").read_text() == page_of(kept)


def test_one_that_fails_leaves_what_is_known(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The exit code and the last line say which it was."""
    code = run_together(["dedup"], ["--records", "many"], tmp_path, as_json=False)

    assert code == 1
    assert "missed a figure or failed: dedup" in capfd.readouterr().err
    assert not (tmp_path / "figures.json").exists()


@pytest.mark.parametrize(
    ("cpu_s", "peak_mb", "missed"),
    [
        (10.0, 100, ()),
        (13.0, 100, ("CPU less start to the step before 1.3, asked at most 1.2",)),
        (10.0, 130, ("memory to the step before 1.3, asked at most 1.2",)),
        (10.0, 251, ("peak MB 251, asked at most 250", "memory to the step before 2.51, asked at most 1.2")),
    ],
)
def test_a_step_may_cost_a_fifth_more_than_the_one_before(
    cpu_s: float, peak_mb: float, missed: tuple[str, ...]
) -> None:
    """A record's CPU without the start, and the memory of the whole."""
    before = Row("files", 100_000, [Cost(1.0, 1.0, 100_000_000)], [Cost(0.1, 0.0, 0)])
    row = Row("files", 1_000_000, [Cost(9.0, cpu_s, round(peak_mb * 1e6))], [Cost(0.1, 0.0, 0)])

    assert Step("1,000,000 records", row, before).line().missed == missed


def test_an_option_of_one_benchmark_starts_no_others(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever leaves out the name would measure everything for three quarters of an hour."""
    with pytest.raises(SystemExit):
        main(["--only", "plain"])

    assert "./dev bench collector --only 'plain'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [("board", "--write", "--page", "overview"), ("lag", "growth", "--seconds", "9"), ("--records", "20000")],
)
def test_what_changes_a_figure_is_not_written_down(
    options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor left out without a word where several are measured."""
    with pytest.raises(SystemExit):
        main(options)

    assert f"{options[-2]} goes with one benchmark that is not written down" in capsys.readouterr().err


def test_a_lake_that_is_there_is_not_made_once_more() -> None:
    """`--write` measures in another process, which has to hear where the lake is: to make one takes 5 GB."""
    options = options_parser().parse_args(["board", "--write", "--lake", "/srv/lake"])

    heard = options_parser().parse_args(["board", *passed_on(options)])

    assert heard.lake == Path("/srv/lake")
    assert "--lake" not in passed_on(options_parser().parse_args(["board", "--write"]))
