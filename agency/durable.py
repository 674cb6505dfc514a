"""Files of ours that a power loss must not take: written through before we rely on them.

A content that was read back proves nothing of that: it may come from memory.
"""

from __future__ import annotations

import os
from pathlib import Path

from django.core.files.storage import Storage


def make_durable(storage: Storage, name: str) -> None:
    """Write a stored file through, and the folders that name it up to the storage's own. A storage
    without folders here (an object store) has done so when it answered. Raises OSError."""
    try:
        path, root = Path(storage.path(name)), Path(storage.path(""))
    except NotImplementedError:
        return
    _sync(path)
    for folder in path.parents:
        _sync(folder)
        if folder == root:
            break


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
