"""What our own tables say, for the progress bar, the closing table and the judge. Writes nothing.

To be imported after ``django.setup()``; everything runs in one ``agency_scope`` of its own.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from django.db.models import Max, Min, Sum

from agency import audit
from agency.choices import Action
from agency.clock import real_now
from agency.models import Agency, AuditEntry, Company, Membership
from agency.scope import agency_scope
from clearing.choices import EvidenceKind, Stage
from clearing.models import Backup, Batch, DiskPeriod, Evidence, Run, StageResult
from clearing.states import ENDED, Reason, RunState
from deploy.demonstration.expected import ending
from deploy.demonstration.judge import Allowed, Claim, Claims
from deploy.demonstration.people import AGENCY
from devices.models import TaxDisk
from devices.selectors import present_slots

#: A run that waits for one of these, or for a disk in a drawer, waits for somebody; all others go
#: on by themselves.
_FOR_SOMEBODY = frozenset({Reason.FILING, Reason.BY_HAND, Reason.WINDOW})


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the work is. ``settled`` of ``total`` disks need nothing more from us."""

    total: int = 0
    settled: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def finished(self) -> bool:
        return self.settled >= self.total


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds: of waiting for disks and bureau, summed over all runs, and from the first claim to
    the last word of a disk."""

    device: float
    bureau: float
    wall: float


def agency_id() -> int:
    return Agency.objects.get(name=AGENCY).pk


def progress(plugged: Collection[str]) -> Progress:
    """``plugged``: device numbers of the disks that are in a slot, by the simulated world: such a
    one that waits for its disk waits for its machine to tell of it, and for nobody else."""
    with agency_scope(agency_id()):
        runs = _newest_runs()
        return Progress(
            TaxDisk.objects.filter(retired_at__isnull=True).count(),
            sum(_settled(run, plugged) for run in runs),
            Counter(ending(run.state, run.reason) for run in runs),
        )


def _settled(run: Run, plugged: Collection[str]) -> bool:
    if run.state != RunState.WAITING:
        return run.state in ENDED
    if run.reason == Reason.DISK:
        return run.disk.device_no not in plugged
    return run.reason in _FOR_SOMEBODY


def people() -> list[tuple[str, str, str]]:
    """Login, name and role of everybody in the agency."""
    with agency_scope(agency_id()):
        return [
            (member.user.username, member.name, member.get_role_display())
            for member in Membership.objects.select_related("user").order_by("pk")
        ]


def companies() -> dict[str, int]:
    """Tax id → id of every client."""
    with agency_scope(agency_id()):
        return dict(Company.objects.values_list("tax_id", "pk"))


def started() -> bool:
    """Whether the button was pressed at any time before."""
    with agency_scope(agency_id()):
        return Batch.objects.exists()


def disks_present() -> int:
    with agency_scope(agency_id()):
        return present_slots(real_now()).count()


def spent() -> Spent:
    with agency_scope(agency_id()):
        sums = StageResult.objects.aggregate(device=Sum("device_ms"), bureau=Sum("bureau_ms"))
        span = Run.objects.aggregate(
            first=Min("attempts__claimed_at"), last=Max("attempts__ended_at")
        )
    wall = (span["last"] - span["first"]).total_seconds() if span["last"] else 0.0
    return Spent((sums["device"] or 0) / 1000, (sums["bureau"] or 0) / 1000, wall)


def read_all_claims() -> Claims:
    """The same of all agencies together."""
    each = [read_claims(agency) for agency in Agency.objects.values_list("pk", flat=True)]
    broken = [claims.first_bad_sequence for claims in each if claims.first_bad_sequence is not None]
    return Claims([disk for claims in each for disk in claims.disks], next(iter(broken), None))


def read_claims(agency: int | None = None) -> Claims:
    """Everything our tables claim about every disk of an agency, the demo's own by default."""
    with agency_scope(agency_id() if agency is None else agency):
        runs = {run.disk_id: run for run in _newest_runs()}
        # What a held package was permitted is no report on the disk.
        reports = _recorded(Action.RUN_REPORT_ALLOWED, but={"data__stage": Stage.UPLOAD})
        clears = _recorded(Action.RUN_CLEAR_ALLOWED)
        windows = _recorded(Action.DISK_PIN_UNKNOWN)
        trail = _trail()
        packages = Counter(
            Evidence.objects.filter(kind=EvidenceKind.PACKAGE).values_list("disk_id", flat=True)
        )
        claims = []
        for disk in TaxDisk.objects.select_related("company").order_by("pk"):
            run = runs.get(disk.pk)
            rows = DiskPeriod.objects.filter(disk=disk)
            backups = Backup.objects.filter(disk_period__disk=disk)
            claims.append(
                Claim(
                    device_no=disk.device_no or "",
                    tax_id=disk.company.tax_id,
                    company=disk.company.short_name,
                    outcome=run.state if run else "",
                    reason=run.reason if run else "",
                    code=run.code if run else "",
                    states={row.period: row.state for row in rows},
                    reported_by={row.period: row.reported_by for row in rows if row.reported_by},
                    cleared_by={row.period: row.cleared_by for row in rows if row.cleared_by},
                    permitted=reports[disk.pk] + clears[disk.pk],
                    packages_lost=max(0, reports[disk.pk] - packages[disk.pk]),
                    window_seen=windows[disk.pk] > 0,
                    allowed=_allowed(Action.RUN_CLEAR_ALLOWED, trail[disk.pk]),
                    reportable=_allowed(Action.RUN_REPORT_ALLOWED, trail[disk.pk]),
                    unbacked=list(_unbacked(disk, trail[disk.pk])),
                    late=list(_late(trail[disk.pk])),
                    untold=list(_untold(disk, trail[disk.pk])),
                    unconfirmed=[row.period for row in rows if row.confirm_owed],
                    backups=dict(
                        backups.values_list("disk_period__period")
                        .annotate(first=Min("created_at"))
                        .order_by()
                    ),
                )
            )
        return Claims(claims, audit.first_bad_sequence())


