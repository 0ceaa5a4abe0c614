"""A small `mails-in` campaign (`make torture CAMPAIGN=mails-in` runs the large one)."""

from pathlib import Path

import pytest

from tests.services import opensmtpd, publicinbox
from tests.services.postgres import programs
from tests.torture import mailsin


@pytest.mark.parametrize('backend', ['sqlite', 'postgresql'])
def test_fuzzed_mails_stop_nothing(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if publicinbox.MISSING or opensmtpd.unavailable():
        pytest.skip('no public-inbox, or no OpenSMTPD')
    if backend == 'postgresql' and programs() is None:
        pytest.skip('no PostgreSQL')
    monkeypatch.setenv('MAILS', '400')
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    came = mailsin.campaign(backend, 0, 20261128, tmp_path, print)
    assert came.good, str(came)
    assert came.unread
    assert came.judged
