"""Enrolling this machine: a one-use code becomes the configuration that holds the token.

Owns the order of things: whatever can be known to fail is looked at before the code is used, for it
works once. The token is never printed. What a technician wrote into an older file about readers,
slots and commands is kept.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from clearing.wire import API_VERSION
from clearing.worker import durable
from clearing.worker.cli import Refusal, refuse_other_user
from clearing.worker.config import (
    NO_BROKER,
    ConfigError,
    MachineConfig,
    in_the_clear,
    is_here,
    raw_of,
    read,
)
from clearing.worker.inventory import worker_version
from clearing.worker.words import Words
from devices.protocol.texts import N_

_SECONDS = 30.0
_CONNECT_SECONDS = 10.0
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol)
#: What the server says; everything else in the file is the technician's.
_FROM_SERVER = ("server", "token", "broker", "prefix", "name", "parallel", "plain_http")


@dataclass(frozen=True)
class Enrolment:
    """One attempt to enrol. ``plain_http``: a server elsewhere may be spoken to in the clear."""

    server: str
    path: Path
    name: str
    force: bool
    plain_http: bool
    words: Words

    def enrol(self, code: str) -> int:
        """Use the code and write the file. Raises Refusal, ConfigError (an old file that cannot be
        read)."""
        server = self._checked_server()
        kept = self._kept()
        self._check_writable()
        answer = self._redeem(server, code.strip())
        config = self._write(server, answer, kept)
        words = self.words
        print(
            words(
                N_("已登记: 机构 {agency}, 读盘机 {machine}。配置文件: {path}"),
                agency=answer.get("agency", ""),
                machine=config.name,
                path=self.path,
            )
        )
        if self._has_journal(config):
            text = N_("数据目录里还有没送达服务器的记录; 若属于另一台读盘机, 请先联系技术支持。")
            print(words(text), file=sys.stderr)
        print(words(N_("下一步: qingka-reader doctor, 然后启动服务 (已在运行的请重启)。")))
        return 0

    # -- before the code is used --------------------------------------------------------------

    def _checked_server(self) -> str:
        server = self.server.rstrip("/")
        parts = urlsplit(server)
        if parts.scheme not in {"https", "http"} or not parts.hostname or parts.username:
            raise Refusal(self.words(N_("服务器地址不正确: {server}"), server=server))
        if parts.scheme == "http" and not is_here(parts.hostname) and not self.plain_http:
            text = N_(
                "{server} 不加密, 密钥和口令会被旁人看到; 请用 https, 或确认后加 --plain-http"
            )
            raise Refusal(self.words(text, server=server))
        return server

    def _kept(self) -> dict[str, Any]:
        """What an older file says about this machine itself."""
        if not self.path.exists():
            return {}
        if not self.force:
            text = N_("{path} 已存在, 这台机器登记过; 要重新登记请加 --force")
            raise Refusal(self.words(text, path=self.path))
        return {key: value for key, value in raw_of(self.path).items() if key not in _FROM_SERVER}

    def _check_writable(self) -> None:
        try:
            refuse_other_user(self.path.parent, self.words, strict=False)
            durable.private_dir(self.path.parent)
            attempt = self.path.with_name(f".{self.path.name}.attempt")
            durable.replace(attempt, b"")
            attempt.unlink()
        except OSError as error:
            text = N_("无法写入 {path}: {why}")
            raise Refusal(self.words(text, path=self.path, why=error.strerror)) from None

    # -- the code -----------------------------------------------------------------------------

    def _redeem(self, server: str, code: str) -> Mapping[str, Any]:
        """Ask once: a second time the code would be used up by the first."""
        body = {
            "code": code,
            "name": (self.name or socket.gethostname())[:40],
            "version": worker_version(),
            "api": API_VERSION,
        }
        words = self.words
        try:
            response = httpx.post(
                f"{server}/machine/v1/enrol",
                json=body,
                timeout=httpx.Timeout(_SECONDS, connect=_CONNECT_SECONDS),
                trust_env=False,
                follow_redirects=False,
            )
        except _NOT_SENT as error:
            text = N_("连不上服务器 {server} ({why}); 登记码没有用掉")
            raise Refusal(words(text, server=server, why=type(error).__name__)) from None
        except httpx.HTTPError as error:
            text = N_("服务器没有应答 ({why}); 登记码可能已用掉, 再试不行请重新生成登记码")
            raise Refusal(words(text, why=type(error).__name__)) from None
        if response.status_code != httpx.codes.OK:
            raise Refusal(self._why_not(response))
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict) or not isinstance(answer.get("token"), str):
            raise Refusal(words(N_("{server} 不是清卡台服务器"), server=server))
        return answer

    def _why_not(self, response: httpx.Response) -> str:
        words, status = self.words, response.status_code
        if status == httpx.codes.NOT_FOUND:
            return words(N_("登记码不对、已用过或已过期; 请在服务器的“读盘机”页重新生成"))
        if status == httpx.codes.UPGRADE_REQUIRED:
            return words(N_("读盘机程序的版本太旧, 请先升级"))
        if status == httpx.codes.TOO_MANY_REQUESTS:
            return words(N_("尝试次数过多, 请过几分钟再试"))
        return words(N_("服务器拒绝登记: HTTP {status}"), status=status)

    # -- the file -----------------------------------------------------------------------------

    def _write(self, server: str, answer: Mapping[str, Any], kept: dict[str, Any]) -> MachineConfig:
        values: dict[str, Any] = {
            "name": str(answer.get("machine") or self.name),
            "server": server,
            "token": answer["token"],
            "broker": answer.get("broker") or NO_BROKER,
            "prefix": answer.get("prefix") or "",
            "data_dir": str(self.path.absolute().parent / "data"),
        }
        if self.plain_http:
            values["plain_http"] = True
        elif in_the_clear(values["broker"]):
            # The code is used: the machine lives from presence answers rather than not at all.
            values |= {"broker": NO_BROKER, "prefix": ""}
            text = N_("服务器给的消息通道不加密, 没有使用; 读盘机只走 HTTPS (最多晚 15 秒)")
            print(self.words(text), file=sys.stderr)
        if isinstance(parallel := answer.get("parallel"), int):
            values["parallel"] = parallel
        try:
            config = read(values | kept)
        except ConfigError:
            if not kept:  # the answer itself is no use
                raise
            # The code is used: without the token the machine would have to be enrolled anew.
            kept, config = {}, read(values)
            print(self.words(N_("旧配置里有不能沿用的项, 已另存为 .old")), file=sys.stderr)
        if self.path.exists():
            durable.replace(self.path.with_name(self.path.name + ".old"), self.path.read_bytes())
        durable.replace(self.path, toml_of(values | kept).encode())
        durable.private_dir(config.data_dir)
        return config

    def _has_journal(self, config: MachineConfig) -> bool:
        folder = config.data_dir / "journal"
        return self.force and folder.is_dir() and any(os.scandir(folder))


def toml_of(values: Mapping[str, Any]) -> str:
    """A configuration as TOML: plain values first, then the arrays of tables."""
    plain = [f"{key} = {_toml(value)}" for key, value in values.items() if not _is_tables(value)]
    tables = [
        "\n".join([f"\n[[{key}]]", *(f"{name} = {_toml(each)}" for name, each in table.items())])
        for key, value in values.items()
        if _is_tables(value)
        for table in value
    ]
    return "\n".join([*plain, *tables]) + "\n"


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, dict) for each in value)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(key)} = {_toml(each)}" for key, each in value.items()) + "}"
    # JSON's strings, numbers, true and false are TOML's, too; DEL is the one exception.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
