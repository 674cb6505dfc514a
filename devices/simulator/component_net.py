"""OperateNet of the stand-in component (模拟): bureau documents under the disk's certificate.

Owns the check of the certificate password and the way to the bureau's address, which must be on
this machine, or named when the component was started: the stand-in bureau.

Must never: look into a document, or carry one anywhere else.
"""

from __future__ import annotations

from collections.abc import Collection

import httpx

from devices.protocol.envelope import SIZE_LIMIT
from devices.protocol.operate_net import NetCall, NetReply
from devices.simulator.component_disk import OK, Refused
from devices.simulator.component_rack import ComponentRack

#: Room for base64 and the envelope around a reply.
_CARRIED_LIMIT = SIZE_LIMIT * 3 // 4 - 4096
_SECONDS = 60.0
LOCAL = ("127.0.0.1", "localhost")

NO_CERTIFICATE = ("112", "(模拟) 没有证书")
NO_CONNECTION = ("-960011101", "(模拟) 连接税局失败")
NO_REPLY = ("-960011102", "(模拟) 税局没有应答")
BAD_STATUS = ("-960011103", "(模拟) 税局服务不可用")


def carry(rack: ComponentRack, call: NetCall, reach: Collection[str] = LOCAL) -> NetReply:
    """Carry one document there and the answer back."""
    if call.address not in reach:
        return NetReply(*NO_CONNECTION)
    if not call.certificate_password:
        return NetReply(*NO_CERTIFICATE)
    try:
        with rack.certified(call.device_no, call.certificate_password):
            return _exchange(call)
    except Refused as refused:
        return NetReply(refused.code, refused.text)


def _exchange(call: NetCall) -> NetReply:
    url = httpx.URL(scheme="http", host=call.address, port=call.port, path=call.path or "/")
    headers = {"Content-Type": "text/xml; charset=gbk", "Connection": "close"}
    try:
        with httpx.Client(trust_env=False, timeout=_SECONDS) as client:
            response = client.post(url, content=call.document, headers=headers)
    except (httpx.ConnectError, httpx.ConnectTimeout):
        return NetReply(*NO_CONNECTION)
    except httpx.HTTPError:
        return NetReply(*NO_REPLY)
    if response.status_code != httpx.codes.OK or len(response.content) > _CARRIED_LIMIT:
        return NetReply(*BAD_STATUS)
    return NetReply(OK, "(模拟) 成功", response.content)
