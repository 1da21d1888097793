"""`make fuzz`: the differential tests of search again and again with new seeds, until one fails, the minutes are over or somebody stops it.

    python -m tests.search.fuzz [MINUTES]

Each round tells how many examples were tried so far. A failure is shown as the smallest example that Hypothesis finds, with the seed that brings it
back and the decorator that reproduces it; what it finds becomes a case in `test_found_by_fuzzing.py`.
"""

# ruff: noqa: T201 - a script for a terminal.

from __future__ import annotations

import random
import re
import subprocess
import sys
import time

TESTS = ("tests/search/test_differential.py", "tests/store/test_moments.py")


def main(minutes: float | None) -> int:
    """The exit status of the first round that failed, 0 if none did in time."""
    begun, rounds, tried = time.monotonic(), 0, 0
    while minutes is None or time.monotonic() - begun < minutes * 60:
        seed = random.SystemRandom().randrange(2**32)
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-x",
            "--hypothesis-profile=fuzz",
            f"--hypothesis-seed={seed}",
            "--hypothesis-show-statistics",
        ]
        done = subprocess.run([*command, *TESTS], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode:
            print(done.stdout)
            print(f"Failed with seed {seed}. Again: pytest {' '.join([*command[3:], *TESTS])}")
            return done.returncode
        rounds += 1
        tried += sum(map(int, re.findall(r"(\d+) passing", done.stdout)))
        print(f"{time.monotonic() - begun:7.0f} s  round {rounds} (seed {seed}): {tried:,} worlds agree", flush=True)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else None))
    except KeyboardInterrupt:
        sys.exit(130)
