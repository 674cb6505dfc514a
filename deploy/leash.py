"""Holds a child process on a leash: when whoever holds the other end is gone, the child ends.

A program of its own, run as ``python leash.py INT,QUIT 30 command …`` with a pipe as standard
input. When the pipe closes (on purpose, or because its holder was killed, ``kill -9`` included),
the child gets the first signal, after that many seconds the next one, and ``SIGKILL`` at last.
When the child ends by itself, so does this program. It knows nothing of Qingka and needs only the
standard library.

A process forked (not started afresh) from the holder keeps the pipe open: start such ones before,
or let them go on to ``exec``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading


def hold(command: list[str], signals: list[signal.Signals], patience: float) -> int:
    """Run ``command`` until it ends or standard input closes; its exit status as in a shell."""
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, lambda *_: None)  # a handler, unlike SIG_IGN, is not inherited
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as child:
        signal.signal(signal.SIGTERM, lambda *_: child.send_signal(signals[0]))
        threading.Thread(
            target=_end_when_let_go, args=(child, signals, patience), daemon=True
        ).start()
        status = child.wait()
    return status if status >= 0 else 128 - status


def _end_when_let_go(
    child: subprocess.Popen[bytes], signals: list[signal.Signals], patience: float
) -> None:
    while os.read(sys.stdin.fileno(), 1024):  # unbuffered: a buffer's lock would outlive the thread
        pass
    for stop in (*signals, signal.SIGKILL):
        child.send_signal(stop)
        try:
            child.wait(patience)
        except subprocess.TimeoutExpired:
            continue
        return


if __name__ == "__main__":
    names, seconds, *rest = sys.argv[1:]
    sys.exit(
        hold(rest, [signal.Signals[f"SIG{name}"] for name in names.split(",")], float(seconds))
    )
