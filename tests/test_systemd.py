"""The units: well-formed, as closed as is said, and each with the privileges of its part alone."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
UNITS = ROOT / 'systemd'
SERVICES = ('watch', 'work@', 'send', 'sync')
ANALYZE = shutil.which('systemd-analyze')
needs_systemd = pytest.mark.skipif(
    ANALYZE is None, reason='no systemd-analyze: apt install systemd'
)
# Older ones ignore the key and say so (systemd 252, Debian 12); the bot then watches the builds.
NEWER = re.compile(r".*Unknown key (name )?'DelegateSubgroup' in section .*")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The units, with programs that are there for those that a package brings."""
    for path in UNITS.glob('vma-bot*'):
        text = path.read_text().replace('ExecStart=/usr/bin/bot', 'ExecStart=/bin/true')
        (tmp_path / path.name).write_text(text)
    return tmp_path


def analyze(*words: object) -> str:
    assert ANALYZE is not None
    done = subprocess.run(
        [ANALYZE, '--no-pager', *map(str, words)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def settings(name: str) -> dict[str, list[str]]:
    """What a unit says, key by key."""
    found: dict[str, list[str]] = {}
    for line in (UNITS / name).read_text().splitlines():
        key, equals, value = line.partition('=')
        if equals and not line.startswith('#'):
            found.setdefault(key, []).append(value)
    return found


@needs_systemd
@pytest.mark.parametrize(
    'unit',
    ['vma-bot-watch.service', 'vma-bot-work@1.service', 'vma-bot-send.service',
     'vma-bot-sync.service', 'vma-bot-sync.timer', 'vma-bot.target'],
)  # fmt: skip
def test_systemd_has_nothing_to_complain_of(unit: str, folder: Path) -> None:
    said = analyze('--man=no', 'verify', folder / unit).splitlines()
    assert [line for line in said if not NEWER.fullmatch(line)] == []


def exposure(folder: Path, service: str) -> float:
    said = analyze('security', '--offline=true', folder / f'vma-bot-{service}.service')
    found = re.search(r'Overall exposure level for \S+: ([0-9.]+)', said)
    assert found is not None, said
    return float(found[1])


@needs_systemd
@pytest.mark.parametrize(
    ('service', 'most'), [('watch', 2.0), ('send', 2.0), ('sync', 2.0), ('work@', 2.5)]
)  # fmt: skip
def test_no_more_is_open_than_must_be(service: str, most: float, folder: Path) -> None:
    assert exposure(folder, service) <= most


@needs_systemd
def test_no_more_is_open_than_must_be_for_a_database_on_tcp(folder: Path) -> None:
    alone = exposure(folder, 'work@')
    (folder / 'vma-bot-work@.service.d').mkdir()
    shutil.copy(UNITS / 'database-tcp.conf', folder / 'vma-bot-work@.service.d')
    assert alone < exposure(folder, 'work@') <= 3.2


def test_each_has_the_privileges_of_its_part() -> None:
    watch, work, send, sync = (settings(f'vma-bot-{one}.service') for one in SERVICES)
    assert len({one['User'][0] for one in (watch, work, send)}) == 3
    assert {one['Group'][0] for one in (watch, work, send, sync)} == {'vma-bot'}
    # The network is watch's and send's; credentials are send's; namespaces (a cage) are work's.
    assert [one['PrivateNetwork'] for one in (watch, work, send)] == [['no'], ['yes'], ['no']]
    assert work['RestrictAddressFamilies'] == ['AF_UNIX AF_NETLINK']
    assert work['IPAddressDeny'] == ['any']
    assert ['LoadCredential' in one for one in (watch, work, send, sync)] == [
        False,
        False,
        True,
        False,
    ]
    assert [one['RestrictNamespaces'] for one in (watch, work, send)] == [['yes'], ['no'], ['yes']]
    for one in (watch, work, send, sync):
        assert one['CapabilityBoundingSet'] == ['']
        assert one['NoNewPrivileges'] == ['yes']
        assert one['ProtectSystem'] == ['strict']


def test_what_is_open_says_why() -> None:
    """A directive that leaves something open stands below a comment that begins with "Open"."""
    for service in SERVICES:
        reason = ''
        for line in (UNITS / f'vma-bot-{service}.service').read_text().splitlines():
            if line.startswith('#'):
                reason = line if line.startswith('# Open') or not reason else reason
            elif not line:
                reason = ''
            elif re.fullmatch(r'\w+=no|ProcSubset=all|Delegate=.+|UMask=00[02].', line):
                assert reason.startswith('# Open'), f'{service}: {line}'


@pytest.mark.skipif(shutil.which('systemd-sysusers') is None, reason='no systemd-sysusers')
@pytest.mark.skipif(os.geteuid() != 0, reason='needs root')
def test_users_and_folders_are_made(tmp_path: Path) -> None:
    for name in ('etc', 'run', 'var/lib'):
        (tmp_path / name).mkdir(parents=True)
    for words in (
        ['systemd-sysusers', f'--root={tmp_path}', str(UNITS / 'vma-review-bot.sysusers')],
        ['systemd-tmpfiles', '--create', f'--root={tmp_path}',
         str(UNITS / 'vma-review-bot.tmpfiles')],
    ):  # fmt: skip
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert 'not a valid' not in done.stderr
    users = [line.split(':') for line in (tmp_path / 'etc/passwd').read_text().splitlines()]
    assert [user[0] for user in users] == ['vma-bot-watch', 'vma-bot-work', 'vma-bot-send']
    group = (tmp_path / 'etc/group').read_text().split(':')
    assert {user[3] for user in users} == {group[2]}
    state = tmp_path / 'var/lib/vma-review-bot'
    made = {path.name: (path.stat().st_mode & 0o7777, path.stat().st_gid)
            for path in (state, state / 'state.db', state / 'trees')}  # fmt: skip
    number = int(group[2])
    assert made == {
        'vma-review-bot': (0o2770, number),
        'state.db': (0o660, number),
        'trees': (0o755, number),
    }
