"""The documentation: its links lead somewhere; who follows it line by line gets what it says."""

import contextlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import Demo
from tests.lettering import post
from tests.mailserver import Scripted, certificate
from tests.services import publicinbox
from tests.services.test_replies import posted

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob('*.md'), *(ROOT / 'docs').glob('*.md')])
LINK = re.compile(r'(?<!!)\[[^\]]*\]\(([^)\s]+)\)')
FENCE = re.compile(r'^```.*?^```$', re.M | re.S)
CODE = re.compile(r'`[^`\n]*`')
HEADING = re.compile(r'^#+ +(.*)$', re.M)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as forges make them."""
    found = set()
    for heading in HEADING.findall(FENCE.sub('', page.read_text())):
        words = re.sub(r'[^\w\- ]', '', heading.replace('`', '').lower()).strip()
        found.add(words.replace(' ', '-'))
    return found


def broken(page: Path) -> list[str]:
    """The relative links of a page that lead nowhere."""
    found = []
    for link in LINK.findall(CODE.sub('', FENCE.sub('', page.read_text()))):
        name, _, anchor = link.partition('#')
        if '://' in name or name.startswith('mailto:'):
            continue
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            found.append(link)
    return found


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert broken(page) == []


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    page = tmp_path / 'page.md'
    page.write_text('# One `two`: three\n[a](#one-two-three) [b](page.md) [c](#no) [d](gone.md)\n')
    assert broken(page) == ['#no', 'gone.md']


def test_every_page_is_linked_from_the_readme() -> None:
    linked = LINK.findall((ROOT / 'README.md').read_text())
    for page in (ROOT / 'docs').glob('*.md'):
        assert f'docs/{page.name}' in linked


# --- docs/operate.md, followed ------------------------------------------------

STEP = re.compile(r'^<!-- walk(?:: (?P<what>.*?))? -->\n```(?P<language>\w+)\n(?P<text>.*?)^```$',
                  re.M | re.S)  # fmt: skip
MM = 'https://git.kernel.org/pub/scm/linux/kernel/git/akpm/mm.git'
MX = '"mail.example.org"'


@contextlib.contextmanager
def mail_server(folder: Path) -> Iterator[tuple[Scripted, str]]:
    """The page's mail server, on loopback; and what the configuration has in its place."""
    made = certificate(folder, 'IP:127.0.0.1')
    server = Scripted(tls=made.context, users={'vma-bot': 'the password'})
    try:
        yield server, f'"127.0.0.1"\nport = {server.port}\nca_file = "{made.path}"'
    finally:
        server.stop()


@dataclass(frozen=True)
class Step:
    """A block of the page: commands, or (`what` is a path) a file."""

    what: str
    language: str
    text: str


def steps() -> list[Step]:
    text = (ROOT / 'docs/operate.md').read_text()
    return [Step(one['what'] or '', one['language'], one['text']) for one in STEP.finditer(text)]


