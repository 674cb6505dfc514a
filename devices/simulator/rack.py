"""The rack process (模拟): all simulated disks of one machine behind a unix socket.

    python -m devices.simulator.rack --world FILE --machine NAME --dir DIR --socket PATH
        [--vpcd SLOT=HOST:PORT …]

Owns the process: arguments, socket, one thread per connection, a clean end on SIGTERM. The disks
are in ``rack_disks``, their files in ``store``, the messages in ``rack_wire``. What is in DIR wins
over the world file, so a rack goes on where it was killed. It says ``ready`` when it can be asked.

Must never: take its disks with it when a client dies, or listen on anything but its own socket.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

from devices.simulator.rack_disks import AnswerLost, CardGone, Rack, RackRefusal
from devices.simulator.rack_faults import Fault
from devices.simulator.rack_wire import Wire, WireError, socket_address
from devices.simulator.store import StoreDamaged
from devices.simulator.vpcd import Attachment, attach_rack
from devices.simulator.world import World


def listen(path: Path) -> socket.socket:
    """The rack's socket, mode 0600. A socket left by a dead rack is replaced, a live one is not.

    Raises ValueError for a path that is too long or taken.
    """
    address = socket_address(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(address)
            raise ValueError(f"another rack answers at {path}")
        except FileNotFoundError:
            pass
        except ConnectionRefusedError:
            path.unlink()
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        server.bind(address)
    finally:
        os.umask(before)
    server.listen(128)
    return server


def signals() -> int:
    """A descriptor that becomes readable at SIGTERM or SIGINT.

    An exception raised by a handler would be lost when it strikes inside a destructor.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: None)
    return reader


def serve(rack: Rack, server: socket.socket, stop: int) -> None:
    """Take connections until ``stop`` is readable; each gets a thread of its own."""
    while stop not in select.select([server.fileno(), stop], [], [])[0]:
        connection, _ = server.accept()
        threading.Thread(target=talk, args=(rack, Wire(connection)), daemon=True).start()


def talk(rack: Rack, wire: Wire) -> None:
    """One connection from its first message to its end. A peer that went away is no error."""
    try:
        while (message := wire.receive()) is not None:
            if message.get("op") == "open":
                _session(rack, wire, message)
                return
            wire.send(_answer(rack, message))
    except (OSError, WireError):
        pass
    finally:
        wire.close()


def _session(rack: Rack, wire: Wire, message: dict[str, Any]) -> None:
    slot, device_no = str(message.get("slot", "")), str(message.get("device_no", ""))
    try:
        with rack.session(slot, device_no, wire.peer_is_gone) as session:
            wire.send({"ok": True})
            while (message := wire.receive() or {}).get("apdu") is not None:
                apdu = bytes.fromhex(str(message["apdu"]))
                try:
                    wire.send({"response": session.transmit(apdu).hex()})
                except CardGone as gone:
                    wire.send({"error": "disk_absent", "outcome_unknown": gone.in_doubt})
    except RackRefusal as refusal:
        wire.send({"error": refusal.code, "text": refusal.text})
    except (AnswerLost, ValueError):
        return


def _answer(rack: Rack, message: dict[str, Any]) -> dict[str, Any]:
    """The answer to one control question."""
    slot, device_no = str(message.get("slot", "")), str(message.get("device_no", ""))
    try:
        match message.get("op"):
            case "slots":
                return {"slots": rack.slots()}
            case "insert":
                rack.insert(slot, device_no)
            case "pull":
                rack.pull(slot)
            case "swap":
                rack.swap(slot, device_no)
            case "fault":
                rack.set_fault(device_no, Fault.from_message(message))
            case "clear_faults":
                rack.set_fault(device_no, None)
            case "commands":
                return {"commands": rack.commands(device_no)}
            case _:
                return {"error": "bad_request", "text": "unknown op"}
    except RackRefusal as refusal:
        return {"error": refusal.code, "text": refusal.text}
    except StoreDamaged as error:
        return {"error": "store_damaged", "text": str(error)}
    except ValueError as error:
        return {"error": "bad_request", "text": str(error)}
    return {"ok": True}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m devices.simulator.rack",
        description="模拟税控盘机架: 一台读盘机上的全部模拟税盘",
    )
    parser.add_argument("--world", type=Path, required=True, help="世界文件 (JSON)")
    parser.add_argument("--machine", required=True, help="读盘机名称")
    parser.add_argument("--dir", type=Path, required=True, help="保存税盘状态的目录")
    parser.add_argument("--socket", type=Path, required=True, help="unix 套接字路径")
    parser.add_argument(
        "--vpcd",
        type=Attachment.parse,
        action="append",
        default=[],
        metavar="SLOT=HOST:PORT",
        help="把盘位接到虚拟读卡器 (vpcd); 可重复",
    )
    options = parser.parse_args(arguments)
    stop = signals()
    try:
        options.dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        rack = Rack(World.load(options.world), options.machine, options.dir)
        server = listen(options.socket)
    except (OSError, ValueError, KeyError, TypeError, RackRefusal, StoreDamaged) as error:
        print(f"rack: {error}", file=sys.stderr)
        return 2
    print("ready", flush=True)
    attach_rack(rack, options.vpcd)
    serve(rack, server, stop)
    options.socket.unlink(missing_ok=True)
    rack.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
