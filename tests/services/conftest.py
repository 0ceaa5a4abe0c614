"""Real servers on loopback, for as long as the tests need them."""

from collections.abc import Iterator

import pytest

from tests.services import opensmtpd, publicinbox, threads


@pytest.fixture(scope='session')
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[publicinbox.PublicInbox]:
    """An archive with every thread of `threads.THREADS`."""
    if publicinbox.MISSING:
        pytest.skip(f'not installed: {", ".join(publicinbox.MISSING)}')
    mails = [raw for thread in threads.THREADS.values() for raw in thread.mails]
    with publicinbox.serving(tmp_path_factory.mktemp('archive'), mails) as served:
        yield served


@pytest.fixture(scope='session')
def _mail_server() -> Iterator[opensmtpd.OpenSmtpd]:
    if reason := opensmtpd.unavailable():
        pytest.skip(reason)
    with opensmtpd.serving() as served:
        yield served


@pytest.fixture
def mail_server(_mail_server: opensmtpd.OpenSmtpd) -> opensmtpd.OpenSmtpd:
    """A real mail server that takes mail for anybody; its maildirs are empty."""
    _mail_server.empty()
    return _mail_server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if 'tests/services/' in str(item.path):
            item.add_marker(pytest.mark.slow)
