"""The stand-in component (模拟): all component disks of one machine behind one HTTP address.

    python -m devices.simulator.component --world FILE --machine NAME --dir DIR --port-file FILE

Owns the process: arguments, the socket on 127.0.0.1 and nowhere else, a thread per call, a clean
end on SIGTERM. ``/SKServer/SKDo`` takes device documents, ``/SKServer/OperateNet`` carries bureau
documents, ``/_control`` plugs, pulls and sets faults (JSON). What is in DIR wins over the world
file, so it goes on where it was killed. The port stands in the port file once calls are taken.

Must never: carry anything to an address that is neither this machine nor named by ``--reach`` (the
stand-in bureau of a private network namespace), or log a document.
"""

from __future__ import annotations

import argparse
import json
import logging
import signal
import socket
import socketserver
import sys
import threading
from collections.abc import Collection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

from devices.drivers.component_http import PATH as DEVICE_PATH
from devices.protocol import business_xml, operate_net
from devices.protocol.envelope import SIZE_LIMIT
from devices.protocol.failures import Failure
from devices.simulator.component_faults import ComponentFault
from devices.simulator.component_net import LOCAL, carry
from devices.simulator.component_rack import ComponentRack, ComponentRefusal, Dropped
from devices.simulator.store import StoreDamaged
from devices.simulator.world import World

HOST = "127.0.0.1"
CONTROL_PATH = "/_control"
_READ_SECONDS = 30

log = logging.getLogger(__name__)


class ComponentServer(ThreadingHTTPServer):
    """Serves one :class:`ComponentRack`; a thread per connection."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, rack: ComponentRack, reach: Collection[str] = LOCAL) -> None:
        self.rack = rack
        self.reach = reach
        super().__init__((HOST, port), Handler)

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.server_port}"

    def server_bind(self) -> None:
        """Without HTTPServer's look-up of the host's name, which can take seconds offline."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.socket.getsockname()[:2]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error; of anything else the type is enough."""
        log.debug("%s", sys.exc_info()[0])


class Handler(BaseHTTPRequestHandler):
    """One call."""

    protocol_version = "HTTP/1.1"
    server_version = "qingka-standin"
    timeout = _READ_SECONDS

    def do_POST(self) -> None:
        self.close_connection = True
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()) or int(length) > SIZE_LIMIT:
            self._send(413)
            return
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            return
        rack = cast(ComponentServer, self.server).rack
        try:
            if self.path == DEVICE_PATH:
                self._device(rack, body)
            elif self.path == operate_net.PATH:
                reach = cast(ComponentServer, self.server).reach
                reply = carry(rack, operate_net.read_call(body), reach)
                self._send(200, operate_net.build_reply(reply))
            elif self.path == CONTROL_PATH:
                # A web page cannot send this type here without being asked first.
                is_json = self.headers.get_content_type() == "application/json"
                self._send(200, control(rack, body)) if is_json else self._send(415)
            else:
                self._send(404)
        except Failure:
            self._send(400)
        except Dropped:
            return

    def _device(self, rack: ComponentRack, body: bytes) -> None:
        answer = rack.work(business_xml.parse_request(body), self._peer_is_gone)
        if not isinstance(answer, bytes):
            answer = business_xml.build_answer(answer)
        self._send(200, answer)

    def _peer_is_gone(self) -> bool:
        try:
            return not self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def _send(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/xml; charset=gbk")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        log.debug(format, *args)


def control(rack: ComponentRack, body: bytes) -> bytes:
    """The answer to one control question: the rack's own form (``rack_wire``), over HTTP."""
    try:
        message = json.loads(body)
        slot, device_no = str(message.get("slot", "")), str(message.get("device_no", ""))
        answer: dict[str, Any] = {"ok": True}
        match message.get("op"):
            case "slots":
                answer = {"slots": rack.slots()}
            case "insert":
                rack.insert(slot, device_no)
            case "pull":
                rack.pull(slot)
            case "fault":
                rack.set_fault(device_no, ComponentFault.from_message(message))
            case "clear_faults":
                rack.set_fault(device_no, None)
            case "commands":
                answer = {"commands": rack.commands(device_no)}
            case _:
                answer = {"error": "unknown op"}
    except (ComponentRefusal, StoreDamaged, ValueError, AttributeError) as error:
        answer = {"error": str(error)}
    return json.dumps(answer, ensure_ascii=False).encode()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m devices.simulator.component",
        description="模拟开票组件: 一台读盘机上的税控盘、金税盘和 UKey",
    )
    parser.add_argument("--world", type=Path, required=True, help="世界文件 (JSON)")
    parser.add_argument("--machine", required=True, help="读盘机名称")
    parser.add_argument("--dir", type=Path, required=True, help="保存税盘状态的目录")
    parser.add_argument("--port", type=int, default=0, help="0: 任意空闲端口")
    parser.add_argument("--port-file", type=Path, help="就绪后写入端口的文件")
    parser.add_argument("--single", action="store_true", help="一台机器只认一只盘的组件")
    parser.add_argument("--clock-offset", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument(
        "--reach", action="append", default=[], metavar="HOST", help="模拟税局的另一个地址"
    )
    options = parser.parse_args(arguments)
    try:
        options.dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if options.port_file is not None:
            options.port_file.unlink(missing_ok=True)
        rack = ComponentRack(
            World.load(options.world),
            options.machine,
            options.dir,
            single=options.single,
            clock_offset=options.clock_offset,
        )
        server = ComponentServer(options.port, rack, {*LOCAL, *options.reach})
    except (OSError, ValueError, KeyError, TypeError, ComponentRefusal, StoreDamaged) as error:
        print(f"component: {error}", file=sys.stderr)
        return 2
    # A handler only notes the signal: an exception from it could be lost in a destructor.
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: threading.Thread(target=server.shutdown).start())
    if options.port_file is not None:
        temporary = options.port_file.with_name(options.port_file.name + ".tmp")
        temporary.write_text(f"{server.server_port}\n", encoding="ascii")
        temporary.replace(options.port_file)
    print("ready", flush=True)
    with server:
        server.serve_forever(poll_interval=0.1)
    rack.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
