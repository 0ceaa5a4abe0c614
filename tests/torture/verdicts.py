"""
What each of the four makes of a case: `git am -3`, `b4 am`, `bot check`, the watcher.

git works in a real work tree, once on the mails that are meant and once on what
b4 makes of the thread. b4 is run in a fork of this process, which has read its
modules already; the bot's own child is started for some cases as it always is.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import b4.command
import pygit2

from bot import bases
from bot.assembly import Letter, letter
from bot.b4 import B4, Ended, environment
from bot.errors import BotError, TreeError
from bot.lore import Archive
from bot.model import AppliedSeries, DoesNotApply, Incomplete, Lore, Scope, Series, Tree
from bot.scratch import scratch
from bot.series import parse_mail, split
from bot.sources import Finder
from bot.store import Store
from bot.store.database import opened
from bot.thread import FROM
from bot.tree import Quarantine
from tests.gitrepo import ENV
from tests.torture.threads import Case

SECONDS = 10
REAL = 40
"""One case in so many has the bot's own child of b4."""
ESCAPED = re.compile(rb'^(>*From )', re.M)


@dataclass(frozen=True)
class Said:
    """A tree, or why there is none. `texts` are author, subject and message of each commit."""

    tree: str | None
    why: str = ''
    texts: tuple[tuple[str, str, str, str], ...] = ()
    remarks: tuple[str, ...] = ()


class Forked(B4):
    """b4 in a fork, for as long as that has its modules."""

    def _child(self, words: list[str], stdin: bytes, home: Path, cwd: Path) -> Ended | None:
        return forked(words, stdin, home, cwd)


def forked(words: Sequence[str], stdin: bytes, home: Path, cwd: Path) -> Ended | None:
    """Run b4 in a fork; None where it takes too long."""
    files = [home / f'fork-{name}' for name in ('in', 'out', 'err')]
    files[0].write_bytes(stdin)
    pid = os.fork()
    if not pid:
        status = 99
        try:
            os.setsid()
            signal.alarm(SECONDS)
            for number, (file, how) in enumerate(zip(files, ('rb', 'wb', 'wb'), strict=True)):
                os.dup2(os.open(file, os.O_RDONLY if how == 'rb' else os.O_WRONLY | os.O_CREAT),
                        number)  # fmt: skip
            os.chdir(cwd)
            os.environ.clear()
            os.environ.update(environment(home))
            sys.stdin = os.fdopen(0, encoding='utf-8', errors='surrogateescape')
            sys.stdout = os.fdopen(1, 'w', encoding='utf-8', errors='surrogateescape')
            sys.stderr = os.fdopen(2, 'w', encoding='utf-8', errors='backslashreplace')
            sys.argv = ['b4', '--offline-mode', *words]
            status = _b4()
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)
    _, ended = os.waitpid(pid, 0)
    status = os.waitstatus_to_exitcode(ended)
    if status == -signal.SIGALRM:
        return None
    return Ended(status, files[1].read_bytes(), files[2].read_bytes())


def _b4() -> int:
    try:
        b4.command.cmd()
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except Exception as error:  # noqa: BLE001  # b4 may raise anything: that is its answer here
        print(f'Traceback\n{type(error).__name__}: {error}', file=sys.stderr)
        return 1
    return 0


