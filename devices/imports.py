"""Importing clients and disks from an agency's own sheet: upload, preview, confirm.

The uploaded file is not kept. What was read lies sealed in an :class:`ImportDraft`, which only its
creator can open, until it is confirmed, cancelled or a day old. Nothing is written before the
confirmation, and then all of it or nothing. Everything runs inside an ``agency_scope``.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils.translation import gettext as _
from openpyxl.utils import get_column_letter

from agency.choices import Role
from agency.errors import ServiceError
from agency.models import Agency, Assignment, Bureau, Company, Membership
from agency.sealing import SealError, open_sealed, seal
from devices.import_plan import plan_import
from devices.import_types import Known, Plan, PlannedRow, RowStatus
from devices.import_write import CHUNK, ImportResult, reserve_ids, write_plan
from devices.models import ImportDraft, SheetMapping, TaxDisk
from devices.services import disk_passwords
from devices.sheet_columns import BY_KEY, COLUMNS, CellError, parse_cell, recognise
from devices.sheets import Row, Sheet, clean, read_sheet

DRAFT_AGE = dt.timedelta(days=1)
SYSTEM_USER_ID = 0  # a command imports; no person's limits apply
HIDDEN = "●●●"
_BOOKKEEPING = (Role.OWNER, Role.SUPERVISOR, Role.BOOKKEEPER)


@dataclass(frozen=True, slots=True)
class PreviewColumn:
    """A heading of the sheet and the column it is taken for (``key`` "" = not imported).

    ``sample``: a text from below it; none for secret columns, nor for ignored ones, which may be
    secret too."""

    index: int
    heading: str
    letter: str
    key: str
    remembered: bool
    used: bool
    sample: str


@dataclass(frozen=True, slots=True)
class Preview:
    """What the sheet would do. ``missing`` and ``problems`` concern the headings: while there are
    any, no row is looked at."""

    file_name: str
    title: str
    header_row: int
    columns: list[PreviewColumn]
    missing: list[str]
    problems: list[str]
    plan: Plan = field(repr=False)
    _rows: Mapping[int, Row] = field(repr=False)

    @property
    def rows(self) -> list[PlannedRow]:
        """Wrong rows first, then what changes, then the rest; each in the sheet's order."""
        order = [RowStatus.ERROR, RowStatus.NEW, RowStatus.UPDATE, RowStatus.SAME]
        return sorted(self.plan.rows, key=lambda row: order.index(row.status))

    @property
    def counts(self) -> dict[str, int]:
        found = Counter(row.status for row in self.plan.rows)
        return {str(status): found[status] for status in RowStatus}

    @property
    def confirmable(self) -> bool:
        wrong = self.missing or self.problems or self.counts[RowStatus.ERROR]
        return not wrong and bool(self.plan.rows)

    @property
    def mapping(self) -> dict[int, str]:
        return {column.index: column.key for column in self.columns}

    def shown(self, row: PlannedRow) -> list[str]:
        """The row's texts for the page, in the order of :attr:`shown_columns`."""
        source = self._rows[row.number]
        return [
            HIDDEN if BY_KEY[c.key].secret and source.text(c.index) else source.text(c.index)
            for c in self.shown_columns
        ]

    @property
    def shown_columns(self) -> list[PreviewColumn]:
        """Those that are imported and have anything in them."""
        return [column for column in self.columns if column.key and column.used]


class ImportRefused(ServiceError):
    """A confirmation that was not carried out; nothing was written."""


@transaction.atomic
def draft_from_upload(
    *, agency_id: int, user_id: int, file_name: str, data: bytes, now: dt.datetime
) -> ImportDraft:
    """Read the file and keep its rows, sealed. Raises SheetError.

    Also removes the agency's drafts that nobody came back to."""
    sheet = read_sheet(data, file_name, _remembered())
    ImportDraft.objects.filter(created_at__lt=now - DRAFT_AGE).delete()
    draft = ImportDraft(
        pk=reserve_ids(ImportDraft, 1)[0],
        agency_id=agency_id,
        created_by=user_id,
        created_at=now,
        file_name=clean(file_name)[:120],
    )
    draft.content = seal(sheet.pack(), context=draft.seal_context)
    draft.save(force_insert=True)
    return draft


def draft_find(draft_id: int, *, user_id: int, now: dt.datetime) -> ImportDraft | None:
    """The person's own draft; None when it is another's, too old, or gone."""
    return ImportDraft.objects.filter(
        pk=draft_id, created_by=user_id, created_at__gte=now - DRAFT_AGE
    ).first()


def draft_discard(draft: ImportDraft) -> None:
    """Forget what was read."""
    ImportDraft.objects.filter(pk=draft.pk).delete()


def preview(draft: ImportDraft, mapping: Mapping[int, str] | None = None) -> Preview:
    """What confirming would do. ``mapping``: column key by index; None takes what is recognised and
    remembered."""
    return _preview(draft, mapping, lock=False)


