"""`./dev simulate`: many seeds one after the other, or one with its whole history."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context

from m365watch.testing.simulation.scratch import judge_seed
from m365watch.testing.simulation.seeds import Verdict

JOBS_MAX = 64
_TOLD_EVERY = 25
_SHOWN_MAX = 400


def main(arguments: list[str] | None = None) -> int:
    """0 if every promise held in every seed, 1 if not."""
    asked = _parser().parse_args(arguments)
    if asked.seed is not None:
        verdicts = [judge_seed(asked.seed)]
        _tell_seed(verdicts[0], as_json=asked.json)
    else:
        verdicts = list(_run(range(asked.start, asked.start + asked.seeds), jobs=asked.jobs))
        _tell_all(verdicts, as_json=asked.json)
    return int(any(verdict.broken for verdict in verdicts))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./dev simulate",
        description="Run the collector through simulated histories and judge what it promises.",
    )
    parser.add_argument("--seeds", type=_count, default=300, metavar="N", help="how many seeds (300)")
    parser.add_argument("--from", dest="start", type=int, default=0, metavar="S", help="the first one (0)")
    parser.add_argument("--jobs", type=_jobs, default=1, metavar="N", help="how many at once (1)")
    parser.add_argument("--seed", type=int, metavar="S", help="this seed alone, with its history")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _jobs(text: str) -> int:
    return min(_count(text), JOBS_MAX)


def _run(seeds: range, *, jobs: int) -> Iterator[Verdict]:
    """The verdicts in the order of the seeds, with progress on standard error."""
    broken = 0
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for place, verdict in enumerate(pool.map(judge_seed, seeds, chunksize=5), start=1):
            broken += bool(verdict.broken)
            for sentence in verdict.broken[:1]:
                sys.stderr.write(f"seed {verdict.seed}: {sentence}\n")
            if place % _TOLD_EVERY == 0 or place == len(seeds):
                sys.stderr.write(f"{place} of {len(seeds)} seeds, {broken} with a broken promise\n")
            yield verdict


def _tell_seed(verdict: Verdict, *, as_json: bool) -> None:
    if as_json:
        _say(json.dumps(asdict(verdict), indent=2))
        return
    _say("\n".join((*verdict.history, "", "What was wrong in this world:", *_listed(verdict.faults))))
    _say("\n".join(("", "Broken promises:", *_listed(verdict.broken))))


def _tell_all(verdicts: list[Verdict], *, as_json: bool) -> None:
    failed = [verdict for verdict in verdicts if verdict.broken]
    if as_json:
        found = [{"seed": one.seed, "broken": one.broken} for one in failed]
        _say(json.dumps({"seeds": len(verdicts), "failed": found}, indent=2))
        return
    if failed:
        _say("\n".join(failed[0].history[-_SHOWN_MAX:]))
    for verdict in failed:
        _say("\n".join(("", f"seed {verdict.seed}:", *_listed(verdict.broken))))
        _say(f"  again: ./dev simulate --seed {verdict.seed}")
    _say(f"{len(verdicts)} seeds, {len(failed)} with a broken promise")


def _listed(lines: tuple[str, ...]) -> list[str]:
    return [f"  {line}" for line in lines or ("none",)]


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
