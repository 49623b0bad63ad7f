"""The whole suite again and again, in other orders and with other random numbers: is any test flaky?

    python benchmarks/reproduce/repeated_suites.py [--rounds 20] [--jobs 2] [--out DIR] [-- PYTEST OPTIONS]

Tests are shuffled (pytest-random-order), and all global random streams seeded, with the number of the round: a test
that needs another before it, or lucky weights of a network that it does not seed, fails in some round. The suite runs
the examples and the tutorials' code too. Printed: the commit, tests that passed, failed and were skipped, and the
minutes of each round; then every test that failed, and in which rounds. Exits 1 where one did.

Rounds are kept under OUT/rounds and not run again. A round takes about nine minutes on two cores. Run it from a clone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from xml.etree import ElementTree

from nasplug.benchmarks.environment import environment

ROOT = Path(__file__).parents[2]


def commit() -> str:
    """Return the short name of the commit that is checked out."""
    command = ["git", "rev-parse", "--short=7", "HEAD"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def run(number: int, jobs: int, path: Path, options: list[str]) -> None:
    """Run the suite once; its report stands at ``path`` only when it has come to an end."""
    unfinished = path.with_suffix(".part")
    command = [sys.executable, "-m", "pytest", "-q", "-n", str(jobs), "--random-order-bucket=global"]
    command += [f"--random-order-seed={number}", f"--junitxml={unfinished}", "-o", f"junit_suite_name={commit()}"]
    seeded = os.environ | {"NASPLUG_TEST_SEED": str(number)}
    ended = subprocess.run([*command, *options], cwd=ROOT, env=seeded, capture_output=True, text=True, check=False)
    path.with_suffix(".log").write_text(ended.stdout + ended.stderr)
    if ended.returncode not in (0, 1):  # 1: tests failed; anything else is no finished round
        sys.exit(f"pytest ended with {ended.returncode}; see {path.with_suffix('.log')}")
    unfinished.replace(path)


def read(path: Path) -> tuple[str, dict[str, str], float]:
    """Return the commit, the outcome of each test, and the seconds of the round."""
    suite = next(ElementTree.parse(path).getroot().iter("testsuite"))
    outcomes = {}
    for case in suite.iter("testcase"):
        failed = case.find("failure") is not None or case.find("error") is not None
        name = f"{case.get('classname')}::{case.get('name')}"
        outcomes[name] = "failed" if failed else "skipped" if case.find("skipped") is not None else "passed"
    return suite.get("name", ""), outcomes, float(suite.get("time", "nan"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("repeated-suites"))
    parser.add_argument("options", nargs="*", help="for pytest, such as -- tests/core")
    options = parser.parse_args()
    rounds = (options.out / "rounds").resolve()
    rounds.mkdir(parents=True, exist_ok=True)
    rows, failed = [], defaultdict(list)
    print(f"{'round':>5}  {'commit':<8}{'passed':>8}{'failed':>8}{'skipped':>9}{'minutes':>9}")
    for number in range(1, options.rounds + 1):
        path = rounds / f"{number:02}.xml"
        if not path.exists():
            run(number, options.jobs, path, options.options)
        tested, outcomes, seconds = read(path)
        told = Counter(outcomes.values())
        counts = f"{told['passed']:>8,}{told['failed']:>8}{told['skipped']:>9}"
        print(f"{number:>5}  {tested:<8}{counts}{seconds / 60:>9.1f}", flush=True)
        rows.append({"round": number, "commit": tested, "minutes": seconds / 60} | told)
        for name, outcome in outcomes.items():
            if outcome == "failed":
                failed[name].append(number)
    for name, when in failed.items():
        print(f"failed in {len(when)} of {options.rounds} rounds ({', '.join(map(str, when))}): {name}")
    print(f"{options.rounds} rounds: {len(failed)} tests failed in any of them")
    facts = {"rows": rows, "failed": failed, "environment": environment()}
    (options.out / "summary.json").write_text(json.dumps(facts, indent=1) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
