"""Keeps a watching process at one PC/SC daemon, and its newest view.

Owns the process of :mod:`devices.drivers.pcsc_watch`: started, read, started again when it ended.
A view without a sign of life is worth nothing: a daemon that is stopped or stuck answers no
question, not even whether it lives, and the watching process waits with it.

Must never: block whoever asks for the view.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from devices.drivers.pcsc_service import PcscService
from devices.drivers.pcsc_watch import ALIVE_SECONDS, ServiceView

#: Without a line for so long a daemon counts as gone.
SILENT_SECONDS = 2.5 * ALIVE_SECONDS
_AGAIN_SECONDS = 0.5
_END_SECONDS = 5.0

_NOTHING_YET = ServiceView(0, problem="starting")
_SILENT = ServiceView(0, problem="silent")


class PcscWatcher:
    """Watches one daemon from another process; ``changed`` is called (from a thread) with each new
    view. Ends with :meth:`stop`, or with this process."""

    def __init__(
        self,
        service: PcscService,
        *,
        changed: Callable[[], None] = lambda: None,
        silent: float = SILENT_SECONDS,
    ) -> None:
        self._service = service
        self._changed = changed
        self._silent = silent
        self._view = _NOTHING_YET
        self._heard = time.monotonic()
        self._lives = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pcsc watcher", daemon=True)
        self._thread.start()

    def view(self) -> ServiceView:
        """The newest view; it is down while the daemon, or the watching process, is silent."""
        return self._view if time.monotonic() - self._heard < self._silent else _SILENT

    def stop(self) -> None:
        """End the watching process. Safe to call twice."""
        self._stopped.set()
        with self._lock:
            if self._process is not None:
                self._process.kill()  # it holds nothing but a context, which dies with it
        self._thread.join(_END_SECONDS)

    def _run(self) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(OSError):
                self._listen()
            self._take(ServiceView(0, problem="watcher ended"))
            self._stopped.wait(_AGAIN_SECONDS)

    def _listen(self) -> None:
        """One life of the watching process."""
        command = [sys.executable, "-m", "devices.drivers.pcsc_watch"]
        if self._service.socket is not None:
            command += ["--socket", str(self._service.socket)]
        with self._lock:
            if self._stopped.is_set():
                return
            self._lives += 1
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, **self._service.environment()},
                start_new_session=True,
            )
        process = self._process
        with process:
            try:
                for line in process.stdout or ():
                    with contextlib.suppress(ValueError, KeyError, TypeError):
                        self._take(ServiceView.from_line(line))
            finally:
                process.kill()

    def _take(self, view: ServiceView) -> None:
        self._heard = time.monotonic()
        before, self._view = self._view, view
        if view != before:
            self._changed()
