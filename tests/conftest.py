import shutil
from collections.abc import Iterator

import pytest

from tests.shell import Shell


@pytest.fixture
def shell() -> Iterator[Shell]:
    with Shell() as made:
        yield made


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without Node.js there is no server from npm: those tests are left out, and one line says so."""
    if shutil.which("npx"):
        return
    of_node = [item for item in items if item.get_closest_marker("node")]
    config.hook.pytest_deselected(items=of_node)
    items[:] = [item for item in items if item not in of_node]
    config.get_terminal_writer().line(f"npx is not there: {len(of_node)} tests of servers from npm are left out")
