"""Batches, disk periods, runs and their attempts; what each stage gave; backups and evidence."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from agency.models import Bureau, Company
from agency.sealed import SealedField, SealedFileField
from agency.tenancy import TenantForeignKey, TenantModel
from clearing.choices import (
    BackupProblem,
    By,
    EvidenceKind,
    FilingState,
    Intent,
    PeriodState,
    Stage,
)
from clearing.states import OPEN, Reason, RunState
from clearing.stops import BureauOutage as BureauOutage
from clearing.stops import BureauPause as BureauPause
from clearing.stops import Hold as Hold
from devices.models import Machine, TaxDisk


class Batch(TenantModel):
    """One click: the runs it started, and those it joined."""

    intent = models.CharField(_("办理内容"), max_length=16, choices=Intent)
    # Made by the page; a double click sends the same one twice.
    key = models.CharField(max_length=36)
    period = models.CharField(_("属期"), max_length=7)
    started_by = models.CharField(_("办理人"), max_length=100)
    created_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = _("批次")
        constraints = [
            models.UniqueConstraint(fields=["agency", "key"], name="one_batch_per_click")
        ]


class DiskPeriod(TenantModel):
    """One row per disk and period: what the board shows.

    ``state`` and who did it are derived from control data read back and from recorded answers
    (``clearing.periods``); no service takes them as an argument.
    """

    disk = TenantForeignKey(TaxDisk, on_delete=models.PROTECT, related_name="periods")
    period = models.CharField(_("属期"), max_length=7)
    state = models.CharField(max_length=9, choices=PeriodState, default=PeriodState.UNREAD)
    control = models.JSONField(default=dict)
    read_at = models.DateTimeField(_("读盘时间"), null=True)
    reported_by = models.CharField(max_length=9, choices=By, blank=True)
    reported_at = models.DateTimeField(null=True)
    cleared_by = models.CharField(max_length=9, choices=By, blank=True)
    cleared_at = models.DateTimeField(null=True)
    issue_deadline = models.DateField(_("开票截止日期"), null=True)
    filing = models.CharField(max_length=17, choices=FilingState, default=FilingState.UNKNOWN)
    # Set by a person; goes before what the bureau says.
    marked_filed_by = models.CharField(max_length=100, blank=True)
    marked_filed_at = models.DateTimeField(null=True)
    # Units whose clear was permitted and not yet confirmed to the bureau.
    units_to_confirm = models.JSONField(default=list)
    statistics = models.JSONField(default=dict)

    class Meta:
        verbose_name = _("税盘属期")
        constraints = [
            models.UniqueConstraint(
                fields=["agency", "disk", "period"], name="one_row_per_disk_and_period"
            ),
            models.CheckConstraint(
                condition=Q(period__regex=r"^\d{4}-(0[1-9]|1[0-2])$"), name="period_is_a_month"
            ),
            models.CheckConstraint(
                condition=~Q(state=PeriodState.CLEARED)
                | (Q(read_at__isnull=False) & Q(cleared_at__isnull=False) & ~Q(cleared_by="")),
                name="cleared_is_read_back",
            ),
        ]

    @property
    def confirm_owed(self) -> bool:
        """Cleared by us, and the bureau does not know yet."""
        return (
            self.state == PeriodState.CLEARED
            and self.cleared_by == By.US
            and bool(self.units_to_confirm)
        )


class Run(TenantModel):
    """One attempt-bearing piece of work on one disk (一次办理)."""

    disk = TenantForeignKey(TaxDisk, on_delete=models.PROTECT, related_name="runs")
    disk_period = TenantForeignKey(DiskPeriod, on_delete=models.PROTECT, related_name="runs")
    batch = TenantForeignKey(Batch, on_delete=models.PROTECT, related_name="runs")
    intent = models.CharField(max_length=16, choices=Intent)
    state = models.CharField(max_length=10, choices=RunState, default=RunState.QUEUED)
    reason = models.CharField(max_length=10, choices=Reason, blank=True)
    next_try_at = models.DateTimeField(null=True)
    # Catalogue code of the failure, or of why it waits; raw exactly as it came.
    code = models.CharField(max_length=32, blank=True)
    raw_code = models.CharField(max_length=40, blank=True)
    raw_text = models.CharField(max_length=400, blank=True)
    detail = models.CharField(max_length=200, blank=True)
    # Order of claims: smaller first (a walk-in goes before the rest); ``turn`` is fair per batch.
    priority = models.SmallIntegerField(default=10)
    turn = models.PositiveIntegerField(default=0)
    # Tries in a row for one cause while the period got no further; ``retries_of`` names both.
    retries = models.PositiveSmallIntegerField(default=0)
    retries_of = models.CharField(max_length=48, blank=True)
    # The newest attempt; its key is made by the client.
    attempt = TenantForeignKey(
        "clearing.Attempt", on_delete=models.PROTECT, related_name="+", null=True
    )
    lease_until = models.DateTimeField(null=True)
    # {"stage", "unit", "period"} while an irreversible step may be under way.
    open_intent = models.JSONField(null=True)
    # When it was said, once, that an unknown one waits for its disk.
    noticed_at = models.DateTimeField(null=True)
    cancel_requested_by = models.CharField(max_length=100, blank=True)
    stage = models.CharField(_("环节"), max_length=8, choices=Stage, blank=True)
    created_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = _("办理")
        constraints = [
            models.UniqueConstraint(
                fields=["agency", "disk"],
                condition=Q(state__in=sorted(OPEN)),
                name="one_open_run_per_disk",
            ),
            models.CheckConstraint(
                condition=Q(
                    state=RunState.CLAIMED, lease_until__isnull=False, attempt__isnull=False
                )
                | (~Q(state=RunState.CLAIMED) & Q(lease_until__isnull=True)),
                name="claimed_has_a_lease",
            ),
            models.CheckConstraint(
                condition=(Q(state=RunState.WAITING) & ~Q(reason=""))
                | (~Q(state=RunState.WAITING) & Q(reason="", next_try_at__isnull=True)),
                name="waiting_says_why",
            ),
            models.CheckConstraint(
                condition=~Q(state=RunState.FAILED) | ~Q(code=""), name="failed_has_a_code"
            ),
            models.CheckConstraint(
                condition=Q(state__in=sorted(OPEN), ended_at__isnull=True)
                | (~Q(state__in=sorted(OPEN)) & Q(ended_at__isnull=False)),
                name="ended_has_a_time",
            ),
            models.CheckConstraint(
                condition=Q(open_intent__isnull=True)
                | Q(state__in=[RunState.CLAIMED, RunState.UNKNOWN]),
                name="intent_only_in_hand",
            ),
            models.CheckConstraint(
                condition=~Q(state=RunState.UNKNOWN) | Q(open_intent__isnull=False),
                name="unknown_has_an_intent",
            ),
        ]
        indexes = [
            models.Index(fields=["agency", "state", "next_try_at"], name="run_by_state"),
            models.Index(fields=["agency", "disk_period"], name="run_by_period"),
        ]


class BatchRun(TenantModel):
    """A run in a batch; ``joined`` when it was already under way."""

    batch = TenantForeignKey(Batch, on_delete=models.CASCADE, related_name="entries")
    run = TenantForeignKey(Run, on_delete=models.CASCADE, related_name="entries")
    joined = models.BooleanField(default=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["agency", "batch", "run"], name="run_once_per_batch")
        ]


class Attempt(TenantModel):
    """One claim of a run by a machine; facts are accepted for it whenever they arrive."""

    run = TenantForeignKey(Run, on_delete=models.PROTECT, related_name="attempts")
    machine = TenantForeignKey(Machine, on_delete=models.PROTECT, related_name="+")
    key = models.UUIDField()
    ordinal = models.PositiveIntegerField()
    # What the order asked for; a later click may have widened the run's own intent meanwhile.
    intent = models.CharField(max_length=16, choices=Intent)
    slot = models.CharField(_("盘位"), max_length=40)
    # Which password the order carried, or which PIN this attempt's own roll brought since.
    pin_generation = models.PositiveIntegerField(null=True)
    claimed_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    end = models.CharField(max_length=12, blank=True)  # settled · released · lease_over
    # Number of the last fact that read control data, and whether a backup was kept after it.
    last_read = models.PositiveIntegerField(default=0)
    backup_after = models.PositiveIntegerField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["agency", "key"], name="one_attempt_per_key"),
            models.UniqueConstraint(fields=["agency", "run", "ordinal"], name="attempts_in_order"),
        ]


class StageResult(TenantModel):
    """What one stage of an attempt gave; the timeline of the company page."""

    run = TenantForeignKey(Run, on_delete=models.PROTECT, related_name="stages")
    attempt = TenantForeignKey(Attempt, on_delete=models.PROTECT, related_name="stages")
    disk_period = TenantForeignKey(
        DiskPeriod, on_delete=models.PROTECT, related_name="stages", null=True
    )
    number = models.PositiveIntegerField()
    stage = models.CharField(max_length=8, choices=Stage)
    unit = models.CharField(_("发票类型"), max_length=40, blank=True)
    ok = models.BooleanField()
    code = models.CharField(max_length=32, blank=True)
    raw_code = models.CharField(max_length=40, blank=True)
    raw_text = models.CharField(max_length=400, blank=True)
    at = models.DateTimeField()
    device_ms = models.PositiveIntegerField(default=0)
    bureau_ms = models.PositiveIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["agency", "attempt", "number"], name="one_stage_per_number"
            )
        ]


def backup_context(agency_id: int, disk_id: int) -> str:
    """What a disk's backups are bound to."""
    return f"backup:{agency_id}:{disk_id}"


