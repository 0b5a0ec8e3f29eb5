"""`python -m benchmarks`: measure, show, and exit 1 if a required figure is missed."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.contenders import CONTENDERS
from benchmarks.measuring import CommandFailed
from benchmarks.registry import BENCHMARKS
from benchmarks.together import run_together

_HERE = Path(__file__).parent


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 all is well; 1 a figure was missed, or something failed."""
    parser = options_parser()
    options = parser.parse_args(arguments)
    for given, option, name in ((options.only, "--only", "collector"), (options.page, "--page", "board")):
        if given and options.names != [name]:
            parser.error(f"{option} goes with one benchmark: ./dev bench {name} {option} {given[0]!r}")
    if options.against and options.names not in (["collector"], ["small"], ["start"]):
        parser.error("--against goes with collector, small or start, one of them at a time")
    if options.against and not (options.against / "src" / "m365watch").is_dir():
        parser.error(f"--against: no src/m365watch in {options.against}")
    if options.write or len(options.names) != 1:
        for option in ("records", "only", "page", "seconds", "against"):
            if getattr(options, option) != parser.get_default(option):
                parser.error(
                    f"--{option} goes with one benchmark that is not written down: it changes the figure"
                )
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # As ./dev does: each start would compile anew.
    if len(options.names) == 1 and not options.write:
        return _measure(options)
    names = options.names or [name for name in BENCHMARKS if name not in options.without]
    return run_together(names, passed_on(options), _HERE, as_json=options.json)


def passed_on(options: argparse.Namespace) -> list[str]:
    """What of the options a benchmark hears that runs in a process of its own."""
    lake = ["--lake", str(options.lake)] if options.lake else []
    return ["--runs", str(options.runs), *(["--quick"] if options.quick else []), *lake]


def _measure(options: argparse.Namespace) -> int:
    """One benchmark, in this process."""
    [name] = options.names
    console = Console(stderr=options.json)
    try:
        outcome = BENCHMARKS[name].measure(options, console)
    except CommandFailed as failure:
        console.print(f"{name}: {failure}", style="red", markup=False)
        return 1
    if options.json:
        print(json.dumps({"benchmark": name, **outcome.document()}, indent=1))
    return 0 if outcome.passed else 1


def _name(text: str) -> str:
    """A benchmark's."""
    if text not in BENCHMARKS:
        raise argparse.ArgumentTypeError(f"there is no benchmark {text!r}; there are {', '.join(BENCHMARKS)}")
    return text


def _count(text: str) -> int:
    """A number; 2M is two million."""
    return int(float(text[:-1]) * 1e6) if text[-1:] in "mM" else int(text)


def options_parser() -> argparse.ArgumentParser:
    """Reads the command line."""
    listed = "\n".join(
        f"  {name:12} {one.says}: {one.minutes:g} minute{'' if one.minutes == 1 else 's'}"
        for name, one in BENCHMARKS.items()
    )
    parser = argparse.ArgumentParser(
        prog="./dev bench",
        usage="./dev bench [NAME ...] [options]",
        description="Measures one benchmark; or several, or all of them, each in a process of its own, and"
        " writes what they found into one table, benchmarks/figures.md.",
        epilog=f"benchmarks, and how long they take on 2 quiet cores:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", type=_name, metavar="NAME", help="all without one")
    parser.add_argument(
        "--without", action="append", default=[], type=_name, metavar="NAME", help="all but this one"
    )
    parser.add_argument("--write", action="store_true", help="put a single one into the table as well")
    parser.add_argument("--json", action="store_true", help="everything as JSON on stdout, tables on stderr")
    parser.add_argument("--records", type=_count, default=None, help="in place of as many as are judged")
    parser.add_argument("--runs", type=int, default=3, help="counted runs of each contender")
    parser.add_argument("--quick", action="store_true", help="few records, no warm-up, nothing judged")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        choices=[contender.name for contender in CONTENDERS],
        help="collector: of the contenders only these",
    )
    parser.add_argument(
        "--against",
        type=Path,
        metavar="CHECKOUT",
        help="collector, small, start: the product of another checkout takes turns with ours",
    )
    parser.add_argument("--lake", type=Path, metavar="FOLDER", help="board: where its lake is, or is made")
    parser.add_argument("--page", action="append", default=[], metavar="NAME", help="board: only these pages")
    parser.add_argument("--seconds", type=float, default=150.0, help="lag: how long it is looked at, twice")
    return parser


if __name__ == "__main__":
    sys.exit(main())
