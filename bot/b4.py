"""
Which messages of a thread are the series: b4's answer, in a child of its own.

b4 chooses revision, order, rerolls and trailers, as it does for maintainers.
It runs offline, without the user's settings, within limits of time and memory,
and is killed as a group: some threads make it hang, exit or raise. Where it is for
an answer, it is asked again with the patches and cover letters alone, once, and
the series says so; else the series is `Incomplete` with that reason. So a thread
takes at most twice the limits. Whether the series is complete is
judged from what came out, not from its exit status; and what is applied later
are the bytes of the thread's own mails, not b4's re-encoded ones.
"""

import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bot.errors import B4Error
from bot.mailinfo import decoded
from bot.model import ChildLimits, Incomplete, Mail, Patch, Series
from bot.plain import one_line
from bot.scratch import scratch
from bot.series import parse_mail, patch_of, posted, split
from bot.subjects import read
from bot.thread import mbox, of_one_series

# Where it finds a commit that has no ref among its ancestors, it can't name it as it wants to.
GUESS = re.compile(
    r'^ *Base: (?:(\S+) \((?:exact match|best guess)|.*Could not describe commit ([^)\s]+))', re.M
)
RAISED = re.compile(r'^(?:\w+\.)*(\w+(?:Error|Exception)): (.*)$', re.M)


@dataclass(frozen=True)
class Ended:
    """How the child ended: its exit status (a signal's number below 0), and what it said."""

    status: int
    out: bytes
    err: bytes


