"""Run tests/reliability, the long tests too, and put what was tried into docs/reliability.md.

python tools/reliability.py            # all rows
python tools/reliability.py -k files   # pytest's options; prints, writes nothing
"""

from __future__ import annotations

import inspect
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

PAGE = Path("docs/reliability.md")
BEGIN, END = "<!-- table of tools/reliability.py -->", "<!-- end of the table -->"


@dataclass
class Row:
    """What the cases of one test function came to."""

    promise: str
    outcomes: Counter[str] = field(default_factory=Counter)
    tried: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def cells(self, test: str) -> list[str]:
        tried = ", ".join(f"{n:,} {what}" for what, n in self.tried.items())
        outcomes = ", ".join(f"{n:,} {outcome}" for outcome, n in self.outcomes.items())
        return [self.promise, f"`{test}`", tried, outcomes, f"{self.seconds:.0f}"]


class Rows:
    """A pytest plugin that collects them, by test function in the order they were run."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            function = getattr(item, "function", None)
            promise = (inspect.getdoc(function) or "").partition("\n\n")[0].replace("\n", " ")
            self.rows[self.name(item.nodeid)] = Row(promise.rstrip("."))

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


def table(rows: dict[str, Row]) -> str:
    lines = [["Promise", "Test", "Tried", "Cases", "Seconds"], ["---"] * 5]
    lines += [row.cells(test) for test, row in rows.items()]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def main(options: list[str]) -> int:
    plugin = Rows()
    is_quick = options == ["--quick"]
    which, options = ("not long", []) if is_quick else ("long or not long", options)
    code = pytest.main(["-q", "-m", which, "tests/reliability", *options], plugins=[plugin])
    text = f"{'The quick rows' if is_quick else 'All rows'}, as last run:\n\n{table(plugin.rows)}"
    print(text)
    if not options:
        head, begin, rest = PAGE.read_text().partition(BEGIN)
        _, end, tail = rest.partition(END)
        if not (begin and end):
            raise ValueError(f"{PAGE} lacks the lines {BEGIN} and {END}")
        PAGE.write_text(f"{head}{BEGIN}\n{text}\n{END}{tail}")
    return int(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
