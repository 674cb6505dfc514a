"""Writing in the clearing layer. Everything runs inside an ``agency_scope``.

``batches``: what people start, cancel, retry and mark; ``walk_in``: the counter. ``claims``,
``grants``, ``facts``, ``ends``: what reader machines ask and tell. ``sweep``: what time brings.
``pauses``, ``holds``, ``parked``: what keeps runs back.
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
from clearing.services.holds import hold, release_hold
from clearing.services.pauses import bureau_pause, bureau_resume
from clearing.services.walk_in import run_start_waiting

__all__ = [
    "BatchStarted",
    "FiledMarked",
    "batch_start",
    "bureau_pause",
    "bureau_resume",
    "enter_by_hand",
    "hold",
    "mark_filed",
    "release_hold",
    "run_cancel",
    "run_retry",
    "run_start_waiting",
    "unmark_filed",
]
