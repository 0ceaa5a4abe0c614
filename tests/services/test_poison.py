"""One mail ends nothing: the real watcher over a real archive, on both databases."""

import json
from pathlib import Path

import pytest

from bot.store import Store
from bot.store.database import opened
from tests.conftest import Bot
from tests.lettering import Post, series
from tests.poison import UNREADABLE, poisons
from tests.services import publicinbox
from tests.services.publicinbox import LIST, serving


def config_of(folder: Path, archive: str, url: str, more: str = '') -> Path:
    config = folder / 'config.toml'
    config.write_text(
        f'[lore]\nurl = "{archive}"\nlists = ["{LIST}"]\nsince = "36500d"\nsettle = "1h"\n'
        f'[state]\nurl = "{url}"\ncache = "{folder / "cache"}"\nkeep = "36500d"\n'
        f'[attestation]\ncheck = false\n{more}'
    )
    return config


def watched(bot: Bot, config: Path) -> list[dict[str, object]]:
    """Poll once, and list the series that there are."""
    done = bot('watch', '--once', '--config', config)
    assert done.code == 0, done.err
    said = bot('status', '--json', '--config', config).out
    # An order that was not obeyed is a line, too: it has no title.
    return [row for row in map(json.loads, said.splitlines()) if 'title' in row]


@pytest.mark.skipif(bool(publicinbox.MISSING), reason='no public-inbox')
def test_one_mail_ends_nothing(bot: Bot, tmp_path: Path, database: str) -> None:
    bad = poisons()
    mails: list[Post] = [*series('before', 2)]
    for number, one in enumerate(bad.values()):
        mails += [one, *series(f'good{number}', 1)]
    mails += series('after', 2)
    with serving(tmp_path / 'archive', [one.raw for one in mails[:1]]) as archive:
        # Past the index: public-inbox's own would choke on some.
        archive.write(one.raw for one in mails[1:])
        config = config_of(tmp_path, archive.url, database)
        rows = watched(bot, config)
        titles = {str(row['title']) for row in rows}
        good = {f'mm: good{number} part 1' for number in range(len(bad))}
        assert good | {'mm: before', 'mm: after'} <= titles
        assert {row['state'] for row in rows if row['title'] in good} == {'pending'}

        said = bot('status', '--unread', '--json', '--config', config).out
        unread = {row['msgid']: row['reason'] for row in map(json.loads, said.splitlines())}
        wanted = {bad[name].msgid for name in UNREADABLE if name != 'long message-id'}
        assert wanted <= set(unread)
        assert all(unread.values())
        assert len(unread) < len(bad) / 2  # the others are read as far as they go
        shown = bot('status', '--config', config).out
        assert f'{len(unread)} mails could not be read (bot status --unread' in shown

        # The cursor has moved past all of them: a second start has nothing to do.
        store = Store(opened(database), lambda: 0)
        cursors = store.cursors(LIST)
        store.close()
        assert cursors[0].msgid == mails[-1].msgid
        again = watched(bot, config)
        assert again == rows
