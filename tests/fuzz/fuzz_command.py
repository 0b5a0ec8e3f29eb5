"""Hostile inputs for everything that reads what others write, until something gives way.

    ./dev fuzz --minutes 30
    ./dev fuzz --only rules --minutes 5 --seed 7
    ./dev fuzz --replay .fuzz/findings/rules-3f1c9a20d4b7

Every input has to end in a value or in the project's own error, within CPU time and memory in proportion to its
length. What ran new lines is kept in .fuzz/corpus and begun with the next time. Exit code 1: something was found.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

from in_memory import lay_files_in_memory

from fuzz_contract import Target
from fuzz_hunt import MADE_MIN, Bounds, Hunt, hunt, replay
from fuzz_targets import TARGETS
from fuzz_trials import Finding

FOLDER = Path(".fuzz")
_SHOWN_BYTES = 160


def main(words: Sequence[str]) -> int:
    """Hunt, or replay one input; 0 where nothing was found, 1 where something was."""
    asked = _read(words)
    lay_files_in_memory()
    if asked.list:
        for target in TARGETS:
            print(target.name)
        return 0
    if asked.replay:
        return _replay(asked.replay)
    chosen = [
        one for one in TARGETS if not asked.only or any(one.name.startswith(name) for name in asked.only)
    ]
    if not chosen:
        print(
            f"there is no target {asked.only[0]}; known: {', '.join(one.name for one in TARGETS)}",
            file=sys.stderr,
        )
        return 2
    seconds = None if asked.inputs else asked.minutes * 60 / len(chosen)
    bounds = Bounds(seconds=seconds, inputs=asked.inputs)
    hunts = [_hunt(target, bounds, asked) for target in chosen]
    if asked.json:
        print(json.dumps([_document(one) for one in hunts], indent=2))
    else:
        _tell_all(hunts, seed=asked.seed)
    return 1 if any(one.findings for one in hunts) else 0


def _read(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./dev fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=10.0,
        help=f"for all targets together; each gets {MADE_MIN} inputs at least",
    )
    parser.add_argument("--inputs", type=int, help="for each target, in place of minutes")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="targets that begin so")
    parser.add_argument("--seed", type=int, default=0, help="another one tries other inputs")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of what is kept and found")
    parser.add_argument(
        "--fresh", action="store_true", help="neither begin with what was kept nor keep anything"
    )
    parser.add_argument("--replay", type=Path, metavar="FILE", help="try the input of this finding alone")
    parser.add_argument("--list", action="store_true", help="name the targets")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(words)


def _hunt(target: Target, bounds: Bounds, asked: argparse.Namespace) -> Hunt:
    corpus = None if asked.fresh else asked.folder / "corpus" / target.name
    if corpus is not None:
        corpus.mkdir(parents=True, exist_ok=True)
    told: set[str] = set()
    if bounds.inputs is not None:
        bounds = replace(bounds, inputs=max(bounds.inputs // target.costs, 1))
    found = hunt(
        target,
        seed=asked.seed,
        bounds=bounds,
        corpus=corpus,
        on_round=partial(_tell_round, told, asked.folder),
    )
    print(f"{_figures(found)}; {'done' if not found.findings else 'FOUND'}", file=sys.stderr, flush=True)
    return found


def _tell_round(told: set[str], folder: Path, found: Hunt) -> None:
    """Write each new finding down at once, and say how far it is."""
    for what in found.findings.keys() - told:
        path = _write(found.findings[what], folder)
        told.add(what)
        print(f"{found.target.name}: {what}\n  ./dev fuzz --replay {path}", file=sys.stderr, flush=True)
    print(_figures(found), file=sys.stderr, flush=True)


def _figures(found: Hunt) -> str:
    rate = found.inputs / found.took_s if found.took_s else 0
    return f"{found.target.name}: {found.inputs:,} inputs in {found.took_s:.0f} s ({rate:,.0f}/s), {found.kept} kept"


def _write(finding: Finding, folder: Path) -> Path:
    findings = folder / "findings"
    findings.mkdir(parents=True, exist_ok=True)
    path = findings / f"{finding.target}-{hashlib.sha256(finding.given).hexdigest()[:12]}"
    path.write_bytes(finding.given)
    path.with_name(f"{path.name}.txt").write_text(f"{finding.what}\n\n{finding.detail}\n", errors="replace")
    return path


def _tell_all(hunts: Sequence[Hunt], *, seed: int) -> None:
    inputs = sum(one.inputs for one in hunts)
    findings = [finding for one in hunts for finding in one.findings.values()]
    print(f"{inputs:,} inputs for {len(hunts)} targets with seed {seed}: {len(findings) or 'no'} findings")
    for finding in findings:
        print(f"  {finding.target}: {finding.what}: {finding.given[:_SHOWN_BYTES]!r}")


def _document(found: Hunt) -> dict[str, object]:
    return {
        "target": found.target.name,
        "inputs": found.inputs,
        "findings": [
            {"what": one.what, "input": repr(one.given[:2_000]), "detail": one.detail}
            for one in found.findings.values()
        ],
    }


def _replay(path: Path) -> int:
    named = path.name.rpartition("-")[0]
    target = next((one for one in TARGETS if one.name == named), None)
    if target is None:
        print(
            f"{path}: the name of a finding begins with its target's; {named or 'this'} is none",
            file=sys.stderr,
        )
        return 2
    try:
        given = path.read_bytes()
    except OSError as error:
        print(f"{path}: cannot be read: {error.strerror}", file=sys.stderr)
        return 2
    finding = replay(target, given).finding
    if finding is None:
        print(f"{target.name}: nothing is wrong with these {len(given):,} bytes any more")
        return 0
    print(f"{target.name}: {finding.what}\n\n{finding.detail}")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
