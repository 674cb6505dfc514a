"""Six rules, each switched off alone by changing the text of a module as it is imported.

Owns the table. A mutant is one rule and leaves every other in place; it is caught by the violation
that belongs to it, and by no other. Never part of the product: a process has a mutant only where
``path/`` stands on its PYTHONPATH and the variable names one. A text that does not stand in its
module exactly once stops the import.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "PLANTED_MUTANT"
FOLDER = Path(__file__).with_name("path")

_GRANTS = "clearing.services.grants"
_PROCEDURE, _LEDGER = "clearing.procedure", "clearing.worker.ledger"


@dataclass(frozen=True)
class Mutant:
    """``edits``: module, text, what stands there instead. ``place``: where the walk finds it;
    ``violation``: what the judge says of it there."""

    edits: tuple[tuple[str, str, str], ...]
    place: str
    violation: str


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
                "        pk=run_id, state=RunState.CLAIMED, attempt=held.attempt,"
                ' cancel_requested_by=""\n    ).update(\n',
                '        pk=run_id, cancel_requested_by=""\n    ).update(\n'
                '        state=RunState.CLAIMED, reason="", next_try_at=None,\n',
            ),
        ),
        "baiwang/fresh/server.intend#2:stalled",
        "permitted to a claim that was over",
    ),
    # Nobody is asked before an irreversible step.
    "permission": Mutant(
        (
            (
                _LEDGER,
                "            self._ask(stage, unit, period)\n",
                "            self.grant.take(steady(), 60.0)\n            self.in_doubt = True\n",
            ),
        ),
        "baiwang/fresh/disk.clear.JKHC#1:killed_after",
        "a clear without permission",
    ),
    # A permission is given and told of, but the run does not note what may now be written.
    "intent": Mutant(
        (
            (
                _GRANTS,
                'open_intent={"stage": stage.value, "unit": unit, "period": str(period)},',
                "",
            ),
        ),
        "iccard/fresh/disk.clear.UPDATE_CONTROLS#1:cancelled",
        "the disk is cleared, the row says not",
    ),
    # After a clear the machine notes what ought to be on the disk, whatever is.
    "read-back": Mutant(
        (
            (
                _PROCEDURE,
                "            controls = self._read()\n            if there(controls):\n",
                "            controls = self._read(believed=otherwise != Code.REPORT_NOT_SEEN)\n"
                "            if there(controls):\n",
            ),
            (
                _PROCEDURE,
                "    def _read(self) -> dict[str, ControlData]:\n",
                "    def _read(self, believed: bool = False) -> dict[str, ControlData]:\n",
            ),
            (
                _PROCEDURE,
                '                raise Failure(Code.DEVICE_GARBLED, detail="no invoice type")\n',
                '                raise Failure(Code.DEVICE_GARBLED, detail="no invoice type")\n'
                "            period = Month.parse(self.order.period)\n"
                "            if believed and not is_cleared_all(controls, period):\n"
                "                controls = {\n"
                "                    kind: replace(\n"
                "                        data,\n"
                "                        period_start=period.plus(1).first,\n"
                "                        period_end=period.plus(1).last,\n"
                "                        issue_deadline=period.plus(2).first.replace(day=15),\n"
                "                    )\n"
                "                    for kind, data in controls.items()\n"
                "                }\n",
            ),
        ),
        "iccard/fresh/disk.clear.UPDATE_CONTROLS#1:error",
        "a row says cleared, the disk does not",
    ),
    # A clear needs no backup, and so nobody makes one.
    "backup": Mutant(
        (
            (_GRANTS, "stage == Stage.CLEAR and not _backed_up(held)", "False"),
            (_PROCEDURE, "        self._back_up(period)\n        for unit", "        for unit"),
        ),
        "baiwang/fresh/bureau.QLJS#1:lost",
        "no backup before the clear",
    ),
    # A package that is held goes out again without a question.
    "hand-in": Mutant(
        (
            (
                _PROCEDURE,
                '            self._permitted("upload", unit, period, by_its_clock=False)\n',
                "",
            ),
        ),
        "iccard/resumed/bureau.WLCB#1:lost",
        "sent to the bureau without permission",
    ),
}


def environment(name: str) -> dict[str, str]:
    """Of a process that is to have this mutant, and of all that it starts."""
    paths = (str(FOLDER), str(FOLDER.parents[3]), os.environ.get("PYTHONPATH", ""))
    return {**os.environ, VARIABLE: name, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def changed(text: str, module: str, edits: tuple[tuple[str, str, str], ...]) -> str:
    """The text of a module with its edits. Raises LookupError where one does not fit."""
    for of, before, after in edits:
        if of == module:
            if text.count(before) != 1:
                raise LookupError(f"{module} has {before!r} {text.count(before)} times")
            text = text.replace(before, after)
    return text
