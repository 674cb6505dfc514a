"""OperateNet: bureau calls through the component that holds the disk's certificate.

Owns the client side: a httpx transport under :class:`~clearing.bureau.session.BureauSession`, so
that the session and its limits stay what they are::

    client = operate_net_client(component, disk=address, certificate_password=…)
    session = BureauSession(bureau_url, address, timeout_seconds=30, client=client)

The bureau's address travels inside the call, the call goes to the component. What the component
itself refuses (certificate password, certificate, no way to the bureau) leaves as Failure with the
component's own code; what breaks on the way is a httpx error, which the session's exchange knows.

Must never: send the certificate password anywhere but to the component, or again after it was
refused.
"""

from __future__ import annotations

import httpx

from clearing.bureau import messages
from clearing.bureau.port import DiskAddress
from clearing.bureau.refusals import RAW_TEXT_LIMIT
from devices.protocol import operate_net
from devices.protocol.catalogue import from_device_code, tries_left_in
from devices.protocol.envelope import SIZE_LIMIT
from devices.protocol.failures import Code, Failure
from devices.protocol.operate_net import NetCall, NetReply

#: The name of the bureau's service in the call. ◇
SERVICE = "skserver"

_HEADERS = {
    "Content-Type": "text/xml; charset=gbk",
    "Accept-Encoding": "identity",
    "Connection": "close",
}
_PASSWORD_CODES = (Code.CERTIFICATE_PASSWORD_WRONG, Code.CERTIFICATE_PASSWORD_LOCKED)


def operate_net_client(
    component: str,
    *,
    disk: DiskAddress,
    certificate_password: str,
    inner: httpx.BaseTransport | None = None,
) -> httpx.Client:
    """A client whose calls go through the component at ``component`` (``http://host:port``)."""
    transport = OperateNetTransport(
        component, disk=disk, certificate_password=certificate_password, inner=inner
    )
    return httpx.Client(transport=transport, trust_env=False, follow_redirects=False)


class OperateNetTransport(httpx.BaseTransport):
    """Carries each request through the component. Raises Failure(machine_fault) for an address that
    is none, Failure(password_missing) without a certificate password."""

    def __init__(
        self,
        component: str,
        *,
        disk: DiskAddress,
        certificate_password: str,
        inner: httpx.BaseTransport | None = None,
    ) -> None:
        try:
            url = httpx.URL(component)
        except (httpx.InvalidURL, TypeError):
            raise Failure(Code.MACHINE_FAULT, detail="component") from None
        if url.scheme != "http" or not url.host or url.userinfo:
            raise Failure(Code.MACHINE_FAULT, detail="component")
        if not certificate_password:
            raise Failure(Code.PASSWORD_MISSING, detail=operate_net.ID)
        self._component = url.copy_with(path=operate_net.PATH)
        self._disk = disk
        self._password = certificate_password
        # No certificates are read where none are used.
        self._inner = inner or httpx.HTTPTransport(trust_env=False, verify=url.scheme != "http")
        self._refused: Failure | None = None

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """One bureau call. Raises Failure, or httpx.HTTPError for what breaks on the way."""
        if self._refused is not None:
            refused = self._refused
            raise Failure(refused.code, raw_code=refused.raw_code, tries_left=refused.tries_left)
        document = request.read()
        acts = messages.parse_request(document).operation.acts
        reply = self._reply(request, document, acts)
        if not reply.ok:
            raise self._refusal(reply, acts)
        return httpx.Response(200, stream=httpx.ByteStream(reply.document), request=request)

    def close(self) -> None:
        self._inner.close()

    def _reply(self, request: httpx.Request, document: bytes, acts: bool) -> NetReply:
        call = NetCall(
            device_no=self._disk.device_no,
            tax_id=self._disk.tax_id,
            certificate_password=self._password,
            address=request.url.host,
            port=request.url.port or (443 if request.url.scheme == "https" else 80),
            path=request.url.path,
            service=SERVICE,
            document=document,
        )
        try:
            content = operate_net.build_call(call)
        except ValueError:
            raise Failure(Code.MACHINE_FAULT, detail=operate_net.ID) from None
        carried = httpx.Request(
            "POST",
            self._component,
            headers=_HEADERS,
            content=content,
            extensions=request.extensions,  # the time limits of the session's exchange
        )
        response = self._inner.handle_request(carried)
        try:
            if response.status_code != httpx.codes.OK:
                raise Failure(
                    Code.NO_ANSWER, raw_code=f"HTTP {response.status_code}", outcome_unknown=acts
                )
            body = bytearray()
            for chunk in response.iter_raw():
                body += chunk
                if len(body) > SIZE_LIMIT:
                    raise Failure(Code.DEVICE_GARBLED, detail=operate_net.ID, outcome_unknown=acts)
        finally:
            response.close()
        try:
            return operate_net.read_reply(bytes(body))
        except Failure as failure:
            raise Failure(failure.code, detail=failure.detail, outcome_unknown=acts) from None

    def _refusal(self, reply: NetReply, acts: bool) -> Failure:
        code = from_device_code(reply.code)
        failure = Failure(
            code,
            raw_code=reply.code,
            raw_text=reply.text.replace(self._password, "***")[:RAW_TEXT_LIMIT],
            detail=operate_net.ID,
            # A link that broke under the component may have broken after the bureau acted.
            outcome_unknown=acts and code in (Code.BUREAU_UNREACHABLE, Code.DEVICE_REFUSED),
            tries_left=tries_left_in(reply.code),
        )
        if code in _PASSWORD_CODES:
            self._refused = failure
        return failure
