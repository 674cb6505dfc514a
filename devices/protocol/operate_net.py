"""OperateNet: a bureau document carried through the component that holds the certificate.

Owns the form of the call and its reply, for both ends. The vendors' entry takes certificate
password, address, port, path, service, tax id and the document (protocol-component.md); what it
looks like over HTTP is our choice ◇: the envelope of all business documents with the id
``OperateNet``, the carried documents in base64 (``bw``), so that whatever a bureau answers arrives
as it was.

Must never: show the certificate password, or look into what it carries.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field

from devices.protocol import envelope
from devices.protocol.failures import Code, Failure

ID = "OperateNet"
PATH = "/SKServer/OperateNet"
_COMMENT = "网络操作"
_GARBLED = Code.DEVICE_GARBLED


@dataclass(frozen=True, slots=True)
class NetCall:
    """What is to be carried where, and for whom."""

    device_no: str
    tax_id: str
    certificate_password: str = field(repr=False)
    address: str
    port: int
    path: str
    service: str
    document: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class NetReply:
    """The component's own code and text, and what the bureau answered where the code is zeros."""

    code: str
    text: str
    document: bytes = field(default=b"", repr=False)

    @property
    def ok(self) -> bool:
        return envelope.is_success(self.code)


def build_call(call: NetCall) -> bytes:
    """Raises ValueError: too long once carried, or a text that cannot stand in XML."""
    fields = {
        "sksbbh": call.device_no,
        "nsrsbh": call.tax_id,
        "keypwd": call.certificate_password,
        "fwdz": call.address,
        "fwdk": str(call.port),
        "fwlj": call.path,
        "fwmc": call.service,
        "bw": base64.b64encode(call.document).decode(),
    }
    return envelope.build(ID, _COMMENT, "input", fields)


def read_call(data: bytes) -> NetCall:
    """Raises Failure(device_garbled)."""
    fields = _fields(data, "input")
    port = fields.get("fwdk", "")
    if not (port.isascii() and port.isdigit() and len(port) <= 5):
        raise Failure(_GARBLED, detail="fwdk")
    return NetCall(
        device_no=fields.get("sksbbh", ""),
        tax_id=fields.get("nsrsbh", ""),
        certificate_password=fields.get("keypwd", ""),
        address=fields.get("fwdz", ""),
        port=int(port),
        path=fields.get("fwlj", ""),
        service=fields.get("fwmc", ""),
        document=_carried(fields),
    )


def build_reply(reply: NetReply) -> bytes:
    """Raises ValueError as :func:`build_call`."""
    fields = {
        "bw": base64.b64encode(reply.document).decode(),
        "returncode": reply.code,
        "returnmsg": reply.text,
    }
    return envelope.build(ID, _COMMENT, "output", fields)


def read_reply(data: bytes) -> NetReply:
    """Raises Failure(device_garbled)."""
    fields = _fields(data, "output")
    code = fields.get("returncode", "")
    if not envelope.is_return_code(code):
        raise Failure(_GARBLED, detail="returncode")
    return NetReply(code, fields.get("returnmsg", ""), _carried(fields))


def _fields(data: bytes, direction: str) -> dict[str, str]:
    document = envelope.read(data, garbled=_GARBLED)
    if document.id != ID:
        raise Failure(_GARBLED, detail=ID)
    return document.content(direction)[0]


def _carried(fields: dict[str, str]) -> bytes:
    try:
        return base64.b64decode(fields.get("bw", ""), validate=True)
    except (binascii.Error, ValueError):
        raise Failure(_GARBLED, detail="bw") from None
