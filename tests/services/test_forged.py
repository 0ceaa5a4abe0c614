"""
What strangers write in other people's names, against the bot as it runs.

A real archive, the installed program, real signatures (RSA and ed25519), and a
name server on loopback: nothing is played but the people.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.attesting import records, signed, tampered
from tests.conftest import Bot
from tests.lettering import post, series
from tests.services import names, publicinbox
from tests.services.publicinbox import PublicInbox

DEV = 'dev@example.org'
RE = 'Re: [PATCH] mm: a part 1'
OPT_OUT = 'vma-bot: opt-out\n'
FAKE = (
    'DKIM-Signature: v=1; a=rsa-sha256; d={}; s={}; h=from:subject:date:in-reply-to;\n'
    '\tbh=eA==; b=eA==\n'
)


@dataclass
class Town:
    """An archive, name servers, and the bot that asks both."""

    archive: PublicInbox
    names: names.NameServer
    bot: Bot
    config: Path

    def post(self, *raws: bytes) -> None:
        """The list has new mails, and the bot has polled it."""
        self.archive.add(raws)
        self.watch()

    def watch(self) -> None:
        done = self.bot('watch', '--once', '--config', self.config)
        assert done.code == 0, done.err

    def rows(self) -> list[dict[str, Any]]:
        done = self.bot('status', '--json', '--config', self.config)
        assert done.code == 0, done.err
        return [json.loads(line) for line in done.out.splitlines()]

    def series(self) -> dict[str, str]:
        """The state of each series, by title and revision."""
        return {
            f'{row["title"]} v{row["revision"]}': row['state']
            for row in self.rows()
            if 'title' in row
        }

    def orders(self) -> list[tuple[str, str]]:
        """State and reason of each order that was not obeyed."""
        return sorted((row['state'], row['why']) for row in self.rows() if 'order' in row)


@pytest.fixture
def town(bot: Bot, tmp_path: Path) -> Iterator[Town]:
    if publicinbox.MISSING:
        pytest.skip(f'not installed: {", ".join(publicinbox.MISSING)}')
    if shutil.which('openssl') is None:
        pytest.skip('not installed: openssl')
    first = [signed(one.raw, selector='rsa', algorithm='rsa') for one in series('a', 1)]
    with (
        publicinbox.serving(tmp_path / 'archive', first) as archive,
        names.serving(records()) as served,
    ):
        config = tmp_path / 'config.toml'
        config.write_text(
            f'[lore]\nurl = "{archive.url}"\nsince = "36500d"\n'
            '[scope]\npaths = ["mm/vma*"]\n'
            f'[attestation]\nname_servers = ["{served.address}"]\n'
            f'[state]\nurl = "sqlite:///{tmp_path}/state.db"\n'
        )
        town = Town(archive, served, bot, config)
        town.watch()
        yield town


def order(body: str = OPT_OUT, to: str = 'a.1.1@x', msgid: str = 'o@x') -> bytes:
    return post(msgid, RE, body, to, author=DEV).raw


def test_forged_orders(town: Town) -> None:
    """None counts, each is shown with its reason; the author's own counts, once."""
    town.names.mute.add('slow')
    thanks = signed(order('Thanks.\n', msgid='t@x'), selector='rsa', algorithm='rsa', length=True)
    town.post(
        FAKE.format('example.org', 's' * 64).encode() + order(msgid='1@x'),
        FAKE.format('example.org', 'a..b').encode() + order(msgid='2@x'),
        FAKE.format('slow.example', 's').encode()
        + FAKE.format('example.org', 'sel').encode()
        + order(msgid='3@x'),
        thanks + OPT_OUT.encode(),
        order(msgid='4@x'),
    )
    fit = 'its DKIM signature does not fit: body hash mismatch'
    part = 'its DKIM signature covers only part of the text (l=)'
    lookup = 'its DKIM signature names a key that can not be in DNS'
    none = 'it has no DKIM signature of the domain in its From'
    assert town.orders() == sorted(('held', why) for why in (lookup, lookup, fit, part, none))
    real = signed(order('vma-bot: stop\n'), selector='rsa', algorithm='rsa')
    town.post(*(signed(one.raw) for one in series('b', 1)))
    town.post(
        real,
        real.replace(b'<o@x>', b'<replay@x>'),
        real.replace(b'<o@x>', b'<else@x>').replace(b'<a.1.1@x>', b'<b.1.1@x>'),
    )
    shown = [one for one in town.orders() if one[1] not in (fit, part, lookup, none)]
    assert shown == [
        ('held', 'its DKIM signature does not fit'),
        ('refused', 'the same signed mail was obeyed before, as o@x'),
    ]
    said = town.bot('orders', 'list', '--config', town.config).out
    assert said.startswith('order  state')
    done = town.bot('orders', 'refuse', '1', '--config', town.config)
    assert done.out == 'order 1: refused\n'
    done = town.bot('orders', 'honour', '2', '--config', town.config)
    assert done.out == 'order 2: honoured\n'
    done = town.bot('orders', 'honour', '99', '--config', town.config)
    assert (done.code, done.err) == (
        2, 'bot: there is no order 99 to obey: see bot orders list\n',
    )  # fmt: skip


def test_name_servers_in_trouble(town: Town) -> None:
    """SERVFAIL: the order waits, and so does the series; both go on when there is an answer."""
    town.names.failing.add('example.org')
    town.post(signed(order()), *(signed(one.raw) for one in series('a', 1, 2)))
    assert [one[0] for one in town.orders()] == ['pending']
    assert 'no answer from DNS' in town.orders()[0][1]
    assert town.series() == {'mm: a part 1 v1': 'pending', 'mm: a part 1 v2': 'pending'}


def test_forged_series(town: Town) -> None:
    """A v99 and a machine's copy of it, in the author's name, beside what he signed."""
    copy = b'Auto-Submitted: auto-generated\n' + series('c', 1)[0].raw
    town.post(
        *(one.raw for one in series('a', 1, 99)),
        copy.replace(b'<c.1.1@x>', b'<copy@x>'),
        *(signed(one.raw) for one in series('a', 1, 2)),
        *(signed(one.raw, selector='rsa', algorithm='rsa') for one in series('c', 1)),
    )
    found = town.series()
    assert found['mm: a part 1 v1'] == 'superseded'
    assert found['mm: a part 1 v2'] == 'pending'
    assert found['mm: a part 1 v99'] == 'pending'
    rows = [row for row in town.rows() if row['title'] == 'mm: c part 1']
    assert 'pending' in {row['state'] for row in rows}


def test_a_mail_that_breaks_the_verifier(town: Town) -> None:
    """A key that is none, a signature of the wrong length: the watcher goes on."""
    town.names.records |= {
        'bad._domainkey.example.org.': b'v=DKIM1; k=ed25519; p=\xff!'.decode('latin-1').encode(),
        'none._domainkey.example.org.': b'v=DKIM1; k=rsa; p=AAAA',
    }
    town.post(
        *(
            tampered(signed(order(msgid=f'{name}@x'), selector=name), b'eA==')
            for name in ('sel', 'bad', 'none')
        ),
        b'X-Developer-Signature: v=1; a=ed25519-sha256; i=\xff\xfe; s=x; t=1; h=from:subject;\n'
        b' bh=eA==; b=eA==\n' + order(msgid='p@x'),
    )
    assert [one[0] for one in town.orders()] == ['held'] * 4
