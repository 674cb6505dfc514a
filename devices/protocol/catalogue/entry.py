"""One entry of the failure catalogue."""

from __future__ import annotations

from dataclasses import dataclass

from devices.protocol.failures import Code, FailureClass


@dataclass(frozen=True, slots=True)
class Entry:
    """What one code means for the person who sees it.

    The texts are Chinese, marked for translation, and say nothing that changes from case to case:
    counts, types and raw codes travel in the :class:`~devices.protocol.failures.Failure`.
    """

    code: Code
    cls: FailureClass
    title: str
    happened: str  # 发生了什么
    next_step: str  # 下一步
    dont: str  # 不要做什么
