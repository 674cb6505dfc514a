"""Compiles the catalogues of translations: every ``.po`` whose ``.mo`` is missing or older.

``.mo`` files are not kept in git. Run as ``python -m deploy.translations``; needs no gettext
programs. It must not import Django or a settings module: it runs before either works.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def stale(root: Path) -> list[Path]:
    """The ``.po`` files under ``root`` (its own ``locale`` or an app's) that need compiling."""
    found = [*root.glob("locale/*/LC_MESSAGES/*.po"), *root.glob("*/locale/*/LC_MESSAGES/*.po")]
    return sorted(po for po in found if _is_stale(po, po.with_suffix(".mo")))


def compile_catalogue(po: Path) -> None:
    """Write the ``.mo`` beside ``po``; doubtful ("fuzzy") translations are left out.

    Raises ``babel.messages.pofile.PoFileError`` on a file that is not well-formed.
    """
    from babel.messages.mofile import write_mo
    from babel.messages.pofile import read_po

    with po.open("rb") as source:
        catalogue = read_po(source, locale=po.parent.parent.name, abort_invalid=True)
    half_done = po.with_suffix(".mo.new")  # a reader never sees half a file
    with half_done.open("wb") as target:
        write_mo(target, catalogue)
    half_done.replace(po.with_suffix(".mo"))


def _is_stale(po: Path, mo: Path) -> bool:
    return not mo.exists() or mo.stat().st_mtime < po.stat().st_mtime


def main() -> int:
    for po in stale(ROOT):
        compile_catalogue(po)
        print(f"compiled {po.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