class Walk:
    """
    Follows the page in a folder that stands for the machine.

    What is put in place of what the page says: /etc, /var and /run by folders of
    their own, the addresses of the kernel, the archive and the mail server by
    local ones, `sudo` by nothing, and `systemctl enable --now` by one round of
    what the unit's `ExecStart=` runs, in the unit's environment, with its
    credential where systemd puts it. tests/test_deb.py puts the addresses only.
    """

    def __init__(self, root: Path, addresses: dict[str, str]) -> None:
        self.root = root
        self.replaced = dict(addresses)
        for name in ('/etc', '/var', '/run'):
            self.replaced[f'{name}/'] = f'{root}{name}/'
        (root / 'bin').mkdir(parents=True)
        self._program('bot', f'exec {sys.executable} -P -m bot "$@"')
        self._program('sudo', 'if [ "$1" = -u ]; then shift 2; fi; exec "$@"')
        for name in ('etc/vma-review-bot', 'var/lib/vma-review-bot/trees', 'home'):
            (root / name).mkdir(parents=True)
        self.environment = {'PATH': f'{root}/bin:/usr/bin:/bin', 'HOME': str(root / 'home')}
        for line in (ROOT / 'systemd/vma-bot-watch.service').read_text().splitlines():
            if line.startswith('Environment='):
                words = self.here(line.removeprefix('Environment=')).split()
                self.environment |= dict(word.split('=', 1) for word in words)

    def _program(self, name: str, text: str) -> None:
        path = self.root / 'bin' / name
        path.write_text(f'#!/bin/sh\n{text}\n')
        path.chmod(0o755)

    def here(self, text: str) -> str:
        for old, new in self.replaced.items():
            text = re.sub(rf'(?<![\w.]){re.escape(old)}', lambda _, new=new: new, text)  # type: ignore[misc]  # mypy knows no lambda's defaults
        return text

    def run(self, command: str) -> str:
        done = subprocess.run(
            ['sh', '-ec', command], capture_output=True, text=True, check=False,
            env=self.environment, cwd=self.root / 'home',
        )  # fmt: skip
        assert done.returncode == 0, f'{command}: {done.stderr}'
        return done.stdout

    def unit(self, name: str) -> None:
        """Do one round of what a unit does; a target's are those that it wants, in their order."""
        text = (ROOT / 'systemd' / re.sub(r'@\w+\.', '@.', name)).read_text()
        if name.endswith('.target'):
            for other in re.findall(r'[\w@-]+\.service', text):
                self.unit(other)
            return
        if name.endswith('.timer'):
            self.unit(name.replace('.timer', '.service'))
            return
        for credential, source in re.findall(r'^LoadCredential=(.*?):(.*)$', text, re.M):
            handed = self.root / 'run/credentials' / name / credential
            handed.parent.mkdir(parents=True, exist_ok=True)
            handed.unlink(missing_ok=True)
            handed.write_bytes(Path(self.here(source)).read_bytes())
            handed.chmod(0o400)
        command = re.search(r'^ExecStart=/usr/bin/(bot .*)$', text, re.M)
        assert command is not None
        once = '' if 'Type=oneshot' in text else ' --once'
        self.run(command[1] + once)

    def follow(self, step: Step) -> str:
        """Do what a block says; what its commands printed."""
        if step.language == 'toml':
            Path(self.here(step.what)).write_text(self.here(step.text))
            return ''
        said = ''
        for line in step.text.splitlines():
            started = re.fullmatch(r'sudo systemctl enable --now (\S+)', line)
            if started:
                self.unit(started[1])
            else:
                said += self.run(self.here(line))
        return said


def test_who_follows_the_page_gets_to_a_held_reply(sample: Demo, tmp_path: Path) -> None:
    if publicinbox.MISSING:
        pytest.skip(f'not installed: {", ".join(publicinbox.MISSING)}')
    tree = tmp_path / 'mm.git'
    shutil.copytree(sample.tree, tree)
    subprocess.run(['git', '-C', str(tree), 'branch', 'mm-unstable'], check=True)
    subprocess.run(['git', '-C', str(tree), 'branch', 'mm-stable'], check=True)
    old = post('old@x', 'hello', 'x\n').raw
    said = []
    with (
        publicinbox.serving(tmp_path / 'archive', [old]) as archive,
        mail_server(tmp_path / 'tls') as (server, address),
    ):
        addresses = {MM: str(tree), 'https://lore.kernel.org': archive.url, MX: address}
        walk = Walk(tmp_path / 'machine', addresses)
        for step in steps():
            if step.what == 'a series arrives':
                archive.add(posted(sample))
                walk.unit('vma-bot.target')  # two minutes later
            said.append(walk.follow(step))
    clone, config, password, looked, started, tried, arrived, decided = said
    assert (clone, config, password) == ('', '', '')
    assert looked.endswith('\n0 errors, 0 warnings\n'), looked
    assert re.search(r'^off +password +vma-bot-send.service alone is given it', looked, re.M)
    assert tried.endswith('\n0 errors, 0 warnings\n'), tried
    assert 'vma-bot can log in' in tried
    assert server.received == []
    assert started == 'nothing yet\nno mails\n'
    assert re.search(r'^1 +reviewed .* 6/6 ', arrived, re.M), arrived
    assert re.search(r'^ *1 +held ', arrived, re.M), arrived
    assert 'Subject: Re: ' in decided
    assert 'To: A Developer <dev@example.org>' in decided
    assert 'mail 1: rejected' in decided
