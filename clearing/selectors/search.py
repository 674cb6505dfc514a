"""What a search on the board understands: names, numbers, and the trade's own words.

白盘 is the Aisino disk and 黑盘 the Baiwang one by the colour of their cases; 反写 and 清盘 are
what others call 清卡, 抄税 what they call 抄报. Words are separated by blanks, and all must match.
"""

from __future__ import annotations

from django.db.models import Q, QuerySet

from agency.models import Company
from clearing.selectors.standing import Standing
from devices.choices import DiskKind

KIND_WORDS: dict[str, DiskKind] = {
    "白盘": DiskKind.AISINO,
    "金税盘": DiskKind.AISINO,
    "黑盘": DiskKind.BAIWANG,
    "税控盘": DiskKind.BAIWANG,
    "ukey": DiskKind.UKEY,
    "税务ukey": DiskKind.UKEY,
    "ic卡": DiskKind.IC_CARD,
    "税控ic卡": DiskKind.IC_CARD,
}
STANDING_WORDS: dict[str, Standing] = {
    "反写": Standing.TO_CLEAR,
    "清盘": Standing.TO_CLEAR,
    "清卡": Standing.TO_CLEAR,
    "抄税": Standing.TO_REPORT,
    "抄报": Standing.TO_REPORT,
    "报税": Standing.TO_FILE,
    "申报": Standing.TO_FILE,
} | {str(standing.label): standing for standing in Standing}


def search(
    companies: QuerySet[Company], text: str
) -> tuple[QuerySet[Company], frozenset[Standing]]:
    """The companies that match every word, and the standings that are asked for (none: any)."""
    standings: set[Standing] = set()
    for word in text.split():
        folded = word.casefold()
        if folded in STANDING_WORDS:
            standings.add(STANDING_WORDS[folded])
        elif folded in KIND_WORDS:
            companies = companies.filter(
                pk__in=_with_disk(companies, Q(disks__kind=KIND_WORDS[folded]))
            )
        else:
            disks = _with_disk(companies, Q(disks__device_no__icontains=word))
            companies = companies.filter(
                Q(short_name__icontains=word)
                | Q(name__icontains=word)
                | Q(tax_id__icontains=word)
                | Q(pk__in=disks)
            )
    return companies, frozenset(standings)


def _with_disk(companies: QuerySet[Company], wanted: Q) -> QuerySet[Company, int]:
    return companies.filter(wanted, disks__retired_at__isnull=True).values_list("pk", flat=True)
