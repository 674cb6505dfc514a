"""Four promises, each switched off by changing the text of a module as it is imported.

Owns the table. Never part of the product: a process has a mutant only where ``path/`` stands on its
PYTHONPATH and the variable names one. A text that is no longer there stops the import.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "PLANTED_MUTANT"
FOLDER = Path(__file__).with_name("path")

_GRANTS, _ENDS = "clearing.services.grants", "clearing.services.ends"
_PROCEDURE, _LEDGER = "clearing.procedure", "clearing.worker.ledger"


@dataclass(frozen=True)
class Mutant:
    """``edits``: module, text, what stands there instead. ``places``: where the walk finds it."""

    edits: tuple[tuple[str, str, str], ...]
    places: tuple[str, ...]


MUTANTS = {
    # Whoever asks is permitted, whether its lease is over or not.
    "fence": Mutant(
        (
            (
                _GRANTS,
                "    if not lives(held, real_now):\n        return Denial",
                "    if False:\n        return Denial",
            ),
            (
                _GRANTS,
                "pk=run_id, state=RunState.CLAIMED, attempt=held.attempt,"
                ' cancel_requested_by=""\n    ).update(',
                'pk=run_id\n    ).update(state=RunState.CLAIMED, reason="", next_try_at=None, ',
            ),
        ),
        ("baiwang/fresh/server.intend#2:stalled",),
    ),
    # Nobody is asked before an irreversible step.
    "intent": Mutant(
        (
            (
                _LEDGER,
                "            self._ask(stage, unit, period)\n",
                "            self.grant.take(steady(), 60.0)\n",
            ),
        ),
        ("baiwang/fresh/disk.clear.JKHC#1:killed_after",),
    ),
    # What the disk was told counts for what it is.
    "read-back": Mutant(
        (
            (
                _PROCEDURE,
                "                self._see_lost(unit, period, lost)\n",
                "                pass\n",
            ),
            (
                _PROCEDURE,
                "        controls = self._read_until(lambda read: is_cleared_all(read, period),"
                " Code.CLEAR_NOT_SEEN)\n"
                "        return controls, self._confirm_all(units, period)",
                "        raise Believed",
            ),
            (
                _PROCEDURE,
                "    try:\n        return work.run()\n",
                "    try:\n        return work.run()\n"
                "    except Believed:\n        return Outcome(End.DONE)\n",
            ),
            (
                _PROCEDURE,
                "class Ledger(Protocol):",
                "class Believed(Exception):\n    pass\n\n\nclass Ledger(Protocol):",
            ),
            (
                _ENDS,
                "    if run.open_intent is not None:\n        # Something",
                "    if False:\n        # Something",
            ),
            (_ENDS, "not _proven(ordered, attempt, row)", "False"),
        ),
        ("baiwang/fresh/disk.clear.JKHC#1:error",),
    ),
    # A clear needs no backup, and so nobody makes one.
    "backup": Mutant(
        (
            (_GRANTS, "stage == Stage.CLEAR and not _backed_up(held)", "False"),
            (_PROCEDURE, "        self._back_up(period)\n        for unit", "        for unit"),
        ),
        ("baiwang/fresh/bureau.QLJS#1:lost",),
    ),
}


def environment(name: str) -> dict[str, str]:
    """Of a process that is to have this mutant, and of all that it starts."""
    paths = (str(FOLDER), str(FOLDER.parents[3]), os.environ.get("PYTHONPATH", ""))
    return {**os.environ, VARIABLE: name, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
