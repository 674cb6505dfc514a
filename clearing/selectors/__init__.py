"""Reading in the clearing layer: what the pages show. Nothing here writes.

``standing``: the one definition of the counters. ``board``, ``company``, ``failures``, ``batches``:
a page each, with a number of queries that does not grow with the rows. ``deadlines``: until when.
"""

from clearing.selectors.deadlines import deadline

__all__ = ["deadline"]
