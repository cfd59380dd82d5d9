from collections.abc import Iterator

import pytest

from tests.shell import Shell


@pytest.fixture
def shell() -> Iterator[Shell]:
    with Shell() as made:
        yield made
