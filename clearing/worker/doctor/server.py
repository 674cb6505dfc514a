"""The way to the server: address, token, API version, clock, and the bell.

Asks nothing that changes anything: no presence is told, so no slot is forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx

from clearing.wire import API_VERSION
from clearing.worker.client import (
    CLOCK_LIMIT_SECONDS,
    Refused,
    ServerClient,
    ServerError,
)
from clearing.worker.config import MachineConfig, is_here
from clearing.worker.doctor.findings import Finding, error, ok, warning
from devices.protocol.texts import N_

CLOCK_WARNING_SECONDS = 30.0
_SECONDS = 5.0
_DOCTOR_KEY = "doctor"
_FOREIGN_KEY = "qingka-doctor:foreign"


def examine_server(config: MachineConfig) -> Iterator[Finding]:
    yield from _address(config)
    with ServerClient(config.server, config.token) as client:
        try:
            api = client.greet(within=_SECONDS)
        except Refused as refused:
            yield _refused(refused, config.server)
        except ServerError as problem:
            yield error(
                "server",
                N_("连不上服务器 {server} ({why})"),
                N_("检查网线、服务器地址和防火墙; 已插的盘不受影响, 恢复后自动继续"),
                server=config.server,
                why=str(problem),
            )
        else:
            yield ok("server", N_("服务器 {server} 认识这台读盘机"), server=config.server)
            yield _api(api)
        yield from _clock(client.clock.difference())


def _address(config: MachineConfig) -> Iterator[Finding]:
    parts = urlsplit(config.server)
    if parts.scheme == "http" and not is_here(parts.hostname or ""):
        yield warning(
            "encryption",
            N_("与服务器的连接不加密: {server}"),
            N_("给服务器配上证书, 改用 https 地址后重新登记"),
            server=config.server,
        )


def _refused(refused: Refused, server: str) -> Finding:
    values = {"server": server, "status": refused.status}
    if refused.status == httpx.codes.UNAUTHORIZED:
        return error(
            "server",
            N_("服务器不认这台读盘机的密钥"),
            N_("请主管在网页上重新生成登记码, 再执行 qingka-reader enroll … --force"),
            **values,
        )
    if refused.status == httpx.codes.FORBIDDEN:
        return error(
            "server",
            N_("这台读盘机已被停用"),
            N_("请主管在网页上查看停用原因; 要继续使用须重新登记"),
            **values,
        )
    if refused.status == httpx.codes.NOT_FOUND:
        return error(
            "server",
            N_("{server} 有应答, 但不是清卡台的接口"),
            N_("核对服务器地址, 以及中间的代理是否放行 /machine/"),
            **values,
        )
    return error(
        "server",
        N_("服务器回答 HTTP {status}"),
        N_("稍后再试; 一直如此请联系服务器管理员"),
        **values,
    )


def _api(theirs: int) -> Finding:
    values = {"ours": API_VERSION, "theirs": theirs}
    if theirs == API_VERSION:
        return ok("api", N_("接口版本 {ours}, 与服务器一致"), **values)
    if theirs == API_VERSION + 1:
        return warning(
            "api",
            N_("服务器的接口版本是 {theirs}, 本程序是 {ours}, 暂时还能用"),
            N_("尽快升级读盘机程序"),
            **values,
        )
    return error(
        "api",
        N_("服务器的接口版本是 {theirs}, 本程序是 {ours}, 不能配合"),
        N_("把读盘机程序升级到与服务器相同的版本"),
        **values,
    )


def _clock(difference: float | None) -> Iterator[Finding]:
    """The machine's clock against the server's; nothing when no answer told one."""
    if difference is None:
        return
    seconds = abs(difference)
    values = {"seconds": f"{seconds:.0f}"}
    remedy = N_("打开系统的自动对时 (timedatectl set-ntp true), 不要手工改时间")
    if seconds > CLOCK_LIMIT_SECONDS:
        text = N_("本机时钟与服务器差 {seconds} 秒, 不会写盘")
        yield error("clock", text, remedy, **values)
    elif seconds > CLOCK_WARNING_SECONDS:
        yield warning("clock", N_("本机时钟与服务器差 {seconds} 秒"), remedy, **values)
    else:
        yield ok("clock", N_("本机时钟与服务器相差 {seconds} 秒以内"), seconds=f"{seconds:.0f}")


# --- the bell ------------------------------------------------------------------------------------


def examine_broker(config: MachineConfig) -> Iterator[Finding]:
    """The machine's account at the broker: it works, for its own keys, and for no others."""
    if not config.broker:
        yield ok("broker", N_("不用消息服务, 只走 HTTPS (broker = none)"))
        return
    import redis

    remedy = N_("检查到消息服务的网络; 期间靠 HTTPS 轮询照常办理, 只是慢几秒")
    try:
        with redis.Redis.from_url(
            redis_url(config.broker), socket_timeout=_SECONDS, socket_connect_timeout=_SECONDS
        ) as client:
            client.ping()
            key = config.prefix + _DOCTOR_KEY
            client.set(key, "1")
            kept = client.get(key)
            client.delete(key)
            foreign = _reaches(client, _FOREIGN_KEY)
    except (redis.AuthenticationError, redis.exceptions.NoPermissionError):
        yield warning(
            "broker",
            N_("消息服务不认这台读盘机的账号"),
            N_("请主管在网页上更换密钥后重新登记; 期间靠 HTTPS 轮询照常办理"),
        )
        return
    except (redis.RedisError, OSError, ValueError) as problem:
        yield warning("broker", N_("连不上消息服务 ({why})"), remedy, why=type(problem).__name__)
        return
    if kept != b"1":
        yield warning("broker", N_("消息服务没有留住写入的内容"), remedy)
    elif foreign:
        yield warning(
            "broker",
            N_("这台读盘机的消息账号能看到别人的内容"),
            N_("请服务器管理员收紧账号权限: 每台读盘机只能用自己的前缀"),
        )
    else:
        yield ok("broker", N_("消息服务可用, 账号只限本机前缀"))


def redis_url(broker: str) -> str:
    """Celery's name of a broker as redis-py wants it."""
    return broker.replace("redis+socket://", "unix://", 1)


def _reaches(client: object, key: str) -> bool:
    """Whether the account may look at a key that is not its own."""
    import redis

    assert isinstance(client, redis.Redis)  # noqa: S101 - imported where it is needed
    try:
        client.get(key)
    except redis.ResponseError:
        return False
    return True
