"""What makes a server's folders and processes ours: private folders, a lock, whose process it is.

For :mod:`deploy.embedded`. Nothing here changes a folder or signals a process that exists already.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

# What the kernel takes for the path of a socket, its closing NUL left out.
SOCKET_PATH_BYTES = 103 if sys.platform == "darwin" else 107
LONGEST_SOCKET_NAME = ".s.PGSQL.5432"


class EmbeddedError(RuntimeError):
    """A private server cannot be had; the text says why and what to do."""


def socket_folder(preferred: Path, *, longest: str = LONGEST_SOCKET_NAME) -> Path:
    """``preferred`` if sockets in it have a path that can be used, else a short one instead.
    ``longest``: the longest name of a socket in it.

    The short one lies in the temporary folder and is always the same for the same ``preferred``.
    """
    try:
        check_socket_path(preferred.absolute() / longest)
        return preferred
    except EmbeddedError:
        pass
    mark = hashlib.sha256(os.fsencode(preferred.absolute())).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"qingka-{os.geteuid()}-{mark}"


def check_socket_path(path: Path) -> None:
    """Raise EmbeddedError if no client could connect to a socket at ``path``."""
    length = len(os.fsencode(path))
    if length > SOCKET_PATH_BYTES:
        raise EmbeddedError(
            f"The path of a socket may have {SOCKET_PATH_BYTES} bytes, this one has {length}: "
            f"{path}. Name a shorter folder."
        )
    if "," in str(path):  # to libpq it parts one host from the next
        raise EmbeddedError(f"The path of a socket may have no comma: {path}. Name another folder.")


def private_folder(folder: Path) -> None:
    """Make ``folder`` for us alone. An existing one is checked and never changed."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise EmbeddedError(f"The folder {folder} cannot be made: {error.strerror}.") from error
    if found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise EmbeddedError(
            f"The folder {folder} is open to other users. Give it to yourself alone "
            f"(chmod 700) or name another."
        )


def locked(path: Path, name: str) -> IO[str]:
    lock = path.open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise EmbeddedError(
            f"Another run uses {name}'s data in {path.parent}. End it first."
        ) from None
    return lock


def first_number(path: Path) -> int | None:
    try:
        return int(path.read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None


def works_in(pid: int, folder: Path) -> bool:
    """Whether the process ``pid`` is alive and has ``folder`` as its working directory."""
    if Path("/proc/self/cwd").exists():
        try:
            return os.path.samefile(f"/proc/{pid}/cwd", folder)
        except OSError:  # no such process, or not ours to look at
            return False
    shown = subprocess.run(
        ["ps", "-o", "command=", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=False,
    )
    return str(folder) in shown.stdout


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
