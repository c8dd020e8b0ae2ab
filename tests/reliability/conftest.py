"""What the rows of docs/reliability.md are made of; tools/reliability.py writes them."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Callable[..., None]:
    """tally("files", 20): twenty more of the things that this test has tried.

    The first line of a test's docstring is the promise it keeps. The counts of all its parameters
    add up.
    """

    def add(what: str, n: int = 1) -> None:
        request.node.user_properties.append((what, n))

    return add
