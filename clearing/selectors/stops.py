"""What keeps runs back right now: paused bureau addresses and held disks.

One rule for the claim, the permission, the sweeper and the board. A mere read is never kept back,
nor is a run whose outcome is in doubt: it is handed out as a read, which settles it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass

from django.db.models import Exists, OuterRef, Q, QuerySet

from agency.clock import real_now
from agency.models import Company
from clearing.choices import Intent
from clearing.models import BureauOutage, BureauPause, Hold, Run
from clearing.states import Reason, RunState
from devices.selectors import present_numbers

#: Runs that write and call the bureau.
WRITES = Q(intent__in=[Intent.REPORT, Intent.REPORT_AND_CLEAR])


def paused_addresses() -> list[str]:
    """Bureau addresses at which nothing of this agency is to be done now (two queries)."""
    own = BureauPause.objects.filter(opened_at__isnull=False).values_list("address", flat=True)
    outages = BureauOutage.objects.filter(opened_at__isnull=False)
    return sorted({*own, *outages.values_list("address", flat=True)})


def open_holds() -> QuerySet[Hold]:
    """A hold is meant for the client: it keeps back every disk of its company, those that are added
    later too."""
    return Hold.objects.filter(released_at__isnull=True)


def is_held(company: str = "disk__company") -> Exists:
    """For a query: whether the company that ``company`` names is held back by a person."""
    return Exists(open_holds().filter(disk__company=OuterRef(company)))


def companies_held(among: Iterable[int]) -> set[int]:
    """Ids of those of these companies that a person holds back."""
    held = open_holds().filter(disk__company__in=set(among))
    return set(held.values_list("disk__company", flat=True))


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
    pauses = BureauPause.objects.filter(opened_at__isnull=False, address__in=addresses)
    return _with_hopes(list(pauses.order_by("opened_at", "pk")))


def able_to_probe(now: dt.datetime) -> QuerySet[Run]:
    """Runs that would ask a paused bureau at once, their disks being there. ``now`` is real."""
    here = Q(disk__device_no__in=present_numbers(now))
    ready = Q(state=RunState.QUEUED) | Q(state=RunState.WAITING, reason=Reason.BUREAU)
    return Run.objects.filter(WRITES & ready & here & ~Q(is_held()))


def _with_hopes(pauses: list[BureauPause]) -> list[BureauPause]:
    """Note of each whether its probe is due and nothing is there that could make it."""
    if pauses:
        now = real_now()
        able = set(
            able_to_probe(now)
            .filter(disk__company__bureau__address__in=[pause.address for pause in pauses])
            .values_list("disk__company__bureau__address", flat=True)
        )
        for pause in pauses:
            due = pause.next_probe_at is not None and pause.next_probe_at <= now
            pause.stuck = due and pause.probe_run_id is None and pause.address not in able
    return pauses


@dataclass(frozen=True, slots=True)
class AddressView:
    """A bureau address of the agency's companies, and its pause."""

    address: str
    names: str
    pause: BureauPause | None


def addresses() -> list[AddressView]:
    """The bureau addresses that the agency's companies have (two queries; four with a pause)."""
    used = Company.objects.exclude(bureau__isnull=True).exclude(bureau__address="")
    names: dict[str, list[str]] = {}
    for address, name in (
        used.values_list("bureau__address", "bureau__name")
        .distinct()
        .order_by("bureau__address", "bureau__name")
    ):
        names.setdefault(address, []).append(name)
    paused = _with_hopes(list(BureauPause.objects.filter(opened_at__isnull=False)))
    pauses = {row.address: row for row in paused}
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
