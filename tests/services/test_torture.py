"""The crash campaigns, short ones."""

import shutil
from pathlib import Path

import pytest

from tests.services import opensmtpd, publicinbox
from tests.services.postgres import programs
from tests.torture import machines, mails
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


def test_a_mail_goes_once(tmp_path: Path) -> None:
    if publicinbox.MISSING:
        pytest.skip(f'not installed: {", ".join(publicinbox.MISSING)}')
    if reason := opensmtpd.unavailable():
        pytest.skip(reason)
    found = mails.campaign('sqlite', 8, 5, tmp_path, print)
    assert (found.lost, found.twice, found.problems) == (0, 0, ())
    assert found.kills >= 8
    assert found.dialogue >= 4
    assert found.sent > 0


@pytest.mark.parametrize(('backend', 'faults'), [('sqlite', 4), ('postgresql', 6)])
def test_machines_fail_and_the_processes_do_not(backend: str, faults: int, tmp_path: Path) -> None:
    if publicinbox.MISSING:
        pytest.skip(f'not installed: {", ".join(publicinbox.MISSING)}')
    if backend == 'postgresql' and programs() is None:
        pytest.skip('no PostgreSQL: apt install postgresql')
    for program in ('cc', 'openssl', 'public-inbox-purge'):
        if shutil.which(program) is None:
            pytest.skip(f'not installed: {program}')
    found = machines.campaign(backend, faults, 11, tmp_path, print, answers=600)
    assert (found.lost, found.twice, found.stopped, found.problems) == (0, 0, 0, ())
    assert found.faults == faults
    assert found.mails > 0
