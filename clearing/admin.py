"""What the operator sees of the clearing layer during a support session; no backup, no package."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from agency.operator.read_only import ReadOnly
from clearing.models import Batch, DiskPeriod, Run


class BatchView(ReadOnly):
    columns = ("id", "intent", "period", "started_by", "created_at", "ended_at")
    facts = columns
    labels = {"id": _("批次号"), "created_at": _("开始时间"), "ended_at": _("结束时间")}
    search_fields = ("period", "started_by")


class PeriodView(ReadOnly):
    columns = ("disk", "period", "state", "filing", "read_at", "reported_at", "cleared_at")
    facts = (
        *columns,
        "reported_by",
        "cleared_by",
        "issue_deadline",
        "marked_filed_by",
        "marked_filed_at",
        "units_to_confirm",
        "statistics",
        "control",
    )
    labels = {
        "disk": _("税盘"),
        "state": _("状态"),
        "filing": _("申报情况"),
        "reported_at": _("抄报时间"),
        "cleared_at": _("清卡时间"),
        "reported_by": _("抄报方"),
        "cleared_by": _("清卡方"),
        "marked_filed_by": _("标记已申报的人"),
        "marked_filed_at": _("标记已申报的时间"),
        "units_to_confirm": _("待向税局确认"),
        "statistics": _("统计"),
        "control": _("读盘内容"),
    }
    search_fields = ("period", "disk__device_no", "disk__company__short_name")
    list_select_related = ("disk",)


class RunView(ReadOnly):
    columns = ("disk", "intent", "state", "reason", "code", "stage", "created_at", "ended_at")
    facts = (
        *columns,
        "batch_id",
        "next_try_at",
        "raw_code",
        "raw_text",
        "detail",
        "priority",
        "retries",
        "retries_of",
        "lease_until",
        "open_intent",
        "noticed_at",
        "cancel_requested_by",
    )
    labels = {
        "disk": _("税盘"),
        "intent": _("办理内容"),
        "state": _("状态"),
        "reason": _("等待原因"),
        "code": _("代码"),
        "created_at": _("开始时间"),
        "ended_at": _("结束时间"),
        "batch_id": _("批次号"),
        "next_try_at": _("下次尝试"),
        "raw_code": _("原始代码"),
        "raw_text": _("原始文字"),
        "detail": _("说明"),
        "priority": _("先后"),
        "retries": _("重试次数"),
        "retries_of": _("因何重试"),
        "lease_until": _("办理期限"),
        "open_intent": _("正在写盘的环节"),
        "noticed_at": _("提醒时间"),
        "cancel_requested_by": _("要求取消的人"),
    }
    search_fields = ("disk__device_no", "disk__company__short_name", "code")
    list_select_related = ("disk",)


VIEWS: dict[type[models.Model], type[ReadOnly]] = {
    DiskPeriod: PeriodView,
    Run: RunView,
    Batch: BatchView,
}