def confirm(
    draft: ImportDraft, mapping: Mapping[int, str] | None = None, *, now: dt.datetime
) -> ImportResult:
    """Import, all or nothing, and remember the mapping. Raises ImportRefused."""
    try:
        with transaction.atomic():
            if not ImportDraft.objects.select_for_update().filter(pk=draft.pk).exists():
                raise ImportRefused(_("这份表格已经导入或取消了。"))
            found = _preview(draft, mapping, lock=True)
            if not found.confirmable:
                raise ImportRefused(_("表格还有错误，没有导入任何数据。请改正后重新上传。"))
            result = write_plan(
                found.plan, agency_id=draft.agency_id, file_name=draft.file_name, now=now
            )
            _remember(draft.agency_id, found)
            draft_discard(draft)
            return result
    except IntegrityError:
        # Someone else added the same tax id or device number since the plan was made.
        raise ImportRefused(
            _("刚刚有人改动了同样的客户或税盘，没有导入任何数据。请核对后再确认一次。")
        ) from None


def _preview(draft: ImportDraft, mapping: Mapping[int, str] | None, *, lock: bool) -> Preview:
    sheet = Sheet.unpack(open_sealed(bytes(draft.content), context=draft.seal_context))
    remembered = _remembered()
    if mapping is None:
        mapping = recognise(sheet.headings, remembered)
    keys = [_valid_key(mapping.get(index, "")) for index in range(len(sheet.headings))]
    columns = [
        PreviewColumn(
            index=index,
            heading=heading,
            letter=get_column_letter(index + 1),
            key=keys[index],
            remembered=remembered.get(heading) == keys[index],
            used=any(row.text(index) or index in row.troubles for row in sheet.rows),
            sample=_sample(sheet, index, keys[index]),
        )
        for index, heading in enumerate(sheet.headings)
    ]
    missing = [str(c.label) for c in COLUMNS if c.required and c.key not in keys]
    problems = [
        _("有两列都选作“%(name)s”，请只留一列") % {"name": BY_KEY[key].label}
        for key, count in Counter(filter(None, keys)).items()
        if count > 1
    ]
    plan = Plan([], [], [])
    if not missing and not problems:
        chosen = dict(enumerate(keys))
        plan = plan_import(sheet.rows, chosen, _known(draft, sheet.rows, chosen, lock=lock))
        if not plan.rows:
            problems.append(_("表头下面没有可导入的行。"))
    return Preview(
        draft.file_name,
        sheet.title,
        sheet.header_row,
        columns,
        missing,
        problems,
        plan,
        {row.number: row for row in sheet.rows},
    )


def _valid_key(key: str) -> str:
    return key if key in BY_KEY else ""


def _sample(sheet: Sheet, index: int, key: str) -> str:
    if not key or BY_KEY[key].secret:
        return ""
    return next((text for row in sheet.rows[:50] if (text := row.text(index))), "")


def _known(
    draft: ImportDraft, rows: Iterable[Row], mapping: Mapping[int, str], *, lock: bool
) -> Known:
    """What the database has on the companies and disks of the sheet, in a fixed number of queries.

    ``lock``: hold the disks, so that no PIN is delivered between reading and writing."""
    rows = list(rows)
    tax_ids = _mentioned(rows, mapping, "tax_id")
    numbers = _mentioned(rows, mapping, "device_no")
    disks = (
        TaxDisk.objects.filter(Q(company__tax_id__in=tax_ids) | Q(device_no__in=numbers))
        .defer("control")
        .order_by("pk")
    )
    if lock:
        disks = disks.select_for_update(of=("self",), no_key=True)
    bureaus = Bureau.objects.order_by("pk")
    if not Agency.objects.filter(pk=draft.agency_id, practice=True).exists():
        bureaus = bureaus.filter(simulated=False)
    importer = Membership.objects.filter(user_id=draft.created_by).first()
    return Known(
        disks=tuple(disks),
        companies={
            company.tax_id: company
            for company in Company.objects.select_related("bureau").filter(tax_id__in=tax_ids)
        },
        members=tuple(Membership.objects.filter(active=True, role__in=_BOOKKEEPING)),
        bureaus=tuple(bureaus),
        assigned=frozenset(
            Assignment.objects.filter(company__tax_id__in=tax_ids).values_list(
                "company_id", "membership_id"
            )
        ),
        passwords=_passwords,
        only_for=importer if importer is not None and importer.role == Role.BOOKKEEPER else None,
    )


def _mentioned(rows: Iterable[Row], mapping: Mapping[int, str], key: str) -> set[str]:
    found = set()
    for index in [index for index, name in mapping.items() if name == key]:
        for row in rows:
            try:
                found.add(parse_cell(key, row.text(index)))
            except CellError:
                continue  # reported with its row
    return found


def _passwords(disk: TaxDisk) -> tuple[str, str]:
    try:
        return disk_passwords(disk)
    except SealError:
        return ("", "")  # sealed with a lost key: whatever the sheet says is new


def _remembered() -> dict[str, str]:
    return dict(SheetMapping.objects.values_list("heading", "column"))


def _remember(agency_id: int, found: Preview) -> None:
    """Keep what each heading meant. "Not imported" is kept only where we would have chosen
    otherwise: a heading that lost its column to a better one may be the only one next time."""
    headings = [column.heading for column in found.columns]
    ours = recognise(headings, {})
    occurrences = Counter(headings)
    SheetMapping.objects.bulk_create(
        [
            SheetMapping(agency_id=agency_id, heading=column.heading, column=column.key)
            for column in found.columns
            if 0 < len(column.heading) <= 80
            and occurrences[column.heading] == 1
            and (column.key or ours[column.index])
        ],
        batch_size=CHUNK,
        update_conflicts=True,
        unique_fields=["agency", "heading"],
        update_fields=["column"],
    )
