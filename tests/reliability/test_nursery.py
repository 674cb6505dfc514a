"""What a fault walk forks is what the product starts: a child of the worker that really dies."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from deploy.demonstration.child import ROOT
from deploy.private import within

#: A worker with three children: one ends, one is killed, one is there when the worker is killed.
WORKER = """
import json, os, signal, subprocess, sys
from clearing.worker.leash import tie_to_parent
from deploy.faultwalk.nursery import Nursery

def program(arguments):
    tie_to_parent(int(arguments[0]))
    print(json.dumps([os.getpid(), os.getppid(), os.getsid(0)]), flush=True)
    return len(sys.stdin.readline())

def start():
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    child = nursery.popen((sys.executable, "-m", "program", str(os.getpid())), **pipes)
    return child, json.loads(child.stdout.readline())

nursery = Nursery({"program": program})
ending, killed, left = start(), start(), start()
ending[0].stdin.write(b"12345\\n")
ending[0].stdin.close()
status = ending[0].wait(60)
try:
    killed[0].wait(0.01)
    raise SystemExit("ended before its time")
except subprocess.TimeoutExpired:
    os.killpg(killed[0].pid, signal.SIGKILL)
print(json.dumps({
    "worker": os.getpid(),
    "pids": [child.pid for child, _ in (ending, killed, left)],
    "said": [said for _, said in (ending, killed, left)],
    "status": [status, killed[0].wait(60), left[0].poll()],
}), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere programs are started as always")
def test_a_forked_child_is_the_worker_s_own_ends_as_told_and_dies_with_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WORKER], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == -9, done.stderr
    told = json.loads(done.stdout)
    # Itself, the worker's child, the head of its own session.
    assert told["said"] == [[pid, told["worker"], pid] for pid in told["pids"]]
    assert told["status"] == [6, -9, None]
    assert within(60, lambda: not _runs(told["pids"][2]))


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
