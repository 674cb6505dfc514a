"""The stand-in bureau's HTTP face, on 127.0.0.1 unless told otherwise.

Owns the socket, the size and time limits of a request, and how a call ends that is not answered.
It decides nothing (:mod:`.service`). It asks for no credential: what it holds is simulated, and
only this machine can reach it. Another address is for a private network namespace.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socketserver
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import cast

from clearing.bureau.messages import SIZE_LIMIT
from clearing.bureau.standin import control
from clearing.bureau.standin.service import Answer, Ending, Service
from devices.simulator.world import World

HOST = "127.0.0.1"

_READ_SECONDS = 30
_HANG_SECONDS = 3600

log = logging.getLogger(__name__)


class Server(ThreadingHTTPServer):
    """Serves one :class:`Service`; a thread per connection."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, service: Service, host: str = HOST) -> None:
        self.service = service
        super().__init__((host, port), Handler)

    def server_bind(self) -> None:
        """Without HTTPServer's look-up of the host's name, which can take seconds offline."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.socket.getsockname()[:2]


class Handler(BaseHTTPRequestHandler):
    """``POST /_control``: JSON. ``POST`` to any other path: a business document."""

    protocol_version = "HTTP/1.1"
    server_version = "qingka-standin"
    timeout = _READ_SECONDS

    def do_POST(self) -> None:
        self.close_connection = True
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            self._send(Answer(411))
            return
        if int(length) > SIZE_LIMIT:
            self._send(Answer(413))
            return
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            return
        service = cast(Server, self.server).service
        if self.path == control.PATH:
            # A web page cannot send this type here without being asked first.
            is_json = self.headers.get_content_type() == "application/json"
            self._send(service.control(body) if is_json else Answer(415))
            return
        answer = service.handle(body)
        if isinstance(answer, Answer):
            self._send(answer)
        elif answer is Ending.HANG:
            self.connection.settimeout(_HANG_SECONDS)
            self.connection.recv(1)
        elif answer is Ending.DIE:
            os.kill(os.getpid(), signal.SIGKILL)

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", "text/xml; charset=gbk")
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: object) -> None:
        log.debug(format, *args)


def main(arguments: list[str] | None = None) -> int:
    """Run until stopped. The port stands in ``--port-file`` once calls are taken."""
    parser = argparse.ArgumentParser(
        prog="python -m clearing.bureau.standin",
        description="模拟税局 (stand-in bureau): for tests and the demo, on this machine only.",
    )
    parser.add_argument("--world", type=Path, required=True, help="world file (JSON)")
    parser.add_argument("--dir", type=Path, required=True, help="where its state is kept")
    parser.add_argument("--host", default=HOST, help="another address of this machine")
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    parser.add_argument("--port-file", type=Path, help="the port is written there when ready")
    parser.add_argument("--clock-offset", type=float, default=0, metavar="SECONDS")
    options = parser.parse_args(arguments)

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    service = Service(World.load(options.world), options.dir, clock_offset=options.clock_offset)
    with Server(options.port, service, options.host) as server:
        if options.port_file is not None:
            temporary = options.port_file.with_name(options.port_file.name + ".tmp")
            temporary.write_text(f"{server.server_port}\n")
            temporary.replace(options.port_file)
        log.info(
            "模拟税局 http://%s:%d %s", options.host, server.server_port, service.now().isoformat()
        )
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return 0
    return 0
