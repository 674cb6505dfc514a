"""``python -m tests.matrix``: the table, line by line, and how many questions it is."""

from __future__ import annotations

from tests.matrix.rights import MACHINES, METHODS, PEOPLE, ROWS, answer_for, size


def main() -> None:
    """Print what the hand-written table expects; asks nobody."""
    for row in ROWS:
        answers = [f"{who} {answer_for(row, who)}" for who in ("nobody", *PEOPLE, *MACHINES)]
        print(f"{row!s:28} {row.right:22}", ", ".join(answers))
    addresses = len({row.route for row in ROWS})
    askers = 1 + 2 * len(PEOPLE + MACHINES)
    print(f"{addresses} addresses x {len(METHODS)} methods x {askers} askers: {size()} questions")


main()
