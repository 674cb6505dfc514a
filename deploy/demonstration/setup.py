"""Sets the demo's database up: tables, agency, people, bureaus, machines, clients.

    python -m deploy.demonstration.setup --root DIR --server URL --bureau URL --clients FILE.xlsx
        [--machine NAME …] [--parallel N]

A process of its own, the only one with the owner's rights on the database.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import django
from django.core.management import CommandError, call_command

from deploy.demonstration.places import Places
from deploy.demonstration.scenario import MACHINES


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.demonstration.setup")
    parser.add_argument("--root", type=Path, required=True, help="the run folder")
    parser.add_argument("--server", required=True, help="address of the web server")
    parser.add_argument("--bureau", required=True, help="address of the stand-in bureau")
    parser.add_argument("--clients", type=Path, required=True, help="the sheet to import")
    parser.add_argument("--own", action="store_true", help="it is somebody's own, not the sample")
    parser.add_argument("--machine", action="append", help="reader machines; the sample's two")
    parser.add_argument("--parallel", type=int, default=8, help="runs at once on each")
    options = parser.parse_args(arguments)
    django.setup()
    from deploy.demonstration.furnish import furnish  # its models need the line above

    try:
        call_command("migrate", database="owner", verbosity=0, interactive=False)
        furnish(
            Places(options.root),
            server=options.server,
            bureau=options.bureau,
            sheet=options.clients,
            own=options.own,
            machines=options.machine or MACHINES,
            parallel=options.parallel,
        )
    except CommandError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
