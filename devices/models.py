"""Reader machines, their slots, tax disks, and what an agency's own sheets look like."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from agency.models import Company
from agency.sealed import SealedField
from agency.tenancy import TenantForeignKey, TenantModel
from devices.choices import DiskKind, PasswordState


class Machine(TenantModel):
    """A reader machine (读盘机): belongs to one agency, holds its own token and broker account."""

    name = models.CharField(_("读盘机"), max_length=60)
    token_hash = models.BinaryField(max_length=32)
    # The Redis account and the key prefix are both this name; nothing is shared between machines.
    # Empty for one that lives from presence answers over HTTPS alone: it has no bell.
    broker_account = models.CharField(max_length=60, blank=True)
    # Former accounts that the broker may still have: until it has said that they are gone.
    old_accounts = models.JSONField(default=list)
    # The agency's wish; a machine that was enrolled while the broker was away has no bell either.
    https_only = models.BooleanField(_("仅走 HTTPS"), default=False)
    parallel = models.PositiveSmallIntegerField(_("同时办理数"), default=8)
    version = models.CharField(_("版本"), max_length=20, blank=True)
    simulated = models.BooleanField(_("模拟"), default=False)
    created_at = models.DateTimeField(auto_now_add=True)
    seen_at = models.DateTimeField(_("最近在线"), null=True)
    revoked_at = models.DateTimeField(_("停用时间"), null=True)

    class Meta:
        verbose_name = _("读盘机")
        constraints = [
            # A revoked machine's name is free: its replacement stands at the same counter.
            models.UniqueConstraint(
                fields=["agency", "name"],
                condition=Q(revoked_at__isnull=True),
                name="machine_name_per_agency",
            ),
            models.UniqueConstraint(fields=["agency", "token_hash"], name="machine_token"),
        ]

    def __str__(self) -> str:
        return self.name


class EnrolmentCode(TenantModel):
    """A code that a reader machine exchanges, once and within minutes, for its credentials.

    ``machine`` is empty for a new machine; set, it gives that machine new credentials (a roll)."""

    code_hash = models.BinaryField(max_length=32)
    name = models.CharField(_("读盘机"), max_length=60)
    parallel = models.PositiveSmallIntegerField(_("同时办理数"), default=8)
    https_only = models.BooleanField(_("仅走 HTTPS"), default=False)
    simulated = models.BooleanField(_("模拟"), default=False)
    machine = TenantForeignKey(Machine, on_delete=models.PROTECT, related_name="+", null=True)
    created_by = models.CharField(max_length=100)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = _("登记码")
        constraints = [
            models.UniqueConstraint(fields=["agency", "code_hash"], name="one_row_per_code")
        ]

    def __str__(self) -> str:
        return self.name


class TaxDisk(TenantModel):
    """A tax disk (税盘) of a company; a sub-machine is a disk of its own.

    ``device_no`` is null until the disk was seen for the first time, where a sheet did not name it.
    """

    company = TenantForeignKey(Company, on_delete=models.PROTECT, related_name="disks")
    device_no = models.CharField(_("盘号"), max_length=16, null=True)  # noqa: DJ001 (unique when known)
    terminal_no = models.PositiveSmallIntegerField(_("开票机号"), default=0)
    kind = models.CharField(_("设备类型"), max_length=8, choices=DiskKind)
    # Sealed. For a rolling kind the device password is the PIN of ``pin_generation``.
    device_password = SealedField(null=True, context="seal_context")
    certificate_password = SealedField(null=True, context="seal_context")
    password_state = models.CharField(
        max_length=12, choices=PasswordState, default=PasswordState.MISSING
    )
    password_entered_at = models.DateTimeField(null=True)
    tries_left = models.PositiveSmallIntegerField(null=True)
    pin_generation = models.PositiveIntegerField(default=0)
    # An open intent to roll the PIN: until that machine delivers, no other gets the disk's PIN.
    pin_intent_machine = TenantForeignKey(
        Machine, on_delete=models.PROTECT, related_name="+", null=True
    )
    pin_intent_at = models.DateTimeField(null=True)
    # What a generation means once a person has decided: devices.services.pins.
    pin_decisions = models.PositiveIntegerField(default=0)
    pin_late = SealedField(null=True, context="seal_context")
    pin_late_generation = models.PositiveIntegerField(default=0)
    # One try that a person allowed: "" until a claim uses it, then that claim's key.
    pin_try_key = models.CharField(max_length=36, null=True)  # noqa: DJ001 (null: no such try)
    training = models.BooleanField(_("测试盘"), default=False)
    # The last control data read, per invoice type (devices.protocol.control.to_json).
    control = models.JSONField(default=dict)
    control_read_at = models.DateTimeField(_("读盘时间"), null=True)
    issue_deadline = models.DateField(_("开票截止日期"), null=True)
    retired_at = models.DateTimeField(_("注销时间"), null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = _("税盘")
        constraints = [
            models.UniqueConstraint(
                fields=["agency", "device_no"],
                condition=Q(device_no__isnull=False),
                name="one_disk_per_device_no",
            ),
            models.CheckConstraint(
                condition=Q(pin_intent_machine__isnull=True, pin_intent_at__isnull=True)
                | Q(pin_intent_machine__isnull=False, pin_intent_at__isnull=False),
                name="pin_intent_whole",
            ),
        ]

    def __str__(self) -> str:
        return self.device_no or f"{self.get_kind_display()} {self.terminal_no}"

    @property
    def seal_context(self) -> str:
        """What this disk's secrets are bound to."""
        return f"disk:{self.agency_id}:{self.pk}"


class Slot(TenantModel):
    """A slot (盘位) of a machine as its last presence report described it."""

    machine = TenantForeignKey(Machine, on_delete=models.CASCADE, related_name="slots")
    name = models.CharField(_("盘位"), max_length=40)
    device_no = models.CharField(_("盘号"), max_length=16, blank=True)
    tax_id = models.CharField(_("税号"), max_length=20, blank=True)
    kind = models.CharField(max_length=8, blank=True)
    terminal_no = models.PositiveSmallIntegerField(null=True)
    # A catalogue code when what is plugged in cannot be used (foreign card, garbled …).
    problem = models.CharField(max_length=32, blank=True)
    # The alarms that stand in the trail for this insertion (devices.choices.AlarmKind, spaced).
    alarms = models.CharField(max_length=40, blank=True)
    seen_at = models.DateTimeField()
    since = models.DateTimeField()

    class Meta:
        verbose_name = _("盘位")
        constraints = [
            models.UniqueConstraint(
                fields=["agency", "machine", "name"], name="slot_name_per_machine"
            )
        ]
        indexes = [models.Index(fields=["agency", "device_no"], name="slot_by_device")]

    def __str__(self) -> str:
        return self.name


class SheetMapping(TenantModel):
    """Which heading of the agency's own sheet means which column; remembered after an import."""

    heading = models.CharField(max_length=80)
    column = models.CharField(max_length=40)  # a column key of devices.sheets, "" = ignore

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["agency", "heading"], name="one_meaning_per_heading")
        ]


class ImportDraft(TenantModel):
    """A read sheet between upload and confirmation; sealed, because it may hold passwords.

    The uploaded file itself is not kept."""

    created_by = models.BigIntegerField()
    created_at = models.DateTimeField()
    content = SealedField(context="seal_context")
    file_name = models.CharField(max_length=120)

    class Meta:
        verbose_name = _("导入草稿")

    @property
    def seal_context(self) -> str:
        """What the sealed sheet is bound to."""
        return f"import:{self.agency_id}:{self.pk}:{self.created_by}"
