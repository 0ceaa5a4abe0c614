"""
The Debian package: what is in it; and, with `make test-deb`, that it installs and its units run.

The second is a Debian of its own with a real systemd (tests/container.py), in
which docs/operate.md is followed to the letter, addresses aside.
"""

import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from bot import __version__
from tests import container
from tests.conftest import Demo
from tests.container import Container
from tests.lettering import post
from tests.services import publicinbox
from tests.services.postgres import Postgres, programs
from tests.services.test_replies import posted
from tests.test_pages import MM, MX, mail_server, steps

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
HOME = './usr/lib/vma-review-bot'
PYTHON = Path('/usr/bin/python3')
# The kernel lets a cage have a /proc only where nothing of it is hidden, as the container does.
UNHIDDEN = "unshare --mount --propagation private sh -c 'umount /proc/sys; {}'"


def build(folder: Path, *words: str) -> Path:
    if shutil.which('dpkg-deb') is None or not PYTHON.exists():
        pytest.skip("no dpkg-deb, or no python3 of Debian's")
    done = subprocess.run(
        ['sh', 'debian/build', sys.executable, str(folder), *words],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (package,) = folder.glob('*.deb')
    return package


def members(package: Path, folder: Path) -> dict[str, tarfile.TarInfo]:
    """What the package puts on a machine, by name."""
    out = folder / 'files.tar'
    with out.open('wb') as file:
        subprocess.run(['dpkg-deb', '--fsys-tarfile', str(package)], check=True, stdout=file)
    with tarfile.open(out) as tar:
        return {member.name: member for member in tar}


@pytest.fixture(scope='module')
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package without the libraries, which a registry would have to give."""
    return build(tmp_path_factory.mktemp('deb') / 'out', '--without-libraries')


def test_what_is_in_it(package: Path, tmp_path: Path) -> None:
    files = members(package, tmp_path)
    names = set(files)
    program = f'{HOME}/lib/python3.{_minor()}/site-packages'
    for name in ('bot/cli.py', 'bot/templates/patch.j2', 'bot/store/migrations/env.py',
                 'bot/demo/tree/mm/vma.c', 'rules/compat_pair.py'):  # fmt: skip
        assert f'{program}/{name}' in names
    assert f'{program}/bot/__pycache__/cli.cpython-3{_minor()}.pyc' in names
    units = {path.name for path in (ROOT / 'systemd').glob('vma-bot*')}
    assert {f'./usr/lib/systemd/system/{unit}' for unit in units} <= names
    for name in ('./etc/vma-review-bot/config.toml', './usr/share/man/man1/bot.1.gz',
                 './usr/lib/sysusers.d/vma-review-bot.conf',
                 './usr/lib/tmpfiles.d/vma-review-bot.conf',
                 './usr/share/bash-completion/completions/bot'):  # fmt: skip
        assert name in names
    assert files['./usr/bin/bot'].linkname == '/usr/lib/vma-review-bot/bin/bot'
    assert files[f'{HOME}/bin/python3'].linkname == '/usr/bin/python3'
    assert {(one.uid, one.gid) for one in files.values()} == {(0, 0)}
    assert [one.name for one in files.values() if not one.issym() and one.mode & 0o7022] == []
    assert [name for name in names if re.match(r'\./(var|run|tmp|home|root)\b', name)] == []


def test_nothing_tells_where_it_was_made(package: Path) -> None:
    root = package.parent / 'root'
    assert (root / HOME / 'bin/bot').read_text().startswith('#!/usr/lib/vma-review-bot/bin/python3')
    for path in root.rglob('*'):
        if path.is_file() and not path.is_symlink():
            assert str(package.parent).encode() not in path.read_bytes(), path
            assert str(ROOT).encode() not in path.read_bytes(), path


def test_what_dpkg_is_told(package: Path) -> None:
    def field(name: str) -> str:
        return subprocess.run(
            ['dpkg-deb', '--field', str(package), name], capture_output=True, text=True, check=True
        ).stdout.strip()

    assert field('Version') == __version__
    assert f'python3 (<< 3.{_minor() + 1})' in field('Depends')
    control = package.parent / 'root/DEBIAN'
    assert (control / 'conffiles').read_text() == '/etc/vma-review-bot/config.toml\n'
    for name in ('postinst', 'prerm', 'postrm'):
        subprocess.run(['sh', '-n', str(control / name)], check=True)


def test_the_installed_configuration_is_the_sample_with_the_services_places(package: Path) -> None:
    sample = (ROOT / 'config.toml').read_text().splitlines()
    installed = (package.parent / 'root/etc/vma-review-bot/config.toml').read_text().splitlines()
    changed = [new for old, new in zip(sample, installed, strict=True) if old != new]
    assert [line.partition(' #')[0] for line in changed] == [
        'url = "sqlite:////var/lib/vma-review-bot/state.db"',
        'stop_file = "/var/lib/vma-review-bot/STOP"',
    ]


def test_the_same_again_is_the_same(package: Path, tmp_path: Path) -> None:
    again = build(tmp_path / 'again', '--without-libraries')
    first, second = (hashlib.sha256(one.read_bytes()).hexdigest() for one in (package, again))
    assert first == second


def _minor() -> int:
    said = subprocess.run(
        [PYTHON, '-c', 'import sys; print(sys.version_info.minor)'],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return int(said)


# --- make test-deb --------------------------------------------------------------


@pytest.fixture(scope='module')
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """A Debian with the package installed, and booted."""
    if reason := container.unavailable():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp('machine')
    package = build(folder / 'out')
    root = folder / 'root'
    container.debian(root)
    with container.booted(root) as booted:
        shutil.copy(package, root / 'srv' / package.name)
        booted.run('apt-get -q update')
        booted.run(f'apt-get -q install -y --no-install-recommends /srv/{package.name} ccache')
        yield booted
    shutil.rmtree(folder)  # half a gigabyte


@pytest.mark.deb
def test_it_installs_and_starts_nothing(machine: Container) -> None:
    assert machine.run('bot --version') == f'bot, version {__version__}\n'
    assert machine.run('vma-bot --version') == f'bot, version {__version__}\n'
    listed = machine.run('systemctl list-unit-files --no-legend vma-bot.target vma-bot-sync.timer')
    assert [line.split()[1] for line in listed.splitlines()] == ['disabled', 'disabled']
    assert machine.run('systemctl list-units --no-legend "vma-bot*"') == ''
    assert machine.run('stat -c "%U %G %a" /var/lib/vma-review-bot') == 'root vma-bot 2770\n'


@pytest.mark.deb
def test_the_demo_is_checked(machine: Container) -> None:
    machine.run('cd /srv && /usr/lib/vma-review-bot/bin/python3 -P -m bot.demo demo')
    check = 'cd /srv; bot check --tree demo/linux.git demo/series.mbox'
    said = machine.run(UNHIDDEN.format(check), check=False)
    assert said.endswith('3 errors, 3 warnings\n')
    assert 'vma  base  5 tests passed' in said


@pytest.mark.deb
def test_the_page_followed_to_the_letter(machine: Container, sample: Demo, tmp_path: Path) -> None:
    if publicinbox.MISSING:
        pytest.skip(f'not installed: {", ".join(publicinbox.MISSING)}')
    tree = machine.root / 'srv/mm.git'
    shutil.copytree(sample.tree, tree)
    for name in ('mm-unstable', 'mm-stable'):
        subprocess.run(['git', '-C', str(tree), 'branch', name], check=True)
    machine.run('chown -R vma-bot-watch /srv/mm.git')  # git reads nobody else's
    said = ''
    with (
        publicinbox.serving(tmp_path / 'archive', [post('old@x', 'hello', 'x\n').raw]) as archive,
        mail_server(machine.root / 'srv/tls') as (_, address),
    ):
        address = address.replace(str(machine.root), '')
        for step in steps():
            text = step.text.replace(MM, '/srv/mm.git').replace(MX, address)
            text = text.replace('https://lore.kernel.org', archive.url)
            if step.language == 'toml':
                (machine.root / step.what.lstrip('/')).write_text(text)
                continue
            if step.what == 'a series arrives':
                machine.wait_for('bot status', 'nothing yet')
                archive.add(posted(sample))
                machine.run('systemctl restart vma-bot-watch')  # instead of two minutes
                machine.wait_for('bot outbox list', 'held')
            if 'bot doctor' in text:
                text = UNHIDDEN.format(text.strip())
            said += machine.run(f'set -e\n{text}')
        for unit in ('vma-bot-watch', 'vma-bot-work@1', 'vma-bot-send'):
            assert machine.run(f'systemctl is-active {unit}') == 'active\n'
            assert machine.run(f'systemctl show -P NRestarts {unit}') == '0\n'
    assert said.count('\n0 errors, 0 warnings\n') == 2, said
    assert 'vma-bot can log in' in said
    assert 'held' in said
    assert 'mail 1: rejected' in said


@pytest.mark.deb
def test_each_part_runs_as_its_own_user_with_its_own_privileges(machine: Container) -> None:
    def of(unit: str, what: str) -> str:
        return machine.run(
            f'pid=$(systemctl show -P MainPID {unit}); {what.replace("PID", "$pid")}'
        )

    parts = ('vma-bot-watch', 'vma-bot-work@1', 'vma-bot-send')
    owners = [of(unit, 'stat -c %U /proc/PID').strip() for unit in parts]
    assert owners == ['vma-bot-watch', 'vma-bot-work', 'vma-bot-send']
    for unit in parts:
        status = of(unit, 'cat /proc/PID/status')
        assert 'CapBnd:\t0000000000000000' in status
        assert 'NoNewPrivs:\t1' in status
        assert 'Seccomp:\t2' in status
    # bot work has a network of its own, with nothing in it.
    networks = [of(unit, 'readlink /proc/PID/ns/net') for unit in ('vma-bot-watch', *parts)]
    assert networks[0] == networks[1] == networks[3] != networks[2]
    # The password is bot send's alone: each looks, as its user, at what its unit lets it see.
    for unit, user in zip(parts, owners, strict=True):
        look = f'nsenter -t PID -m setpriv --reuid {user} --regid vma-bot --clear-groups test -r'
        for path, readers in (
            ('/run/credentials/vma-bot-send.service/smtp-password', ['vma-bot-send']),
            ('/etc/vma-review-bot/smtp-password', []),
            ('/etc/vma-review-bot/config.toml', owners),
        ):
            said = of(unit, f'{look} {path} && echo yes || echo no')
            assert said == ('yes\n' if user in readers else 'no\n'), (user, path)


@pytest.mark.deb
def test_a_service_that_hangs_is_started_again_by_its_watchdog(machine: Container) -> None:
    def show(what: str) -> str:
        return machine.run(f'systemctl show -P {what} vma-bot-send').strip()

    folder = '/run/systemd/system/vma-bot-send.service.d'
    machine.run(
        f'mkdir -p {folder}; '
        "printf '%s\\n' '[Service]' WatchdogSec=3s TimeoutAbortSec=2s RestartSec=1s "
        f'>{folder}/soon.conf; '
        'systemctl daemon-reload; systemctl restart vma-bot-send'
    )
    hanging = show('MainPID')
    machine.run('systemctl kill --signal=STOP vma-bot-send')
    machine.wait_for('systemctl show -P NRestarts vma-bot-send', '1', 60)
    machine.wait_for('systemctl is-active vma-bot-send', 'active', 60)
    assert show('MainPID') not in (hanging, '0')
    assert show('Result') == 'success'
    machine.run(f'rm -r {folder}; systemctl daemon-reload; systemctl restart vma-bot-send')


@pytest.mark.deb
def test_an_upgrade_starts_anew_what_ran(machine: Container) -> None:
    """The same program under a later version, as docs/operate.md says."""
    services = ('vma-bot-watch', 'vma-bot-work@1', 'vma-bot-send')

    def pids() -> list[str]:
        return [machine.run(f'systemctl show -P MainPID {one}').strip() for one in services]

    before, kept = pids(), machine.run('bot outbox list --all; cat /etc/vma-review-bot/config.toml')
    machine.run(
        'cd /srv; rm -rf later; dpkg-deb -R vma-review-bot_*.deb later; '
        "sed -i 's/^Version: .*/&.1/' later/DEBIAN/control; "
        'dpkg-deb --root-owner-group -b later later.deb; '
        'sudo -u vma-bot-work bot backup /var/lib/vma-review-bot/before-upgrade.db; '
        'apt-get -q install -y ./later.deb'
    )
    for one in services:
        machine.wait_for(f'systemctl is-active {one}', 'active', 60)
    assert set(pids()).isdisjoint(before)
    after = machine.run('bot outbox list --all; cat /etc/vma-review-bot/config.toml')
    assert after == kept
    assert 'rejected' in kept
    version = machine.run("dpkg-query -W -f '${Version}' vma-review-bot")
    assert version == f'{__version__}.1'


@pytest.mark.deb
def test_a_worker_reaches_its_database_by_tcp(machine: Container) -> None:
    """The drop-in, with a server that asks for a password."""
    if programs() is None:
        pytest.skip('not installed: postgresql')
    work = 'vma-bot-work@1'
    folder = '/etc/systemd/system/vma-bot-work@.service.d'
    server = Postgres()
    try:
        owner = server.create('reviews')
        with psycopg.connect(owner, autocommit=True) as asked:
            asked.execute('CREATE ROLE "vma-bot-work" LOGIN PASSWORD \'of the role\'')
            asked.execute('ALTER DATABASE reviews OWNER TO "vma-bot-work"')
            server.ask_passwords_of('vma-bot-work')
            example = '/usr/share/doc/vma-review-bot/examples/database-tcp.conf'
            machine.run(
                f'mkdir {folder}; sed s/192.0.2.1/127.0.0.1/ {example} >{folder}/database.conf; '
                'install -m 600 /dev/null /etc/vma-review-bot/pgpass; '
                f"echo '127.0.0.1:{server.port}:*:*:of the role' >/etc/vma-review-bot/pgpass; "
                'cp /etc/vma-review-bot/config.toml /srv/kept.toml; '
                f"sed -i 's|sqlite:[^\"]*|postgresql://127.0.0.1:{server.port}/reviews|' "
                '/etc/vma-review-bot/config.toml; '
                f'systemctl stop vma-bot.target; systemctl daemon-reload; systemctl start {work}'
            )
            assert machine.run(f'systemctl is-active {work}') == 'active\n'
            sessions = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'vma-bot-work'"
            assert asked.execute(sessions).fetchone() != (0,)
    finally:
        machine.run(
            f'systemctl stop {work}; mv /srv/kept.toml /etc/vma-review-bot/config.toml; '
            f'rm -r {folder}; systemctl daemon-reload'
        )
        server.stop()


@pytest.mark.deb
def test_state_is_removed_by_a_purge_alone(machine: Container) -> None:
    machine.run('apt-get -q remove -y vma-review-bot')
    assert machine.run('systemctl list-units --no-legend "vma-bot*"').strip() == ''
    machine.run('test -s /var/lib/vma-review-bot/state.db')
    machine.run('test -f /etc/vma-review-bot/config.toml && test ! -e /usr/lib/vma-review-bot')
    machine.run('apt-get -q purge -y vma-review-bot')
    machine.run('test ! -e /var/lib/vma-review-bot && test ! -e /etc/vma-review-bot')
    assert machine.run('find /etc/systemd /var/lib/systemd -name "vma-bot*"') == ''
