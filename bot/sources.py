"""
From what a user names to a series: a message-id, a link, files, a git range.

Answers which mails were meant and, by b4, which of them are the series. Mails
without message-ids (`git format-patch` files) are put in order by their
subjects, since b4 can't tell them apart.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bot import mailbox
from bot.attest import Attester
from bot.b4 import B4
from bot.errors import UsageError
from bot.lore import Archive, message_id
from bot.model import AppliedSeries, Incomplete, Mail, Series
from bot.ranges import last, stretch
from bot.series import assemble
from bot.tree import Quarantine, range_of


@dataclass(frozen=True)
class Found:
    """
    A series and the thread that it came from.

    `applied` is there for a git range: its trees are the commits' own.
    """

    series: Series | Incomplete
    thread: tuple[Mail, ...] = ()
    applied: AppliedSeries | None = None


@dataclass(frozen=True)
class Finder:
    """What finding needs. `attester` None: signatures are not looked at."""

    archive: Archive
    b4: B4
    attester: Attester | None = None
    revision: int | None = None

    def find(self, text: str | tuple[str, ...], ranges: Sequence[tuple[str, Quarantine]]) -> Found:
        """
        Return the series that `text` names, or several files of one.

        `ranges` are the trees (name, opened) that a git range may be of, in
        order. Raises what the worlds raise: `MailboxError`, `LoreError`,
        `TreeError`.
        """
        if isinstance(text, tuple):
            return self._local(mailbox.read_all(text))
        if text == '-' or Path(text).exists():
            return self._local(mailbox.read(text))
        if ranges:
            name, quarantine = ranges[0]
            between = stretch(text, quarantine.commit)
            if between is not None:
                old, new = between.old, between.new
                applied = range_of(quarantine, name, last(text) or text, old, new)
                return Found(applied.series, (), applied)
        named = message_id(text)
        if named is None:
            raise UsageError(
                f'{text}: no file or folder, no message-id or link, and no commits (A..B) '
                'of the tree'
            )
        msgid, inbox = named
        thread = self.archive.thread(msgid, inbox)
        revision = self.revision
        return self._attested(self.b4.series(thread, msgid, revision), thread)

    def _local(self, mails: list[Mail]) -> Found:
        patches = [mail for mail in mails if b'\ndiff --git ' in mail.body]
        if any(mail.msgid is None for mail in patches) or not patches:
            if self.revision is not None:
                mails = [mail for mail in mails if _revision(mail) == self.revision]
            return Found(assemble(mails), tuple(mails))
        return Found(self.b4.series(mails, revision=self.revision), tuple(mails))

    def _attested(self, series: Series | Incomplete, thread: Sequence[Mail]) -> Found:
        if self.attester is None or isinstance(series, Incomplete):
            return Found(series, tuple(thread))
        mails = {mail.msgid: mail for mail in thread}
        patches = tuple(
            replace(patch, attestation=self.attester.check(mails[patch.msgid]))
            if patch.msgid in mails
            else patch
            for patch in series.patches
        )
        return Found(replace(series, patches=patches), tuple(thread))


def _revision(mail: Mail) -> int:
    found = re.search(r'\[[^\]]*\bv(\d+)\b[^\]]*\]', mail.subject, re.I)
    return int(found[1]) if found else 1
