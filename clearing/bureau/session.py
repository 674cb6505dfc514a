"""The session with a tax bureau over HTTP: the Bureau port, one message per call.

Owns the way from the contract's dataclasses to the bureau and back. It never retries, never judges
and keeps nothing: whether to ask again is the procedure's decision, and every answer's code, text
and serial go back to it as evidence. Errors leave it only as Failure.
"""

from __future__ import annotations

from collections.abc import Mapping

import httpx

from clearing.bureau import exchange, messages
from clearing.bureau.messages import Reply, Request
from clearing.bureau.port import Bureau, BureauStatus, DiskAddress
from devices.drivers.contract import ClearData, ClearRequest, ReportPackage, Unit
from devices.protocol.failures import Code, Failure
from devices.protocol.month import Month

_SERIAL = "lsh"


class BureauSession(Bureau):
    """Speaks for one disk with the bureau at ``address_url``.

    ``timeout_seconds``: the hard limit of each call. ``client``: one to share or to test with; it
    stays open when the session ends, a client made here does not.
    """

    def __init__(
        self,
        address_url: str,
        disk: DiskAddress,
        *,
        timeout_seconds: float,
        client: httpx.Client | None = None,
    ) -> None:
        self._address_url = address_url
        self._disk = disk
        self._seconds = timeout_seconds
        self._owns_client = client is None
        self._client = exchange.new_client(address_url) if client is None else client

    def report(self, package: ReportPackage) -> Mapping[str, str]:
        """WLCB. The evidence: ``code``, ``text``, ``serial`` (empty where none is given)."""
        return self._act(messages.report_request(self._disk, package), package.unit)

    def clear_data(self, request: ClearRequest, period: Month) -> ClearData:
        """QLJS. The ciphertext is passed on unread."""
        reply = self._ask(messages.clear_data_request(self._disk, request, period))
        return messages.clear_data_of(reply, request.unit)

    def confirm(self, unit: Unit, period: Month) -> Mapping[str, str]:
        """QLJSJGQR. Evidence as in :meth:`report`; "already confirmed" and "already cleared" are
        the state that was wanted, so they are returned, with the bureau's own code."""
        try:
            return self._act(messages.confirm_request(self._disk, unit, period), unit)
        except Failure as failure:
            if failure.code is not Code.ALREADY_CLEARED:
                raise
            return {"code": failure.raw_code, "text": failure.raw_text, "serial": ""}

    def status(self, period: Month) -> BureauStatus:
        """SBZTCX."""
        return messages.status_of(self._ask(messages.status_request(self._disk, period)))

    def close(self) -> None:
        if self._owns_client:
            self._client.close()

    def _act(self, request: Request, unit: Unit) -> Mapping[str, str]:
        """Ask for something that changes the bureau's records, and make evidence of the answer."""
        try:
            reply = self._ask(request)
            group = messages.settled(reply, unit)
        except Failure as failure:
            if failure.code is Code.BUREAU_GARBLED:  # no answer at all: it may have acted
                failure.outcome_unknown = True
            raise
        return {"code": reply.code, "text": reply.text, "serial": group.get(_SERIAL, "")}

    def _ask(self, request: Request) -> Reply:
        body = exchange.post(
            self._client,
            self._address_url,
            messages.build_request(request),
            seconds=self._seconds,
            acts=request.operation.acts,
        )
        return messages.parse_reply(body, request.operation)
