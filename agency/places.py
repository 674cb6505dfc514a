"""Where the signed heads go each day: a folder, an e-mail address, or a storage of Django's.

A place never overwrites: the same file again is fine, another content under its name an error.
``storage:ALIAS`` is an entry of ``STORAGES``; that is how an S3 bucket is reached (django-storages,
in the deployment's own settings), which has not been run against a real one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.core.mail import EmailMessage


class PlaceError(Exception):
    """A place that did not take the file; the text says which and why."""


class Place(Protocol):
    """Somewhere outside of the database."""

    @property
    def name(self) -> str: ...

    def put(self, file_name: str, content: bytes) -> None:
        """Keep the file. May raise anything; to be called again later is fine."""


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of the server, better a mounted one that only ever grows."""

    path: Path

    @property
    def name(self) -> str:
        return f"file:{self.path}"

    def put(self, file_name: str, content: bytes) -> None:
        target = self.path / file_name
        beside = self.path / f".{file_name}.{os.getpid()}"
        try:
            with beside.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            # A link never replaces what is there.
            os.link(beside, target)
        except FileExistsError:
            if target.read_bytes() != content:
                raise PlaceError(f"{target} 已存在, 内容不同") from None
        finally:
            beside.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Mail:
    """An e-mail with the file attached; what is sent cannot be taken back from there."""

    address: str

    @property
    def name(self) -> str:
        return f"mailto:{self.address}"

    def put(self, file_name: str, content: bytes) -> None:
        message = EmailMessage(
            f"清卡台 操作留痕每日签名 {file_name}",
            "请保存附件：它证明操作留痕此后未被删改。\nKeep the attached file.",
            to=[self.address],
        )
        message.attach(file_name, content, "application/x-ndjson")
        message.send()


@dataclass(frozen=True, slots=True)
class Stored:
    """A storage of Django's settings, by its alias."""

    alias: str

    @property
    def name(self) -> str:
        return f"storage:{self.alias}"

    def put(self, file_name: str, content: bytes) -> None:
        storage = storages[self.alias]
        if storage.exists(file_name):
            with storage.open(file_name) as file:
                if file.read() != content:
                    raise PlaceError(f"{self.name} {file_name} 已存在, 内容不同")
            return
        saved = storage.save(file_name, ContentFile(content))
        if saved != file_name:
            raise PlaceError(f"{self.name} 存成了 {saved}")


def parse(text: str) -> list[Place]:
    """``file:/path``, ``mailto:address``, ``storage:alias``, parted by commas. ValueError."""
    places: list[Place] = []
    for part in filter(None, (entry.strip() for entry in text.split(","))):
        kind, _, rest = part.partition(":")
        if kind == "file" and rest.startswith("/"):
            places.append(Folder(Path(rest)))
        elif kind == "mailto" and "@" in rest:
            places.append(Mail(rest))
        elif kind == "storage" and rest:
            places.append(Stored(rest))
        else:
            raise ValueError(f"{part!r} 应为 file:/文件夹, mailto:邮箱 或 storage:别名")
    return places