@dataclass(frozen=True)
class B4:
    """b4, as a child within limits."""

    limits: ChildLimits = field(default_factory=ChildLimits)

    def series(
        self, thread: Sequence[Mail], msgid: str | None = None, revision: int | None = None
    ) -> Series | Incomplete:
        """
        Choose the series of `thread` (the one that `msgid` lies in, where given).

        `revision` None is the newest. Mails without a message-id are left out:
        b4 can't tell them apart.
        """
        mails = {mail.msgid or '': mail for mail in of_one_series(thread, msgid)}
        if not mails:
            return Incomplete('no mail with a message-id in it')
        ran = self._am(mails, msgid, revision)
        if not isinstance(ran, Incomplete):
            return _series(mails, ran[0], ran[1], revision)
        parts = {name: mail for name, mail in mails.items() if posted(mail) is not None}
        if not 0 < len(parts) < len(mails):
            return ran
        again = self._am(parts, _part_of(msgid, mails, parts), revision)
        if isinstance(again, Incomplete):
            return ran
        found = _series(mails, again[0], again[1], revision)
        if isinstance(found, Incomplete):
            return found
        said = f'{ran.reason}: its answers are left out, and their trailers do not count'
        return replace(found, remarks=(said,))

    def _am(
        self, mails: Mapping[str, Mail], msgid: str | None, revision: int | None
    ) -> tuple[bytes, str] | Incomplete:
        words = ['am', '--no-cover', '-o', '-', '-m', '-']
        if revision is not None:
            words += ['-v', str(revision)]
        if msgid is not None:
            words.append(msgid)
        with scratch() as folder:
            return self._run(words, mbox(mails.values()), folder, folder)

    def guess_base(self, series: Series, mails: Sequence[Mail], worktree: Path) -> str | None:
        """
        Return the commit (`heads/x`, `ID~1`) that fits the series' blobs best, None for none.

        `worktree` is a repository of ours that holds the refs to guess among.
        """
        wanted = {patch.msgid for patch in series.patches}
        chosen = [mail for mail in mails if mail.msgid in wanted]
        if not chosen:
            return None
        words = ['am', '--no-cover', '-g', '-o', '-', '-m', '-']
        with scratch() as folder:
            ran = self._run(words, mbox(chosen), folder, worktree)
        found = GUESS.search(ran[1]) if not isinstance(ran, Incomplete) else None
        return (found[1] or found[2]) if found else None

    def _run(
        self, words: list[str], stdin: bytes, home: Path, cwd: Path
    ) -> tuple[bytes, str] | Incomplete:
        """Run b4; (stdout, stderr), or why it came to no end of its own."""
        ended = self._child(words, stdin, home, cwd)
        if ended is None:
            return Incomplete(
                f'b4 does not come to an end with this thread ({self.limits.time:g} s)'
            )
        said = ended.err.decode('utf-8', 'replace')
        if b'MemoryError' in ended.err or ended.status == -signal.SIGKILL:
            return Incomplete(f'b4 needs more than {self.limits.memory >> 20} MB for this thread')
        if raised := RAISED.search(said[-4000:]):
            return Incomplete(one_line(f'b4 fails on this thread: {raised[1]}: {raised[2]}'))
        if ended.status != 0:
            critical = [line.strip() for line in said.splitlines() if 'WARNING' in line]
            why = critical[-1] if critical else f'exit status {ended.status}'
            return Incomplete(one_line(f'b4 refuses this thread: {why.removeprefix("WARNING: ")}'))
        return ended.out, said

    def _child(self, words: list[str], stdin: bytes, home: Path, cwd: Path) -> Ended | None:
        """Run b4 to its end; None where that takes too long."""
        try:
            child = subprocess.Popen(
                [sys.executable, '-P', '-m', 'b4.command', '--offline-mode', *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=cwd,
                env=environment(home),
                start_new_session=True,
            )
        except OSError as error:
            raise B4Error(f'b4 can not be started: {error}') from error
        try:
            # The child is still importing: no stranger's byte was read before this.
            resource.prlimit(
                child.pid, resource.RLIMIT_AS, (self.limits.memory, self.limits.memory)
            )
            seconds = int(self.limits.time) + 1
            resource.prlimit(child.pid, resource.RLIMIT_CPU, (seconds, seconds))
            out, err = child.communicate(stdin, timeout=self.limits.time)
        except subprocess.TimeoutExpired:
            return None
        finally:
            _kill(child)
        return Ended(child.returncode, out, err)


def _part_of(msgid: str | None, mails: Mapping[str, Mail], parts: Mapping[str, Mail]) -> str | None:
    """Return the mail of a series that a message-id names, or that the one it names answers."""
    for _ in mails:
        if msgid is None or msgid in parts:
            return msgid
        msgid = mails[msgid].in_reply_to if msgid in mails else None
    return None


def thread_blob(tracking: Path) -> str | None:
    """
    Return the id of the blob in which `b4 review` keeps a series' thread.

    `tracking` is the file that it names to a check. None where it says nothing of the kind.
    """
    try:
        read = json.loads(tracking.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    series = read.get('series') if isinstance(read, dict) else None
    blob = series.get('thread-blob') if isinstance(series, dict) else None
    return blob if isinstance(blob, str) and re.fullmatch(r'[0-9a-f]{40,64}', blob) else None


def _series(
    mails: dict[str, Mail], out: bytes, said: str, revision: int | None
) -> Series | Incomplete:
    chosen: list[tuple[Patch, Mail]] = []
    newest = of = 0
    for raw in split(out):
        ready = parse_mail(raw)
        mail = mails.get(ready.msgid or '')
        subject = read(ready.subject)
        if mail is None:
            return Incomplete('b4 puts a message into the series that is not in the thread')
        newest, of = max(newest, subject.version), max(of, subject.expected)
        patch = patch_of(subject, mail)
        # b4 has put the trailers of the thread into the message; its subject knows a
        # reroll's number.
        chosen.append((replace(patch, trailers=patch_of(subject, ready).trailers), mail))
    if not chosen:
        if revision is not None:
            return Incomplete(f'there is no v{revision} in this thread')
        return Incomplete('no patch in this thread')
    cover = _cover(mails, chosen, newest)
    first = cover or chosen[0][1]
    ordered = tuple(replace(patch, of=of) for patch, _ in sorted(chosen, key=lambda one: one[0].n))
    numbers = [patch.n for patch in ordered]
    missing = tuple(n for n in range(1, of + 1) if n not in numbers)
    empty = [patch.n for patch in ordered if not patch.diff]
    title = read(cover.subject).title if cover else ordered[0].subject
    reason = None
    if missing:
        listed = ', '.join(str(n) for n in missing[:10])
        reason = f'patch {listed} of {of} is missing'
    elif numbers != list(range(1, of + 1)):
        reason = f'the numbers in the subjects do not fit: {", ".join(map(str, numbers[:12]))}'
    elif empty:
        reason = f'patch {empty[0]} of {of} has no diff'
    if reason is not None:
        return Incomplete(reason, first.msgid, title, first.author, newest, ordered, missing)
    bodies = [cover] if cover else []
    bodies += [mail for _, mail in chosen]
    return Series(
        msgid=first.msgid,
        subject=title,
        author=cover.author if cover else ordered[0].author,
        revision=newest,
        patches=ordered,
        cover=decoded(cover.body, cover.charset) if cover else None,
        base_commit=next((mail.base_commit for mail in bodies if mail.base_commit), None),
        prerequisites=tuple(dict.fromkeys(one for mail in bodies for one in mail.prerequisites)),
    )


def _cover(mails: dict[str, Mail], chosen: list[tuple[Patch, Mail]], revision: int) -> Mail | None:
    """The cover letter: numbered 0, or what the patches reply to if it is none itself."""
    parents = [mail.in_reply_to for _, mail in chosen]
    patches = {mail.msgid for _, mail in chosen}
    for mail in mails.values():
        subject = read(mail.subject)
        if subject.is_reply or mail.msgid in patches:
            continue
        if subject.counter == 0 and subject.is_patch and subject.version == revision:
            return mail
    for msgid in parents:
        parent = mails.get(msgid or '')
        if parent is not None and msgid not in patches and _naked(parent, chosen[0][1]):
            return parent
    return None


def _naked(mail: Mail, patch: Mail) -> bool:
    """Whether a mail that starts the thread, by the same author, is its cover letter."""
    subject = read(mail.subject)
    return not subject.is_reply and mail.in_reply_to is None and mail.author == patch.author


def environment(home: Path) -> dict[str, str]:
    """Return b4's environment: nothing of the user's, `home` for all that it keeps."""
    kept = {name: os.environ[name] for name in ('PATH', 'LANG', 'TMPDIR') if name in os.environ}
    return {
        **kept,
        'HOME': str(home),
        'XDG_DATA_HOME': str(home),
        'XDG_CACHE_HOME': str(home),
        'XDG_CONFIG_HOME': str(home),
        'GIT_CONFIG_GLOBAL': os.devnull,
        'GIT_CONFIG_NOSYSTEM': '1',
        'GIT_CEILING_DIRECTORIES': str(home.parent),
        'PYTHONUTF8': '1',
        'NO_COLOR': '1',
    }


def _kill(child: 'subprocess.Popen[bytes]') -> None:
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
    for pipe in (child.stdin, child.stdout, child.stderr):
        if pipe is not None:
            pipe.close()
    child.wait()