def _trail() -> dict[int | None, list[AuditEntry]]:
    """The entries about runs, by disk, in their order."""
    found: dict[int | None, list[AuditEntry]] = defaultdict(list)
    for entry in AuditEntry.objects.filter(action__startswith="run.").order_by("sequence"):
        found[entry.object_id].append(entry)
    return found


def _allowed(action: Action, trail: Sequence[AuditEntry]) -> list[Allowed]:
    return [
        Allowed(entry.data["period"], entry.data["unit"], entry.at)
        for entry in trail
        if entry.action == action
    ]


def _unbacked(disk: TaxDisk, trail: Sequence[AuditEntry]) -> Iterator[str]:
    """Clears that were permitted to a claim which had kept no verified backup before."""
    kept = Backup.objects.filter(disk_period__disk=disk)
    backups = kept.values_list("run", "attempt__ordinal", "verified_at")
    for entry in trail:
        if entry.action == Action.RUN_CLEAR_ALLOWED:
            claim = (entry.data["run"], entry.data["attempt"])
            if not any(of[:2] == claim and of[2] <= entry.at for of in backups):
                yield f"{entry.data['period']} {entry.data['unit']}".strip()


_ENDS = (Action.RUN_SETTLED, Action.RUN_RELEASED, Action.RUN_LEASE_OVER)
_PERMITS = (Action.RUN_REPORT_ALLOWED, Action.RUN_CLEAR_ALLOWED)


def _late(trail: Sequence[AuditEntry]) -> Iterator[str]:
    """What was permitted to a claim that was not the run's living one."""
    living: dict[int, int] = {}
    for entry in trail:
        run = entry.data.get("run", 0)
        if entry.action == Action.RUN_CLAIMED:
            living[run] = entry.data["attempt"]
        elif entry.action in _ENDS:
            living.pop(run, None)
        elif entry.action in _PERMITS and living.get(run) != entry.data["attempt"]:
            yield f"{entry.data['period']} {entry.data['unit']}".strip()


def _untold(disk: TaxDisk, trail: Sequence[AuditEntry]) -> Iterator[str]:
    """What happened to the disk's runs and has no entry: every run was queued, every claim began
    and ended (twice, where the machine told of it after its lease), every backup was kept."""
    told = Counter((entry.action, entry.data.get("run")) for entry in trail)
    for run in Run.objects.filter(disk=disk).prefetch_related("attempts", "backups"):
        claims = list(run.attempts.all())
        ended = [claim for claim in claims if claim.ended_at is not None]
        for wanted, actions, what in (
            (1, (Action.RUN_QUEUED,), "排队"),
            (len(claims), (Action.RUN_CLAIMED,), "领取"),
            (len(ended), _ENDS, "领取的结束"),
            (run.backups.count(), (Action.RUN_BACKUP_KEPT,), "备份"),
        ):
            if (seen := sum(told[action, run.pk] for action in actions)) < wanted:
                yield f"办理 {run.pk} {what} {seen}/{wanted}"


def _recorded(action: Action, but: Mapping[str, str] | None = None) -> Counter[int | None]:
    """By disk: how often the trail has it. ``but``: those it is not about."""
    entries = AuditEntry.objects.filter(action=action)
    if but:
        entries = entries.exclude(**but)
    return Counter(entries.values_list("object_id", flat=True))


def _newest_runs() -> list[Run]:
    return list(Run.objects.select_related("disk").order_by("disk_id", "-pk").distinct("disk_id"))
