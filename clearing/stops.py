"""Tables of what keeps runs from being handed out: a paused bureau, and a person's hold.

A pause belongs to an agency and a bureau address. An outage is what three agencies have seen at an
address: it stops all agencies, and says nothing of any of them.
"""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from agency.tenancy import TenantForeignKey, TenantModel
from devices.models import TaxDisk


class PauseCause(models.TextChoices):
    OWN = "own", _("本机构连续办理失败")
    OTHERS = "others", _("多家机构都连不上")
    BY_HAND = "by_hand", _("人工暂停")


class Breaker(models.Model):
    """A circuit breaker at one address: closed while ``opened_at`` is empty.

    Half open from ``next_probe_at`` on: then one run is let through, and nobody else until
    ``probe_until``."""

    address = models.CharField(_("服务地址"), max_length=200)
    opened_at = models.DateTimeField(null=True)
    next_probe_at = models.DateTimeField(null=True)
    probe_until = models.DateTimeField(null=True)
    # Probes that failed since it opened; the pause grows with them.
    probes = models.PositiveSmallIntegerField(default=0)

    class Meta:
        abstract = True


class BureauPause(TenantModel, Breaker):
    """An agency's breaker for one bureau address; its row is also the lock under which the parallel
    calls to that address are counted."""

    # Different runs in a row that found the bureau down; the last of them.
    failures = models.PositiveSmallIntegerField(default=0)
    last_failed = models.BigIntegerField(null=True)
    cause = models.CharField(max_length=8, choices=PauseCause, blank=True)
    note = models.CharField(_("原因"), max_length=200, blank=True)
    paused_by = models.CharField(max_length=100, blank=True)
    probe_run = TenantForeignKey(
        "clearing.Run", on_delete=models.PROTECT, related_name="+", null=True
    )
    # Set where it is shown: a probe is due, and no disk is there that could make it.
    stuck = False

    class Meta:
        verbose_name = _("税局暂停")
        constraints = [
            models.UniqueConstraint(
                fields=["agency", "address"], name="one_pause_per_agency_and_address"
            ),
            models.CheckConstraint(
                condition=Q(opened_at__isnull=True, cause="", probe_run__isnull=True)
                | (Q(opened_at__isnull=False) & ~Q(cause="")),
                name="open_pause_has_a_cause",
            ),
        ]

    def __str__(self) -> str:
        return self.address


class BureauOutage(Breaker):
    """A bureau address that several agencies found down: paused for all. No tenant's data."""

    closed_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["address"], name="one_outage_per_address")]

    def __str__(self) -> str:
        return self.address


class Hold(TenantModel):
    """A person keeps a client back (暂缓): nothing irreversible is done with any of its disks until
    released. One row for each disk that it had then."""

    disk = TenantForeignKey(TaxDisk, on_delete=models.PROTECT, related_name="holds")
    note = models.CharField(_("原因"), max_length=200)
    held_by = models.CharField(_("办理人"), max_length=100)
    held_at = models.DateTimeField()
    released_by = models.CharField(max_length=100, blank=True)
    released_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = _("暂缓")
        constraints = [
            models.UniqueConstraint(
                fields=["agency", "disk"],
                condition=Q(released_at__isnull=True),
                name="one_hold_per_disk",
            ),
            models.CheckConstraint(condition=~Q(note=""), name="a_hold_says_why"),
        ]
