"""Whether the fault walk finds every mutant: ``python -m tests.reliability.mutants.walk``."""

from __future__ import annotations

import subprocess
import sys

from deploy.demonstration.child import ROOT
from tests.reliability.mutants import MUTANTS, environment


def main() -> int:
    caught = 0
    for name, mutant in MUTANTS.items():
        only = [word for place in mutant.places for word in ("--only", place)]
        done = subprocess.run(
            [sys.executable, "-m", "deploy.fault_walk", *only],
            cwd=ROOT,
            env=environment(name),
            capture_output=True,
            text=True,
            check=False,
        )
        found = done.returncode == 1 and "runs with violations" in done.stdout
        caught += found
        print(f"{name}: {'caught' if found else 'NOT CAUGHT'}\n{done.stdout}{done.stderr[-2000:]}")
    print(f"{caught} of {len(MUTANTS)} mutants caught")
    return 0 if caught == len(MUTANTS) else 1


if __name__ == "__main__":
    sys.exit(main())
