"""Run tests/reliability, the long tests too, and put what was tried into docs/reliability.md.

python tools/reliability.py            # all rows, for hours
python tools/reliability.py -k files   # pytest's options: those rows, the others stay as they are
python tools/reliability.py --quick    # without the long tests

A row is written when all cases of its test have run, so --quick writes those that have no long one.
"""

from __future__ import annotations

import datetime
import inspect
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

PAGE = Path("docs/reliability.md")
BEGIN, END = "<!-- table of tools/reliability.py -->", "<!-- end of the table -->"
HEADER = [["Promise", "Test", "Tried", "Cases", "Seconds", "Last run"], ["---"] * 6]


@dataclass
class Row:
    """What the cases of one test function came to."""

    promise: str
    cases: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    tried: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def is_whole(self) -> bool:
        """Whether all cases have run."""
        return self.outcomes.total() >= self.cases

    def cells(self, test: str) -> list[str]:
        tried = ", ".join(f"{n:,} {what}" for what, n in self.tried.items())
        outcomes = ", ".join(f"{n:,} {outcome}" for outcome, n in self.outcomes.items())
        today = datetime.date.today().isoformat()
        return [self.promise, f"`{test}`", tried, outcomes, f"{self.seconds:.0f}", today]


class Rows:
    """A pytest plugin that collects them, by test function in the order they were collected."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}

    @pytest.hookimpl(tryfirst=True)  # before pytest leaves out what -k and -m do
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            function = getattr(item, "function", None)
            promise = (inspect.getdoc(function) or "").partition("\n\n")[0].replace("\n", " ")
            row = self.rows.setdefault(self.name(item.nodeid), Row(promise.rstrip(".")))
            row.cases += 1

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        row = self.rows[self.name(report.nodeid)]
        row.seconds += report.duration
        if report.when == "call" or report.outcome != "passed":
            row.outcomes[report.outcome] += 1
        if report.when == "teardown":
            row.tried.update(dict(counted(report.user_properties)))

    @staticmethod
    def name(nodeid: str) -> str:
        return nodeid.partition("[")[0].removeprefix("tests/reliability/")


def counted(properties: list[tuple[str, object]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for what, n in properties:
        total[what] += int(str(n))
    return total


def parse(text: str) -> dict[str, list[str]]:
    """The cells of every row of a table, by test."""
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {cells[1].strip("`"): cells for cells in rows if len(cells) == len(HEADER[0])}


def table(rows: dict[str, Row], before: dict[str, list[str]]) -> Iterator[str]:
    """The lines: rows that have run, else as they were before."""
    lines = HEADER.copy()
    for test, row in rows.items():
        if row.is_whole:
            lines.append(row.cells(test))
        elif test in before:
            lines.append(before[test])
    return (f"| {' | '.join(cells)} |" for cells in lines)


def main(options: list[str]) -> int:
    head, begin, rest = PAGE.read_text().partition(BEGIN)
    old, end, tail = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{PAGE} lacks the lines {BEGIN} and {END}")
    is_quick = "--quick" in options
    which = "not long" if is_quick else "long or not long"
    options = [option for option in options if option != "--quick"]
    plugin = Rows()
    code = pytest.main(["-q", "-m", which, "tests/reliability", *options], plugins=[plugin])
    if code in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):  # else not all was collected
        text = "\n".join(table(plugin.rows, parse(old)))
        PAGE.write_text(f"{head}{BEGIN}\n{text}\n{END}{tail}")
    return int(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
