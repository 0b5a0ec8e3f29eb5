"""What `./dev simulate` can be asked. Imports nothing that a mutant may have to patch first."""

from __future__ import annotations

import argparse

JOBS_MAX = 64


def parser_of_simulate() -> argparse.ArgumentParser:
    """The one grammar, for the collector as shipped and for one that a known bug was put into."""
    parser = argparse.ArgumentParser(
        prog="./dev simulate",
        allow_abbrev=False,
        description="Run the collector through simulated histories and judge what it promises.",
    )
    parser.add_argument("--seeds", type=_count, metavar="N", help="how many seeds (300; of a mutant 50)")
    parser.add_argument("--from", dest="start", type=int, default=0, metavar="S", help="the first one (0)")
    parser.add_argument(
        "--seed",
        dest="only",
        type=int,
        action="append",
        metavar="S",
        help="this seed alone, with its history; several times: these, in this order",
    )
    parser.add_argument("--jobs", type=_jobs, default=1, metavar="N", help="how many at once (1)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    bugs = parser.add_argument_group("known bugs (tests/simulation/mutants)")
    bugs.add_argument(
        "--mutant", metavar="NAME", help="put this bug in; the first seed that finds it is the last"
    )
    bugs.add_argument("--control", action="store_true", help="without the bug, but with what goes with it")
    bugs.add_argument("--all", action="store_true", help="go on after a seed that breaks a promise")
    return parser


def seeds_asked_for(asked: argparse.Namespace, *, default: int) -> list[int]:
    """The seeds to run, in order."""
    if asked.only:
        return list(asked.only)
    return list(range(asked.start, asked.start + (asked.seeds or default)))


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _jobs(text: str) -> int:
    return min(_count(text), JOBS_MAX)
