"""One component, asked one question at a time: transport, locks, and what may not be repeated.

Owns the way of one request to a component and back: who waits for whom, whether an answer that
never came may have had an effect, and that no secret comes back out of it (a component that
repeats the request in its error text included).

Must never: send a request twice, or let anything but a Failure out.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import NoReturn, Protocol

from devices.protocol import business_xml
from devices.protocol.business_xml import RAW_TEXT_LIMIT, SECRET_FIELDS, Answer, Request
from devices.protocol.failures import Code, Failure

#: What stands in place of a secret.
HIDDEN = "***"


class Transport(Protocol):
    """The way to a component. ``address`` names it: one address, one component."""

    @property
    def address(self) -> str: ...

    def operate(self, document: bytes, *, seconds: float) -> bytes:
        """One business document there and the answer back, within ``seconds``.

        Raises Failure: no_answer, device_garbled, machine_fault; ``outcome_unknown`` says that the
        document may have arrived. It knows no operation: whether that matters is decided here.
        """

    def close(self) -> None:
        """Let go of the component; safe to call twice, raises nothing."""


_guard = threading.Lock()
_locks: dict[tuple[str, str], threading.Lock] = {}


def _lock_for(address: str, device_no: str) -> threading.Lock:
    """One operation at a time per disk: within this process. Between processes the file lock per
    device number holds, which whoever opens a disk takes (architecture.md § Grants)."""
    with _guard:
        return _locks.setdefault((address, device_no), threading.Lock())


class Link:
    """The component behind ``transport`` for one disk. ``seconds``: the hard limit of a call."""

    def __init__(self, transport: Transport, device_no: str, *, seconds: float) -> None:
        self._transport = transport
        self._lock = _lock_for(transport.address, device_no)
        self._seconds = seconds
        self._closed = False
        self._secrets: set[str] = set()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._transport.close()

    def ask(self, request: Request) -> Answer:
        """The answer, a refusal included. Raises Failure."""
        operation = request.operation
        self._secrets |= {request.fields[name] for name in SECRET_FIELDS & request.fields.keys()}
        self._secrets.discard("")
        try:
            document = business_xml.build_request(request)
        except ValueError:
            raise Failure(Code.MACHINE_FAULT, detail=f"{operation.id} request") from None
        with self._lock:
            if self._closed:
                raise Failure(Code.NO_ANSWER, detail="closed")
            try:
                reply = self._transport.operate(document, seconds=self._seconds)
            except Failure as failure:
                in_doubt = operation.changes and failure.outcome_unknown
                self._again(failure, operation.id, outcome_unknown=in_doubt)
        try:
            answer = business_xml.parse_answer(reply, operation)
        except Failure as failure:
            self._again(failure, operation.id, outcome_unknown=operation.changes)
        return Answer(
            operation,
            answer.code,
            self.hide(answer.text)[:RAW_TEXT_LIMIT],
            self.without_secrets(answer.fields),
            tuple(self.without_secrets(group) for group in answer.groups),
        )

    def hide(self, text: str) -> str:
        """``text`` without any secret that was sent."""
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return text

    def without_secrets(self, fields: Mapping[str, str]) -> dict[str, str]:
        """Fields of an answer that may be kept and shown."""
        return {name: self.hide(text) for name, text in fields.items() if name not in SECRET_FIELDS}

    def _again(self, failure: Failure, operation: str, *, outcome_unknown: bool) -> NoReturn:
        """The same failure, fit to be seen, saying truly whether the disk may have changed."""
        detail = self.hide(failure.detail)
        raise Failure(
            failure.code,
            raw_code=self.hide(failure.raw_code),
            raw_text=self.hide(failure.raw_text)[:RAW_TEXT_LIMIT],
            detail=f"{operation}: {detail}" if detail else operation,
            outcome_unknown=outcome_unknown,
            tries_left=failure.tries_left,
        ) from None
