"""Files that survive: atomic replacement, fsync'd appending, locks that end with their process.

Owns the few system calls on which the journal's promises rest. It knows nothing of what is kept.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

# Windows locks bytes, not files: one far behind everything that is ever written.
_LOCK_BYTE = 1 << 40
_BINARY: int = getattr(os, "O_BINARY", 0)


def private_dir(path: Path) -> Path:
    """``path`` as a folder for its owner alone, made where it is missing."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def sync_dir(path: Path) -> None:
    """Make names in ``path`` durable: a new file without this may be gone after power loss."""
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path``: after a crash at any point there is the old content or the new."""
    temporary = _written(path, data)
    os.replace(temporary, path)
    sync_dir(path.parent)


def create(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path`` unless something stands there; never half of it."""
    temporary = _written(path, data)
    try:
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
            sync_dir(path.parent)
    finally:
        os.unlink(temporary)


def _written(path: Path, data: bytes) -> Path:
    # A name of this thread's own; what a crash left under it is overwritten.
    temporary = path.with_name(f".new-{os.getpid()}-{threading.get_ident()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _BINARY, 0o600)
    try:
        write_all(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return temporary


def append(descriptor: int, data: bytes) -> None:
    """Add ``data`` at the end; returns after it is on the disk."""
    write_all(descriptor, data)
    os.fsync(descriptor)


def write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def try_lock(descriptor: int) -> bool:
    """Lock an open file for this process; False when another holds it. Ends with the process."""
    try:
        if sys.platform == "win32":
            os.lseek(descriptor, _LOCK_BYTE, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def open_private(path: Path, *, append_only: bool = False) -> int:
    """A descriptor for reading and writing, not inherited by children; the file is 0600."""
    flags = os.O_RDWR | os.O_CREAT | _BINARY | (os.O_APPEND if append_only else 0)
    return os.open(path, flags, 0o600)  # not inheritable (PEP 446): a lock ends with its process


@contextlib.contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold the lock file at ``path`` for the block; yields False when somebody else holds it."""
    descriptor = open_private(path)
    try:
        yield try_lock(descriptor)
    finally:
        os.close(descriptor)
