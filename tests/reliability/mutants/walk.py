"""Whether the fault walk finds every mutant: ``python -m tests.reliability.mutants.walk``.

First the same places without any mutant: nothing may be found there. A mutant is caught only by the
violation that belongs to it; a run that did not end, or did not come to its place, is no catch.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from deploy.demonstration.child import ROOT
from tests.reliability.mutants import MUTANTS, environment


def walk(places: Sequence[str], env: dict[str, str]) -> dict[str, list[str]]:
    """By place: what the judge says. Raises SystemExit for a walk that did not come to its end."""
    only = [word for place in places for word in ("--only", place)]
    with tempfile.TemporaryDirectory(prefix="qingka-mutants-") as folder:
        told = Path(folder) / "results.json"
        done = subprocess.run(
            [sys.executable, "-m", "deploy.fault_walk", "--json", str(told), *only],
            cwd=ROOT,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        if not told.exists():
            raise SystemExit(done.stdout + done.stderr)
        results = json.loads(told.read_text(encoding="utf-8"))
    found: dict[str, list[str]] = {}
    for result in results:
        if result["violations"] or result["key"]:
            found.setdefault(result["key"], []).extend(result["violations"])
    return found


def caught(name: str, found: dict[str, list[str]]) -> bool:
    """Whether what was found is what this mutant does."""
    mutant = MUTANTS[name]
    return any(mutant.violation in text for text in found.get(mutant.place, ()))


def main() -> int:
    clean = walk([mutant.place for mutant in MUTANTS.values()], dict(os.environ))
    quiet = not any(clean.values())
    print(f"no mutant: {'nothing found' if quiet else clean}", flush=True)
    count = 0
    for name, mutant in MUTANTS.items():
        found = walk([mutant.place], environment(name))
        count += caught(name, found)
        print(f"{name}: {'caught' if caught(name, found) else 'NOT CAUGHT'} at {mutant.place}")
        for text in [text for texts in found.values() for text in texts]:
            print(f"  {'→' if mutant.violation in text else ' '} {text}", flush=True)
    print(f"{count} of {len(MUTANTS)} mutants caught")
    return 0 if quiet and count == len(MUTANTS) else 1


if __name__ == "__main__":
    sys.exit(main())
