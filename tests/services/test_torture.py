"""The crash campaign, a short one."""

from pathlib import Path

import pytest

from tests.services import publicinbox
from tests.services.postgres import programs
from tests.torture.campaign import campaign


@pytest.mark.parametrize('backend', ['sqlite', 'postgresql'])
def test_nothing_is_lost_and_nothing_done_twice(backend: str, tmp_path: Path) -> None:
    if publicinbox.MISSING:
        pytest.skip(f'not installed: {", ".join(publicinbox.MISSING)}')
    if backend == 'postgresql' and programs() is None:
        pytest.skip('no PostgreSQL: apt install postgresql')
    found = campaign(backend, 5, 7, tmp_path, print)
    assert (found.kills, found.lost, found.twice, found.problems) == (5, 0, 0, ())
    assert found.series >= 4
