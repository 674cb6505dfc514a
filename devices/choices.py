"""Words of the device layer that stand in the database."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class DiskKind(models.TextChoices):
    """The values are also the driver kinds named in an order."""

    IC_CARD = "ic_card", _("税控 IC 卡")
    BAIWANG = "baiwang", _("税控盘")
    AISINO = "aisino", _("金税盘")
    UKEY = "ukey", _("税务UKey")


# Kinds whose device password is a PIN that changes with each use.
ROLLING_KINDS = frozenset({DiskKind.IC_CARD})


class PasswordState(models.TextChoices):
    MISSING = "missing", _("口令未录入")
    UNTRIED = "untried", _("口令未用过")
    GOOD = "good", _("口令正常")
    WRONG = "wrong", _("口令错误")
    LOCKED = "locked", _("口令已锁死")
    PIN_UNKNOWN = "pin_unknown", _("PIN 待确认")


class AlarmKind(models.TextChoices):
    """What must not be, as seen by the reader machines; the label is the heading of the alarm."""

    TAX_ID = "tax_id", _("盘上税号与登记客户不符")
    TWO_MACHINES = "two_machines", _("同一税盘同时出现在两台读盘机")
