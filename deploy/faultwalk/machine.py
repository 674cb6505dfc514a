"""A reader machine whose runs have plans of faults.

    python -m deploy.faultwalk.machine --config FILE PLANS

The real worker (:func:`clearing.worker.serve.serve`); its children are those of
:mod:`deploy.faultwalk.child`, forked by a :mod:`deploy.faultwalk.nursery`, and its own call that a
run begins with, the claim, has a gate.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from agency.logs import log_to_stderr
from clearing.worker import overseer, probe, prober
from clearing.worker.client import Json
from clearing.worker.config import load
from clearing.worker.durable import locked, private_dir
from clearing.worker.serve import serve
from deploy.faultwalk import child
from deploy.faultwalk.child import gate_server, put
from deploy.faultwalk.nursery import Nursery
from deploy.faultwalk.plan import CLAIM, Plan, Way

_CHILD, _PROBE = "deploy.faultwalk.child", "clearing.worker.probe"
#: What these read only where it is needed.
_READ_LATER = ("clearing.bureau.operate_net", "devices.drivers.component", "httpcore")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.faultwalk.machine")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("plans", type=Path)
    options = parser.parse_args(arguments)
    _fork_from_here()
    config = load(options.config)
    log_to_stderr()
    private_dir(config.data_dir)
    gate_server(_Claims(options.plans, config.name).strike)
    with locked(config.data_dir / "worker.lock") as ours:
        if not ours:
            return 2
        serve(config, command=(sys.executable, "-m", _CHILD, str(options.plans)))
    return 0


def _fork_from_here() -> None:
    """Before the first thread, and before this process has a gate."""
    for name in _READ_LATER:
        importlib.import_module(name)
    nursery = Nursery({_CHILD: child.main, _PROBE: lambda _: probe.main()})
    forking = SimpleNamespace(**{**vars(subprocess), "Popen": nursery.popen})
    for starter in (overseer, prober):
        put(starter, "subprocess", forking)


class _Claims:
    """The gate at the claim: it strikes for the one disk of this machine whose turn it is."""

    def __init__(self, folder: Path, machine: str) -> None:
        self._folder, self._machine = folder, machine

    def strike(
        self,
        name: str,
        act: Callable[[], Json],
        *,
        error: Callable[[], Exception],
        lost: Callable[[], Exception],
        hang: Callable[[], Exception],
        **_: Any,
    ) -> Json:
        if name != CLAIM:
            return act()
        match self._planned():
            case Way.ERROR:
                raise error()
            case Way.HANG:
                act()
                raise hang()
            case Way.LOST:
                act()
                raise lost()
            case Way.KILLED_BEFORE | Way.MACHINE_BEFORE | Way.STALLED:
                os.kill(os.getpid(), signal.SIGKILL)
            case Way.KILLED_AFTER | Way.MACHINE_AFTER:
                act()
                os.kill(os.getpid(), signal.SIGKILL)
        return act()

    def _planned(self) -> Way | None:
        for path in self._folder.glob("*.json"):
            plan = Plan(self._folder, path.stem)
            if plan.machine == self._machine and plan.next_place.startswith(CLAIM):
                return plan.pass_by(CLAIM)
        return None


if __name__ == "__main__":
    sys.exit(main())