class Backup(TenantModel):
    """A sealed, content-addressed copy of a disk, made before a clear (in Django storage)."""

    run = TenantForeignKey(Run, on_delete=models.PROTECT, related_name="backups")
    attempt = TenantForeignKey(Attempt, on_delete=models.PROTECT, related_name="backups")
    disk_period = TenantForeignKey(DiskPeriod, on_delete=models.PROTECT, related_name="backups")
    sha256 = models.CharField(max_length=64)
    size = models.PositiveIntegerField()
    storage_name = SealedFileField(max_length=200, context="seal_context")
    created_at = models.DateTimeField()
    # When it was read last and found whole; ``problem`` says what the last look found instead.
    verified_at = models.DateTimeField()
    looked_at = models.DateTimeField(null=True)
    problem = models.CharField(max_length=9, choices=BackupProblem, blank=True)
    # Past its time: the row stays, the content goes (``storage_name`` is empty once it is gone).
    deleted_at = models.DateTimeField(null=True)
    simulated = models.BooleanField(default=False)

    class Meta:
        verbose_name = _("备份")
        constraints = [
            models.UniqueConstraint(
                fields=["agency", "attempt", "sha256"], name="one_backup_per_content"
            )
        ]

    @property
    def seal_context(self) -> str:
        return backup_context(self.agency_id, self.disk_period.disk_id)


