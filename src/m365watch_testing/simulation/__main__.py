"""`./dev simulate`: many seeds one after the other, or one with its whole history."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context

from m365watch_testing.simulating import parser_of_simulate, seeds_asked_for
from m365watch_testing.simulation.scratch import judge_seed
from m365watch_testing.simulation.seeds import Verdict

SEEDS = 300
_TOLD_EVERY = 25
_SHOWN_MAX = 400


def main(arguments: list[str] | None = None) -> int:
    """0 if every promise held in every seed, 1 if not."""
    parser = parser_of_simulate()
    asked = parser.parse_args(arguments)
    if asked.mutant or asked.control or asked.all:
        parser.error("known bugs are put in by ./dev simulate --mutant NAME alone")
    seeds = seeds_asked_for(asked, default=SEEDS)
    verdicts = [judge_seed(seeds[0])] if len(seeds) == 1 else list(_run(seeds, jobs=asked.jobs))
    tell(verdicts, is_alone=len(seeds) == 1, as_json=asked.json)
    return int(any(verdict.broken for verdict in verdicts))


def tell(verdicts: list[Verdict], *, is_alone: bool, as_json: bool) -> None:
    """Print the verdict on one seed with its history, or what many have found."""
    if is_alone:
        _tell_seed(verdicts[0], as_json=as_json)
    else:
        _tell_all(verdicts, as_json=as_json)


def _run(seeds: Sequence[int], *, jobs: int) -> Iterator[Verdict]:
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
