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
    ("cost", "missed"),
    [
        (Cost(90.0, 60.0, 120_000_000), ()),
        (Cost(90.0, 65.0, 120_000_000), ("own CPU less start to the step before 1.3, asked at most 1.2",)),
        (Cost(90.0, 65.0, 120_000_000, system_s=5.0), ()),
        (Cost(90.0, 110.0, 120_000_000, system_s=60.0), ("CPU, µs a record 11, asked at most 10",)),
        (Cost(90.0, 50.0, 130_000_000), ("memory to the step before 1.3, asked at most 1.2",)),
        (
            Cost(90.0, 50.0, 251_000_000),
            ("peak MB 251, asked at most 250", "memory to the step before 2.51, asked at most 1.2"),
        ),
    ],
)
def test_a_step_may_cost_a_fifth_more_than_the_one_before(cost: Cost, missed: tuple[str, ...]) -> None:
    """A record's own CPU without the start, and the memory of the whole; with the system's it is bounded."""
    before = Row("files", 1_000_000, [Cost(9.0, 5.0, 100_000_000)], [Cost(0.1, 0.0, 0)])
    row = Row("files", 10_000_000, [cost], [Cost(0.1, 0.0, 0)])

    assert Step("10,000,000 records", row, before).line().missed == missed


def test_a_step_that_fills_what_is_bounded_is_not_one_that_grows() -> None:
    """With few records little is remembered and none is merged; as many of more tenants are judged."""
    few = Row("files", 100_000, [Cost(1.0, 0.5, 100_000_000)], [Cost(0.1, 0.0, 0)])
    more = Row("files", 1_000_000, [Cost(9.0, 6.5, 140_000_000)], [Cost(0.1, 0.0, 0)])
    alike = Row("files", 100_000, [Cost(9.0, 0.65, 140_000_000)], [Cost(0.1, 0.0, 0)])

    assert Step("1,000,000 records", more, few).line().missed == ()
    assert len(Step("10 tenants", alike, few).line().missed) == 2


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
