"""One document to a bureau's address and the answer back, by HTTP POST.

Owns the limits of a call: one hard time limit over everything (a server that drips a byte a second
does not stretch it), the size of a reply, no redirects, no proxy from the environment. It knows no
message; what it raises is Failure(bureau_unreachable) or Failure(bureau_garbled).

What it cannot cut short is the resolving of a name; the limit of the run covers that.
"""

from __future__ import annotations

import httpx

from clearing.bureau.messages import SIZE_LIMIT
from clearing.bureau.refusals import RAW_TEXT_LIMIT
from devices.drivers.hard_limit import HardLimit
from devices.protocol.failures import Code, Failure
from devices.protocol.texts import N_

_HEADERS = {
    "Content-Type": "text/xml; charset=gbk",
    "Accept-Encoding": "identity",
    # A connection per call: the hard limit ends a call by cutting its connection.
    "Connection": "close",
}

_NOT_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
    httpx.LocalProtocolError,
)
_BUSY = (408, 425, 429)


def new_client(address_url: str) -> httpx.Client:
    """A client as calls to this address need it; certificates are checked, the environment is not
    asked. Plain HTTP has none, and reading ours costs more than all calls of a run."""
    plain = address_url.lower().startswith("http:")
    return httpx.Client(trust_env=False, follow_redirects=False, verify=not plain)


def post(
    client: httpx.Client, address_url: str, document: bytes, *, seconds: float, acts: bool
) -> bytes:
    """Send ``document`` and return the body of a 200 answer, at most SIZE_LIMIT bytes.

    ``acts``: the request changes something there; a failure after it may have arrived then has
    ``outcome_unknown``. Unreachable: no connection, time over, 5xx, 408, 425, 429. Garbled: any
    other status, a redirect included, and a reply that is too long.
    """
    with HardLimit(seconds) as limit:
        try:
            with client.stream(
                "POST",
                address_url,
                content=document,
                headers=_HEADERS,
                timeout=httpx.Timeout(seconds),
                follow_redirects=False,
                extensions={"trace": limit.trace},
            ) as response:
                _check_status(response, acts=acts)
                body = bytearray()
                for chunk in response.iter_raw():
                    body += chunk
                    if len(body) > SIZE_LIMIT:
                        raise Failure(
                            Code.BUREAU_GARBLED, detail=N_("报文超过 1 MB"), outcome_unknown=acts
                        )
                # Without a length, an answer that was cut off looks complete.
                if limit.over:
                    raise httpx.ReadTimeout("", request=response.request)
                return bytes(body)
        except httpx.InvalidURL as error:
            raise _unreachable(error, limit) from error
        except httpx.HTTPError as error:
            sent = not isinstance(error, _NOT_SENT)
            raise _unreachable(error, limit, outcome_unknown=acts and sent) from error


def _check_status(response: httpx.Response, *, acts: bool) -> None:
    status = response.status_code
    if status == httpx.codes.OK:
        return
    busy = status >= httpx.codes.INTERNAL_SERVER_ERROR or status in _BUSY
    raise Failure(
        Code.BUREAU_UNREACHABLE if busy else Code.BUREAU_GARBLED,
        raw_code=f"HTTP {status}",
        raw_text=response.reason_phrase[:RAW_TEXT_LIMIT],
        outcome_unknown=acts,
    )


def _unreachable(error: Exception, limit: HardLimit, *, outcome_unknown: bool = False) -> Failure:
    # The two clocks run side by side: which of them rings first is chance.
    timed_out = limit.over or isinstance(error, httpx.ReadTimeout)
    return Failure(
        Code.BUREAU_UNREACHABLE,
        raw_code="Timeout" if timed_out else type(error).__name__,
        raw_text=str(error)[:RAW_TEXT_LIMIT],
        outcome_unknown=outcome_unknown,
    )
