"""Which disks a click leaves out, and why: the one rule of the confirmation and of the service.

The page asks it before, the service again under locks. Pure but for the language of the request.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.translation import gettext as _

from clearing.choices import Intent


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is looked at. ``under_way``: it has an open run, which the click joins."""

    retired: bool = False
    training: bool = False
    under_way: bool = False
    held: bool = False
    reported: bool = False
    cleared: bool = False
    bureau: bool = True  # whether its company's bureau is known


def why_skipped(intent: Intent, disk: Candidate) -> str:
    """The reason in a few words; "" for a disk that is taken."""
    if disk.retired:
        return _("税盘已注销")
    if disk.training:
        return _("测试盘")
    if disk.held and intent != Intent.READ:
        return _("已暂缓办理")
    if not disk.bureau and intent != Intent.READ:
        return _("未填主管税务机关，请导入客户表补填")
    if disk.under_way or intent == Intent.READ:
        return ""
    if disk.cleared:
        return _("本月已清卡")
    if disk.reported and intent == Intent.REPORT:
        return _("本月已抄报")
    return ""
