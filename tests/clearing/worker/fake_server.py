"""A server for the worker's own tests: takes every call, remembers it, and can be told to refuse.

It is not the real one (which has tests of its own); it only keeps facts by number, as that does.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
import socketserver
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from clearing.wire import Order

TOKEN = "token-7f3a-not-for-logs"
Answer = tuple[int, dict[str, Any]]


@dataclass(frozen=True)
class Call:
    verb: str
    run_id: int
    body: dict[str, Any]


class FakeServer:
    """Scripted by its attributes; read by the tests through ``calls`` and ``facts``."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.orders: list[Order] = []
        self.claimed: dict[str, Order] = {}
        self.facts: dict[str, dict[int, dict[str, Any]]] = {}
        self.backups: list[bytes] = []
        self.grant_seconds = 60.0
        self.clock_offset = dt.timedelta()
        #: Answers without what every answer of the API has: some other server.
        self.bare = False
        self.presence_answer: dict[str, Any] = {"runnable": 0, "parallel": 8, "interval": 15}
        self.enrolment: Answer = (404, {"error": "not_found"})
        # verb → what is answered in place of the usual; None lets it through after all
        self.scripts: dict[str, Callable[[Call], Answer | None]] = {}
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._http = _Http(self)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    # -- what tests ask -----------------------------------------------------------------------

    def verbs(self) -> list[str]:
        return [call.verb for call in self.of("*")]

    def of(self, verb: str) -> list[Call]:
        with self._lock:
            return [call for call in self.calls if verb in {call.verb, "*"}]

    def facts_of(self, attempt: str, kind: str = "") -> list[dict[str, Any]]:
        """The facts of an attempt in the order of their numbers."""
        with self._lock:
            found = sorted(self.facts.get(attempt, {}).items())
        return [fact for _, fact in found if kind in {"", fact["kind"]}]

    def pins_of(self, attempt: str) -> list[dict[str, Any]]:
        return [fact["data"] for fact in self.facts_of(attempt, "pin")]

    def wait_for(self, verb: str, count: int = 1, timeout: float = 20.0) -> Call:
        """The ``count``-th call of this kind."""
        assert self.came(verb, count, timeout), f"no {verb} but {self.verbs()}"
        return self.of(verb)[count - 1]

    def came(self, verb: str, count: int, timeout: float) -> bool:
        """Whether a ``count``-th call of this kind came in time."""
        with self._changed:
            return self._changed.wait_for(
                lambda: sum(call.verb == verb for call in self.calls) >= count, timeout
            )

    # -- answering ----------------------------------------------------------------------------

    def answer(self, token: str, path: str, body: dict[str, Any]) -> Answer:
        parts = path.removeprefix("/machine/v1/").split("/")
        call = Call(parts[-1], int(parts[1]) if len(parts) == 3 else 0, body)
        if call.verb == "enrol":  # by a machine that has no token yet
            self.calls.append(call)
            return self.enrolment
        if token != f"Machine {TOKEN}":
            return 401, {"error": "unknown"}
        script = self.scripts.get(call.verb) or self.scripts.get("*")
        scripted = script(call) if script else None
        with self._changed:
            if scripted is not None and scripted[0] not in {200, 409}:
                return scripted
            self.calls.append(call)
            kept = self.facts.setdefault(body.get("attempt", ""), {})
            for fact in body.get("facts", ()):
                kept.setdefault(fact["number"], fact)
            self._changed.notify_all()
            status = 404 if call.run_id == 0 and call.verb == "renew" else 200
            return scripted or (status, self._usual(call))

    def answer_unheard(self, call: Call) -> None:
        """Act on a call whose answer will not arrive."""
        with self._lock:
            self._usual(call)

    def _usual(self, call: Call) -> dict[str, Any]:
        body = call.body
        match call.verb:
            case "presence":
                return dict(self.presence_answer)
            case "claim":
                return {"order": self._claim(body["attempt"])}
            case "intend":
                return {"granted": True, "duration": self.grant_seconds}
            case "keep":
                content = base64.b64decode(body["content"])
                self.backups.append(content)
                return {"kept": True, "sha256": hashlib.sha256(content).hexdigest()}
            case "renew" if call.run_id == 0:  # what nobody was ever given
                return {}
            case "renew":
                return {"lease": 120}
            case "record":
                return {"accepted": len(body["facts"])}
            case _:
                return {"state": "done"}

    def _claim(self, attempt: str) -> dict[str, Any] | None:
        if attempt not in self.claimed:
            if not self.orders:
                return None
            self.claimed[attempt] = replace(self.orders.pop(0), attempt=attempt)
        return self.claimed[attempt].to_json()


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, fake: FakeServer) -> None:
        self.fake = fake
        super().__init__(("127.0.0.1", 0), _Handler)

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # without looking up a name
        self.server_name, self.server_port = "localhost", self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A child that was killed in the middle of a call is no error."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        assert isinstance(self.server, _Http)
        fake = self.server.fake
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status, answer = fake.answer(self.headers.get("Authorization", ""), self.path, body)
        now = dt.datetime.now(dt.UTC) + fake.clock_offset
        shared = {} if fake.bare else {"time": now.isoformat(), "api": 1}
        content = json.dumps({**shared, **answer}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass
