"""What keeps runs back right now: paused bureau addresses and held disks.

One rule for the claim, the permission, the sweeper and the board. A mere read is never kept back,
nor is a run whose outcome is in doubt: it is handed out as a read, which settles it.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Exists, OuterRef, Q, QuerySet

from agency.models import Company
from clearing.choices import Intent
from clearing.models import BureauOutage, BureauPause, Hold, Run
from clearing.states import RunState

#: Runs that write and call the bureau.
WRITES = Q(intent__in=[Intent.REPORT, Intent.REPORT_AND_CLEAR])


def paused_addresses() -> list[str]:
    """Bureau addresses at which nothing of this agency is to be done now (two queries)."""
    own = BureauPause.objects.filter(opened_at__isnull=False).values_list("address", flat=True)
    outages = BureauOutage.objects.filter(opened_at__isnull=False)
    return sorted({*own, *outages.values_list("address", flat=True)})


def is_held(disk: str = "disk") -> Exists:
    """For a query: whether the disk that ``disk`` names is held back by a person."""
    return Exists(Hold.objects.filter(disk=OuterRef(disk), released_at__isnull=True))


def at_paused(addresses: list[str]) -> Q:
    """Runs that would call one of these addresses, but for the one that is to probe it."""
    probing = BureauPause.objects.filter(probe_run__isnull=False).values("probe_run")
    return Q(disk__company__bureau__address__in=addresses) & ~Q(pk__in=probing)


def stopped_runs() -> QuerySet[Run]:
    """Runs that may not write now: their disk is held, or their bureau paused."""
    runs = Run.objects.filter(WRITES)
    addresses = paused_addresses()
    return runs.filter(is_held() | Q(at_paused(addresses))) if addresses else runs.filter(is_held())


def address_of(run: Run) -> str:
    """Where the run's bureau is reached; empty without one."""
    bureau = run.disk.company.bureau
    return bureau.address if bureau is not None else ""


def pauses_of(companies: QuerySet[Company]) -> list[BureauPause]:
    """The pauses that concern ``companies``, the oldest first."""
    addresses = companies.exclude(bureau__isnull=True).values("bureau__address")
    return list(
        BureauPause.objects.filter(opened_at__isnull=False, address__in=addresses).order_by(
            "opened_at", "pk"
        )
    )


@dataclass(frozen=True, slots=True)
class AddressView:
    """A bureau address of the agency's companies, and its pause."""

    address: str
    names: str
    pause: BureauPause | None


def addresses() -> list[AddressView]:
    """The bureau addresses that the agency's companies have (two queries)."""
    used = Company.objects.exclude(bureau__isnull=True).exclude(bureau__address="")
    names: dict[str, list[str]] = {}
    for address, name in (
        used.values_list("bureau__address", "bureau__name")
        .distinct()
        .order_by("bureau__address", "bureau__name")
    ):
        names.setdefault(address, []).append(name)
    pauses = {row.address: row for row in BureauPause.objects.filter(opened_at__isnull=False)}
    return [
        AddressView(address, "、".join(found), pauses.get(address))
        for address, found in names.items()
    ]


def unknowns_of(companies: QuerySet[Company]) -> list[Run]:
    """Runs in doubt that a notice was given of: their disk has to be plugged in."""
    return list(
        Run.objects.filter(
            state=RunState.UNKNOWN, noticed_at__isnull=False, disk__company__in=companies
        )
        .select_related("disk", "disk__company")
        .order_by("noticed_at", "pk")
    )
