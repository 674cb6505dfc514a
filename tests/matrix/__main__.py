"""``python -m tests.matrix``: the table, line by line, and how many questions it is."""

from __future__ import annotations

from tests.matrix.rights import MACHINES, OPERATORS, PEOPLE, ROWS, answer_for, size


def main() -> None:
    """Print what the hand-written table expects; asks nobody."""
    for row in ROWS:
        more = OPERATORS if row.for_operators else ()
        answers = [f"{who} {answer_for(row, who)}" for who in ("nobody", *PEOPLE, *MACHINES, *more)]
        print(f"{row!s:28} {row.right:22}", ", ".join(answers))
    print(size())


main()
