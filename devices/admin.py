"""What the operator sees of the device layer during a support session; no password, no token."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from agency.operator.read_only import ReadOnly
from devices.models import Machine, Slot, TaxDisk


class MachineView(ReadOnly):
    columns = ("name", "version", "parallel", "https_only", "seen_at", "revoked_at")
    facts = (*columns, "simulated", "created_at")
    labels = {"created_at": _("登记时间")}
    search_fields = ("name",)


class SlotView(ReadOnly):
    columns = ("machine", "name", "device_no", "tax_id", "problem", "seen_at")
    facts = (*columns, "kind", "terminal_no", "alarms", "since")
    labels = {
        "problem": _("问题"),
        "seen_at": _("最近在线"),
        "kind": _("设备类型"),
        "terminal_no": _("开票机号"),
        "alarms": _("报警"),
        "since": _("插入时间"),
    }
    search_fields = ("name", "device_no", "tax_id")
    list_select_related = ("machine",)


class DiskView(ReadOnly):
    columns = ("company", "device_no", "kind", "password_state", "control_read_at", "retired_at")
    facts = (
        *columns,
        "terminal_no",
        "training",
        "password_entered_at",
        "tries_left",
        "pin_generation",
        "pin_intent_machine",
        "pin_intent_at",
        "issue_deadline",
        "created_at",
        "control",
    )
    labels = {
        "company": _("客户"),
        "password_state": _("口令状态"),
        "password_entered_at": _("口令录入时间"),
        "tries_left": _("剩余尝试次数"),
        "pin_generation": _("PIN 更换次数"),
        "pin_intent_machine": _("正在更换 PIN 的读盘机"),
        "pin_intent_at": _("准备更换 PIN 的时间"),
        "created_at": _("登记时间"),
        "control": _("读盘内容"),
    }
    search_fields = ("device_no", "company__short_name", "company__tax_id")
    list_select_related = ("company",)


VIEWS: dict[type[models.Model], type[ReadOnly]] = {
    TaxDisk: DiskView,
    Machine: MachineView,
    Slot: SlotView,
}
