"""Working until a signal: starts the parts of the worker, and ends them in good order.

SIGTERM and SIGINT end it without cutting a write: no new runs, those at work end before their next
permission, and after ``stop_seconds`` wherever they are, except inside a write, which has its own
limit.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Sequence

from clearing.worker.client import ServerClient
from clearing.worker.config import MachineConfig
from clearing.worker.inventory import Inventory
from clearing.worker.journal import Journal
from clearing.worker.overseer import COMMAND
from clearing.worker.places import Places
from clearing.worker.runner import Runner

log_ = logging.getLogger("clearing.worker")

_EAR_SECONDS = 5.0
_NOTICE_SECONDS = 0.2


def serve(config: MachineConfig, *, command: Sequence[str] = COMMAND) -> None:
    """Work until a signal, then end in good order. ``command``: what a run is done by."""
    asked: list[int] = []  # no Event: set() by a handler inside its own wait() can lock for ever
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda signum, _frame: asked.append(signum))
    client = ServerClient(config.server, config.token)
    places = Places(config.data_dir)
    runner = Runner(config, client, Journal(config.data_dir), places, command=command)
    inventory = Inventory(config, client, places, runner)
    looking = threading.Thread(target=inventory.run, name="inventory", daemon=True)
    looking.start()
    ear = None
    if config.broker:
        from clearing.worker.app import Ear, make_app  # half a second, where it is needed

        ear = Ear(make_app(config, runner), config.parallel)
        ear.start()
    log_.info("at work for %s", config.server)
    while not asked:
        time.sleep(_NOTICE_SECONDS)
    log_.info("stopping")
    runner.stop(config.stop_seconds)
    inventory.stop()
    runner.wait()
    if ear is not None:
        ear.stop(_EAR_SECONDS)
    looking.join(_EAR_SECONDS)
    client.close()
    log_.info("stopped")
