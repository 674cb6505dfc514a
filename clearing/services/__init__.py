"""Writing in the clearing layer. Everything runs inside an ``agency_scope``.

``batches``: what people start, cancel, retry and mark; ``walk_in``: the counter. ``claims``,
``grants``, ``facts``, ``ends``: what reader machines ask and tell. ``sweep``: what time brings.
"""

from clearing.services.batches import (
    BatchStarted,
    FiledMarked,
    batch_start,
    enter_by_hand,
    mark_filed,
    run_cancel,
    run_retry,
    unmark_filed,
)
from clearing.services.walk_in import run_start_waiting

__all__ = [
    "BatchStarted",
    "FiledMarked",
    "batch_start",
    "enter_by_hand",
    "mark_filed",
    "run_cancel",
    "run_retry",
    "run_start_waiting",
    "unmark_filed",
]
