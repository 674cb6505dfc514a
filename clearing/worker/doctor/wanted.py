"""The list of wanted versions, and of programs that must not run beside the worker: data.

A version below ``needed`` does not work here; one below ``wanted`` works with the named limit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from devices.protocol.texts import N_

Version = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class WantedVersion:
    """``why``: what the wanted version brings."""

    name: str
    needed: Version
    wanted: Version
    why: str = ""


#: Readers that pcscd and libpcsclite before 2.5 can hold; the rest is dropped without a word.
OLD_READER_LIMIT = 16
PCSCD_WITHOUT_LIMIT: Version = (2, 5)

#: ``pcscd`` is asked itself, ``libccid`` is a Debian package, the others are Python packages.
PCSCD = WantedVersion("pcscd", (1, 9, 0), (1, 9, 9))
LIBCCID = WantedVersion("libccid", (1, 5, 0), (1, 5, 2), N_("支持更多型号的读卡器"))
PYSCARD = WantedVersion("pyscard", (2, 0, 0), (2, 3, 0))
CELERY = WantedVersion("celery", (5, 7, 0), (5, 7, 0))
HTTPX = WantedVersion("httpx", (0, 28), (0, 28))
CRYPTOGRAPHY = WantedVersion("cryptography", (45,), (45,))
LXML = WantedVersion("lxml", (6,), (6,))

#: The vendor's invoicing client holds the disk. Parts of process names, in lower case. The first
#: is seen in public code about 金税盘; "开票软件" is what the vendors call all of theirs, on their
#: shortcuts and windows at least. A real machine may use others: add them here.
INVOICING_CLIENTS: tuple[tuple[str, str], ...] = (
    ("aisino.framework.startup", N_("金税盘版开票软件")),
    ("开票软件", N_("开票软件")),
)


def parsed(text: str) -> Version:
    """The leading numbers of a version, e.g. ``1.9.9-2`` → (1, 9, 9); empty for none."""
    match = re.search(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in match[0].split(".")) if match else ()