class Desk:
    """A repository with a work tree, a store, and the four. One process has one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / 'linux'
        self.path.mkdir(parents=True)
        self.home = folder / 'home'
        self.home.mkdir()
        self.git('init', '-q', '-b', 'master', '.')
        self.git('config', 'gc.auto', '0')
        self.git('config', 'core.fsync', 'none')
        self.repo = pygit2.Repository(str(self.path))
        self.now = time.time()
        self.store = Store(opened(f'sqlite:///{folder / "state.db"}'), lambda: self.now)
        self.store.first_start(0)
        self.place = Tree('linux', str(self.path), ('master',))
        self.archive = Archive(Lore(('http://127.0.0.1:1',)), folder / 'cache')

    def git(self, *words: str, stdin: bytes = b'') -> bytes:
        """Run git in the work tree."""
        return self._git(*words, stdin=stdin, check=True).stdout

    def _git(
        self, *words: str, stdin: bytes = b'', check: bool = False
    ) -> 'subprocess.CompletedProcess[bytes]':
        return subprocess.run(
            ['git', *words], cwd=self.path, input=stdin, capture_output=True, check=check,
            env={**os.environ, **ENV, 'HOME': str(self.home)},
        )  # fmt: skip

    # --- git am, b4 am ---

    def am(self, on: str, mails: Sequence[bytes], *words: str) -> Said:
        """Ask `git am -3`."""
        self._clean(on)
        self.git('read-tree', '--reset', '-u', on)
        done = self._git(
            'am',
            '-3',
            '--patch-format=mboxrd',
            '--whitespace=nowarn',
            *words,
            stdin=_mbox(mails),
        )
        if done.returncode:
            said = (done.stderr + done.stdout).decode('utf-8', 'replace')
            return Said(None, said)
        head = self.repo[self.repo.head.target].peel(pygit2.Commit)
        texts: list[tuple[str, str, str, str]] = []
        here = head
        while str(here.id) != on:
            subject, _, body = here.message.partition('\n\n')
            texts.append((here.author.name, here.author.email, subject, body.strip()))
            here = here.parents[0]
        return Said(str(head.tree.id), done.stderr.decode('utf-8', 'replace')
                    + done.stdout.decode('utf-8', 'replace'), tuple(reversed(texts)))  # fmt: skip

    def _clean(self, on: str) -> None:
        left = self.path / '.git' / 'rebase-apply'
        if left.exists():
            self._git('am', '--abort')
            subprocess.run(['rm', '-rf', str(left)], check=True)
        self.repo.references.create('refs/heads/master', on, force=True)
        self.repo.set_head('refs/heads/master')
        for one in self.path.iterdir():
            if one.name != '.git':
                subprocess.run(['rm', '-rf', str(one)], check=True)

    def b4_am(self, case: Case) -> tuple[Said, bytes]:
        """Ask `b4 am | git am -3`; what b4 wrote, too."""
        with scratch() as home:
            ended = forked(['am', '--no-cover', '-o', '-', '-m', '-'], _mbox(case.mails), home,
                           home)  # fmt: skip
        if ended is None:
            return Said(None, 'b4 does not end'), b''
        said = ended.err.decode('utf-8', 'replace')
        if ended.status or not ended.out.strip():
            return Said(None, f'b4: {said[-2000:]}'), b''
        if re.search(r'ERROR: missing|Incomplete series', said):
            return Said(None, f'b4: {said[-2000:]}'), ended.out
        return self.am(case.on, tuple(split(ended.out))), ended.out

    # --- the bot ---

    def check(self, case: Case) -> Said:
        """Ask what `bot check` asks."""
        finder = Finder(self.archive, self._b4(case))
        with scratch() as folder, Quarantine(self.path) as quarantine:
            if case.files:
                for n, raw in enumerate(case.files, 1):
                    (folder / f'{n:04}-x.patch').write_bytes(raw)
                source = str(folder)
            else:
                source = str(folder / 'thread.mbox')
                Path(source).write_bytes(_mbox(case.mails))
            try:
                found = finder.find(source, [('linux', quarantine)])
            except BotError as error:
                return Said(None, str(error))
            return self._applied(found.series, quarantine, case.on)

    def watch(self, case: Case) -> Said:
        """Let the mails come in, and judge what is due."""
        scope = Scope(paths=(), symbols=(), subjects=('',))
        read: list[Letter] = []
        whys: list[str] = []
        for raw in case.mails:
            try:
                one = letter(raw, scope)
            except BotError as error:
                whys.append(str(error))
                continue
            if one is not None:
                read.append(one)
        self.store.take_in('list', read, None)
        self.store.settle(0)
        wanted = {parse_mail(case.mails[n]).msgid for n in case.meant}
        if 'resend' in case.did:  # what was sent again is judged as it was sent first
            wanted = {parse_mail(raw).msgid for raw in case.mails}
        result: Said | None = None
        for number in self.store.due():
            taken = self.store.take(number, most_kills=1)
            if taken is None:
                continue
            thread = tuple(parse_mail(raw) for raw in taken.mails)
            series = self._b4(case).series(thread, taken.msgid, taken.revision)
            mine = {patch.msgid for patch in series.patches}
            self.store.park(number, 'done')
            if (wanted & mine) or (not wanted and 'follow' not in str(mine)):
                with Quarantine(self.path) as quarantine:
                    result = self._applied(series, quarantine, case.on)
        if result is not None:
            return result
        states = [f'{row.title}: {row.state} {row.why}' for row in self.store.rows()][:4]
        return Said(None, f'watcher: {len(read)} letters; {"; ".join([*whys, *states])}')

    def forget(self) -> None:
        """Let the watcher know nothing of the cases before."""
        self.now += 10
        self.store.prune(-5)

    def program(self, case: Case) -> tuple[int, str | None]:
        """Run the program itself; its exit code, and the last tree."""
        with scratch() as folder:
            (folder / 'thread.mbox').write_bytes(_mbox(case.mails))
            done = subprocess.run(
                [sys.executable, '-P', '-m', 'bot', 'check', '-q', '--tree', str(self.path),
                 '--base', case.on, '--harness', 'none', '--format', 'json',
                 str(folder / 'thread.mbox')],
                capture_output=True, check=False, cwd='/', stdin=subprocess.DEVNULL,
                env={**os.environ, **ENV, 'HOME': str(self.home), 'XDG_CACHE_HOME': str(self.home),
                     'PYTHONPATH': str(Path(__file__).parents[2])},
            )  # fmt: skip
        try:
            applied = json.loads(done.stdout)['applied']
        except ValueError:
            return done.returncode, done.stderr.decode('utf-8', 'replace')[-500:]
        return done.returncode, applied[-1]['tree'] if done.returncode < 2 else None

    def _b4(self, case: Case) -> B4:
        return B4() if case.number % REAL == 0 else Forked()

    def _applied(self, series: Series | Incomplete, quarantine: Quarantine, on: str) -> Said:
        if isinstance(series, Incomplete):
            return Said(None, f'incomplete: {series.reason}')
        try:
            found = bases.choose(series, [bases.Place(self.place, quarantine)], on)
        except TreeError as error:
            return Said(None, str(error))
        match found:
            case AppliedSeries(steps=steps):
                texts = tuple(
                    (one.author.name, one.author.email, one.subject, one.message.strip())
                    for one in series.patches
                )
                return Said(steps[-1].tree, '', texts, series.remarks)
            case DoesNotApply(n=n, reason=reason, there=there):
                return Said(None, f'{"there: " if there else ""}patch {n}: {reason}')


def _mbox(mails: Sequence[bytes]) -> bytes:
    return b''.join(
        FROM + ESCAPED.sub(rb'>\1', raw) + (b'' if raw.endswith(b'\n') else b'\n') + b'\n'
        for raw in mails
    )
