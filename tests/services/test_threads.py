"""What is made of each thread: by us, and by b4 alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bot.b4 import B4
from bot.lore import Archive
from bot.model import ChildLimits, Incomplete, Lore, Series
from bot.series import parse_mail, split
from bot.sources import Finder, Found
from tests.services.publicinbox import PublicInbox
from tests.services.threads import AUTHOR, THREADS, diff

CORPUS = Path(__file__).parent.parent.parent.parent / 'shared' / 'corpus'


def find(archive: PublicInbox, msgid: str, revision: int | None = None) -> Found:
    finder = Finder(Archive(Lore((archive.url,))), B4(ChildLimits(time=10)), revision=revision)
    return finder.find(msgid, [])


@pytest.mark.parametrize('name', THREADS)
def test_the_series_of_a_thread(archive: PublicInbox, name: str) -> None:
    thread = THREADS[name]
    series = find(archive, thread.ask).series
    if thread.reason is not None:
        assert isinstance(series, Incomplete)
        assert series.reason.startswith(thread.reason)
        return
    assert isinstance(series, Series), series
    assert series.revision == thread.revision
    assert [patch.msgid for patch in series.patches] == thread.patches
    assert [patch.n for patch in series.patches] == list(range(1, len(thread.patches) + 1))
    for n, trailers in thread.trailers.items():
        assert list(series.patches[n - 1].trailers) == trailers
    for patch in series.patches:
        assert patch.diff.startswith(b'diff --git ')
        assert b'\r' not in patch.diff


@pytest.mark.parametrize('name', [name for name, one in THREADS.items() if one.b4_differs is None])
def test_b4_alone_chooses_the_same(archive: PublicInbox, tmp_path: Path, name: str) -> None:
    thread = THREADS[name]
    config = tmp_path / 'gitconfig'
    config.write_text(
        f'[b4]\n\tmidmask = {archive.url}/linux-mm/%s\n\tlinkmask = {archive.url}/linux-mm/%s\n'
    )
    result = subprocess.run(
        [sys.executable, '-m', 'b4.command', 'am', '--no-cover', '-o', '-', thread.ask],
        capture_output=True, check=False, timeout=60, cwd=tmp_path,
        env={**os.environ, 'GIT_CONFIG_GLOBAL': str(config), 'HOME': str(tmp_path),
             'XDG_DATA_HOME': str(tmp_path), 'XDG_CACHE_HOME': str(tmp_path), 'no_proxy': '*'},
    )  # fmt: skip
    chosen = [parse_mail(raw).msgid for raw in split(result.stdout)]
    ours = find(archive, thread.ask).series
    assert [patch.msgid for patch in ours.patches] == chosen, result.stderr.decode()


def test_that_the_answers_do_not_count_is_said(archive: PublicInbox) -> None:
    for msgid in ('lop@example.org', 'lop-a@example.org'):  # as the patch, and as an answer to it
        found = find(archive, msgid).series
        assert isinstance(found, Series)
        assert found.remarks == (
            (
                'b4 does not come to an end with this thread (10 s): its answers are left out, '
                'and their trailers do not count'
            ),
        )
        assert found.patches[0].trailers == (f'Signed-off-by: {AUTHOR}',)


def test_details_of_what_is_found(archive: PublicInbox) -> None:
    found = find(archive, 'lat@example.org').series
    assert isinstance(found, Series)
    assert found.author.name == 'Jörg Müller'
    found = find(archive, 'htm-0@example.org').series
    assert isinstance(found, Series)
    assert found.subject == 'mm: htm'
    found = find(archive, 'chg-1@example.org').series
    assert isinstance(found, Series)
    assert found.base_commit == 'a' * 40
    found = find(archive, 'b64@example.org').series
    assert isinstance(found, Series)
    assert found.patches[0].diff == diff('b64').encode()


def test_a_revision_can_be_named(archive: PublicInbox) -> None:
    thread = 'one-v1-0@example.org'
    first = find(archive, thread, revision=1).series
    assert isinstance(first, Series)
    assert [patch.msgid for patch in first.patches] == [
        'one-v1-1@example.org',
        'one-v1-2@example.org',
    ]
    third = find(archive, thread, revision=3).series
    assert isinstance(third, Incomplete)
    assert third.reason == 'there is no v3 in this thread'


@pytest.mark.parametrize(
    'form',
    [
        '{id}',
        '<{id}>',
        '{url}/linux-mm/{id}/',
        '{url}/linux-mm/{id}/T/#u',
        '{url}/r/{id}',
        '{url}/all/{id}/raw',
    ],
)
def test_every_way_to_name_a_message(archive: PublicInbox, form: str) -> None:
    found = find(archive, form.format(id='one@example.org', url=archive.url)).series
    assert isinstance(found, Series)
    assert found.subject == 'mm: single'


def test_replies_do_not_become_patches_and_authors_keep_their_trailers(
    archive: PublicInbox,
) -> None:
    found = find(archive, 'dif-0@example.org').series
    assert isinstance(found, Series)
    assert all(patch.trailers == (f'Signed-off-by: {AUTHOR}',) for patch in found.patches)


@pytest.mark.skipif(not CORPUS.exists(), reason='no corpus beside the project')
def test_the_seed_series_from_one_message_id(tmp_path: Path) -> None:
    from tests.services.publicinbox import serving

    mails = [
        raw
        for name in ('seed-v4.mbox', 'seed-v4-replies.mbox')
        for raw in split((CORPUS / name).read_bytes())
    ]
    msgid = '24aac3019dd34740e788d169fccbe3c62781e648.1774045440.git.ljs@kernel.org'
    with serving(tmp_path / 'archive', mails) as served:
        series = find(served, msgid).series
    assert isinstance(series, Series)
    assert (series.revision, len(series.patches)) == (4, 21)
    assert series.patches[16].msgid == msgid
    assert any(trailer.startswith('Acked-by: ') for trailer in series.patches[16].trailers)
