"""What each component kind reports and clears together.

Owns the grouping of domain.md §2: a UKey treats all its types at once, an Aisino disk groups, a
Baiwang disk each type by itself. Types within a unit ascend; units stand in the order they are
worked in.

◇ Types that public sources put into no Aisino group: 028 (电子专票) goes with the electronic ones,
006 (二手车) and anything new stands alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from devices.drivers.contract import Unit
from devices.drivers.dates import Kind
from devices.protocol.failures import Code, Failure

#: 专票 + 普票; 货运; 机动车 + 电子; 卷票.
AISINO_GROUPS: tuple[tuple[str, ...], ...] = (
    ("004", "007"),
    ("009",),
    ("005", "026", "028"),
    ("025",),
)

COMPONENT_KINDS = frozenset({Kind.BAIWANG, Kind.AISINO, Kind.UKEY})


def units_of(kind: Kind, types: Sequence[str]) -> list[Unit]:
    """Group ``types`` as ``kind`` does; each type once. Failure(not_supported) for other kinds."""
    wanted = sorted(set(types))
    match kind:
        case Kind.UKEY:
            return [Unit(tuple(wanted))] if wanted else []
        case Kind.BAIWANG:
            return [Unit((invoice_type,)) for invoice_type in wanted]
        case Kind.AISINO:
            return _aisino(wanted)
    raise Failure(Code.NOT_SUPPORTED, detail=kind.value)


def _aisino(wanted: Sequence[str]) -> list[Unit]:
    grouped = [tuple(t for t in group if t in wanted) for group in AISINO_GROUPS]
    known = {invoice_type for group in AISINO_GROUPS for invoice_type in group}
    alone = [(t,) for t in wanted if t not in known]
    return [Unit(types) for types in (*grouped, *alone) if types]
