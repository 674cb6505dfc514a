"""The way to a component over HTTP: ``POST http://host:port/SKServer/SKDo``, GBK documents.

Owns the limits of a call: one hard time limit over everything (a component that drips a byte a
second does not stretch it), the size of a reply while it arrives, no redirects, no proxy from the
environment. Plain HTTP: a component has no certificate and stands on its own machine or beside it.

Must never: send a document twice, follow a component elsewhere, or log what it carries.
"""

from __future__ import annotations

import httpx

from devices.drivers.hard_limit import HardLimit
from devices.protocol.envelope import SIZE_LIMIT
from devices.protocol.failures import Code, Failure
from devices.protocol.texts import N_

PATH = "/SKServer/SKDo"

_HEADERS = {
    "Content-Type": "text/xml; charset=gbk",
    "Accept-Encoding": "identity",
    # A connection per call: the hard limit ends a call by cutting its connection.
    "Connection": "close",
}
#: The document cannot have arrived.
_NOT_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
    httpx.LocalProtocolError,
)


class HttpTransport:
    """A component at ``address``: ``http://host:port``, or with the path written out.

    Raises Failure(machine_fault) for an address that is none. ``client``: one to test with; it is
    not closed here.
    """

    def __init__(self, address: str, *, client: httpx.Client | None = None) -> None:
        try:
            url = httpx.URL(address)
        except (httpx.InvalidURL, TypeError):
            raise Failure(Code.MACHINE_FAULT, detail=N_("组件地址不正确")) from None
        if url.scheme != "http" or not url.host or url.userinfo:
            raise Failure(Code.MACHINE_FAULT, detail=N_("组件地址不正确"))
        self._url = url if url.path not in ("", "/") else url.copy_with(path=PATH)
        self._owns_client = client is None
        # No certificates are read where none are used.
        self._client = client or httpx.Client(
            trust_env=False, follow_redirects=False, verify=url.scheme != "http"
        )

    @property
    def address(self) -> str:
        return str(self._url)

    def operate(self, document: bytes, *, seconds: float) -> bytes:
        """Send and return the body of a 200 answer, at most SIZE_LIMIT bytes.

        Raises Failure: no_answer (no connection, time over, any other status), device_garbled (a
        reply that is too long).
        """
        with HardLimit(seconds) as limit:
            try:
                return self._exchange(document, seconds, limit)
            except (httpx.HTTPError, httpx.StreamError, OSError) as error:
                raise Failure(
                    Code.NO_ANSWER,
                    raw_code="Timeout" if limit.over else type(error).__name__,
                    outcome_unknown=not isinstance(error, _NOT_SENT),
                ) from None

    def close(self) -> None:
        if self._owns_client:
            self._client.close()

    def _exchange(self, document: bytes, seconds: float, limit: HardLimit) -> bytes:
        with self._client.stream(
            "POST",
            self._url,
            content=document,
            headers=_HEADERS,
            timeout=httpx.Timeout(seconds),
            follow_redirects=False,
            extensions={"trace": limit.trace},
        ) as response:
            if response.status_code != httpx.codes.OK:
                raise Failure(
                    Code.NO_ANSWER, raw_code=f"HTTP {response.status_code}", outcome_unknown=True
                )
            body = bytearray()
            for chunk in response.iter_raw():
                body += chunk
                if len(body) > SIZE_LIMIT:
                    raise Failure(
                        Code.DEVICE_GARBLED, detail=N_("报文超过 1 MB"), outcome_unknown=True
                    )
            # Without a length, an answer that was cut off looks complete.
            if limit.over:
                raise httpx.ReadTimeout("", request=response.request)
            return bytes(body)