class BackupHold(TenantModel):
    """A company's backups are held (冻结): nothing of them is deleted, whatever their age."""

    company = TenantForeignKey(Company, on_delete=models.PROTECT, related_name="backup_holds")
    reason = models.CharField(_("原因"), max_length=200)
    set_by = models.CharField(max_length=100)
    set_at = models.DateTimeField()
    lifted_by = models.CharField(max_length=100, blank=True)
    lifted_at = models.DateTimeField(null=True)
    lift_reason = models.CharField(_("解除原因"), max_length=200, blank=True)

    class Meta:
        verbose_name = _("备份冻结")
        constraints = [
            models.UniqueConstraint(
                fields=["agency", "company"],
                condition=Q(lifted_at__isnull=True),
                name="one_hold_per_company",
            )
        ]

    def __str__(self) -> str:
        return self.reason


def package_context(agency_id: int, disk_id: int) -> str:
    """What a disk's report packages are bound to."""
    return f"package:{agency_id}:{disk_id}"


class Evidence(TenantModel):
    """A fact that came from a machine (办理依据); idempotent by attempt and number.

    ``data`` is plain; ``sealed`` holds a report package.
    """

    disk = TenantForeignKey(TaxDisk, on_delete=models.PROTECT, related_name="evidence")
    disk_period = TenantForeignKey(
        DiskPeriod, on_delete=models.PROTECT, related_name="evidence", null=True
    )
    run = TenantForeignKey(Run, on_delete=models.PROTECT, related_name="evidence")
    attempt = TenantForeignKey(Attempt, on_delete=models.PROTECT, related_name="evidence")
    number = models.PositiveIntegerField()
    kind = models.CharField(max_length=8, choices=EvidenceKind)
    unit = models.CharField(max_length=40, blank=True)
    data = models.JSONField(default=dict)
    sealed = SealedField(null=True, context="seal_context")
    at = models.DateTimeField()
    # False when it came after a newer attempt had begun: kept, but changed no state.
    counted = models.BooleanField(default=True)
    versions = models.JSONField(default=dict)
    simulated = models.BooleanField(default=False)

    class Meta:
        verbose_name = _("办理依据")
        constraints = [
            models.UniqueConstraint(
                fields=["agency", "attempt", "number"], name="one_fact_per_number"
            )
        ]
        indexes = [
            models.Index(fields=["agency", "disk_period", "kind"], name="evidence_by_period")
        ]

    @property
    def seal_context(self) -> str:
        """What a sealed package is bound to."""
        return package_context(self.agency_id, self.disk_id)


class DeadlineOverride(TenantModel):
    """An agency's own filing deadline for a bureau (or all) and a month."""

    bureau = models.ForeignKey(Bureau, on_delete=models.PROTECT, null=True, related_name="+")
    month = models.CharField(max_length=7)
    deadline = models.DateField(_("申报期限"))
    note = models.CharField(max_length=200, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["agency", "bureau", "month"],
                name="one_deadline_per_bureau_and_month",
                nulls_distinct=False,
            )
        ]


class DeadlineNotice(models.Model):
    """The operator's default for a bureau (or all) and a month; the same for all agencies."""

    bureau = models.ForeignKey(Bureau, on_delete=models.PROTECT, null=True, related_name="+")
    month = models.CharField(max_length=7)
    deadline = models.DateField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["bureau", "month"],
                name="one_notice_per_bureau_and_month",
                nulls_distinct=False,
            )
        ]

    def __str__(self) -> str:
        return f"{self.month}: {self.deadline}"


class Tick(models.Model):
    """When a periodic job last came round, so that it can be patient after a gap."""

    job = models.CharField(max_length=20, unique=True)
    at = models.DateTimeField()
    patient_until = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return self.job
