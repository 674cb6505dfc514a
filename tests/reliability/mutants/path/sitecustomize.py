"""Plants a mutant of ``tests.reliability.mutants`` where the environment names one.

Python imports a module of this name at its start.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any


class _Loader(SourceFileLoader):
    edits: tuple[tuple[str, str, str], ...] = ()

    def get_code(self, fullname: str) -> Any:
        """From the changed text, and never from or to a cache."""
        text = self.get_data(self.path).decode()
        try:
            text = changed(text, fullname, self.edits)
        except LookupError as error:
            print(f"mutant: {error}", file=sys.stderr)
            os._exit(3)
        return compile(text, self.path, "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, edits: tuple[tuple[str, str, str], ...]) -> None:
        self._edits = edits
        self._modules = {module for module, _, _ in edits}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._modules:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.origin is not None:
            loader = _Loader(fullname, spec.origin)
            loader.edits = self._edits
            spec.loader = loader
        return spec


if name := os.environ.get("PLANTED_MUTANT"):
    from tests.reliability.mutants import MUTANTS, changed

    sys.meta_path.insert(0, _Finder(MUTANTS[name].edits))
