"""The one judge over a month under test, in a process of its own: Django knows one database.

    python -m tests.reliability.judged ROOT CLOCK_OFFSET

In the environment of the month's stack. Standard output: a JSON list of sentences, one for each
violation.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import django

from clearing.bureau.standin import read_state
from deploy.demonstration.expected import Expected
from deploy.demonstration.judge import judge, look
from deploy.demonstration.places import Places


def main(root: Path, clock_offset: float) -> None:
    django.setup()
    from deploy.demonstration.tables import read_claims

    places = Places(root)
    expected = Expected.load(places.expected)
    sights = look(places.disks, expected, clock_offset=clock_offset)
    bureau = read_state(places.bureau)
    found = judge(expected, sights, bureau, read_claims(), disturbed=True)
    print(json.dumps(found, ensure_ascii=False))


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
