"""The program on the reader machine: ``python -m clearing.worker run --config FILE``.

Owns starting, stopping and the order of both. SIGTERM and SIGINT end it without cutting a write: no
new runs, those at work end before their next permission, and after ``stop_seconds`` wherever they
are, except inside a write, which has its own limit.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from pathlib import Path

from clearing.worker.client import ServerClient
from clearing.worker.config import ConfigError, MachineConfig, load
from clearing.worker.durable import locked, private_dir
from clearing.worker.inventory import Inventory
from clearing.worker.journal import Journal
from clearing.worker.places import Places
from clearing.worker.runner import Runner
from devices.protocol.texts import N_

log_ = logging.getLogger("clearing.worker")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m clearing.worker")
    commands = parser.add_subparsers(required=True)
    run = commands.add_parser("run", help=N_("在读盘机上办理抄报清卡"))
    run.add_argument("--config", type=Path, required=True, help=N_("配置文件 (TOML, 0600)"))
    options = parser.parse_args(arguments)
    try:
        config = load(options.config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for every request
    private_dir(config.data_dir)
    with locked(config.data_dir / "worker.lock") as ours:
        if not ours:
            print(N_("另一个工作程序正在使用此数据目录"), file=sys.stderr)
            return 2
        serve(config)
    return 0


def serve(config: MachineConfig) -> None:
    """Work until a signal, then end in good order."""
    stopping = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stopping.set())
    client = ServerClient(config.server, config.token)
    places = Places(config.data_dir)
    runner = Runner(config, client, Journal(config.data_dir), places)
    inventory = Inventory(config, client, places, runner)
    looking = threading.Thread(target=inventory.run, name="inventory", daemon=True)
    looking.start()
    ear = None
    if config.broker:
        from clearing.worker.app import Ear, make_app  # half a second, where it is needed

        ear = Ear(make_app(config, runner), config.parallel)
        ear.start()
    log_.info("at work for %s", config.server)
    stopping.wait()
    log_.info("stopping")
    runner.stop(config.stop_seconds)
    inventory.stop()
    runner.wait()
    if ear is not None:
        ear.stop(_EAR_SECONDS)
    looking.join(_EAR_SECONDS)
    client.close()
    log_.info("stopped")


_EAR_SECONDS = 5.0

if __name__ == "__main__":
    sys.exit(main())
