"""The program on the reader machine: ``qingka-reader`` (``python -m clearing.worker``)."""

from __future__ import annotations

import sys

from clearing.worker.cli import run_command


def main(arguments: list[str] | None = None) -> int:
    return run_command(arguments)


if __name__ == "__main__":
    sys.exit(main())
