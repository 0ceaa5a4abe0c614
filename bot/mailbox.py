"""
Mails from this machine: a file, a folder, or standard input.

Raises `MailboxError` where there is no mail to be had, in one line. Which of
the mails make a series is `series.py`'s to say.
"""

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bot.errors import MailboxError
from bot.model import Mail
from bot.series import numbered, parse_mail, posted, split

SUFFIXES = ('.patch', '.mbox', '.eml', '.mail', '.txt')
NUMBERED = re.compile(r'\d{4,}-')
LARGEST = 512 << 20
"""Bytes. The largest mails on lists are some 20 MB."""


def read(source: str) -> list[Mail]:
    """
    Return the mails of `source`: an mbox, a single mail, a maildir, a folder of mails, or `-`.

    A folder's files are taken in the order of their names, as git
    format-patch numbers them.
    """
    if source == '-':
        return _mails(standard_input(), 'standard input')
    path = Path(source)
    try:
        if not path.is_dir():
            return _mails(_bytes(path), source)
        files = sorted(_files(path))
        if not files:
            raise MailboxError(f'{source}: no *.patch or *.mbox in this folder, and no maildir')
        mails = [mail for file in files for mail in _mails(_bytes(file), str(file))]
        return numbered(mails) if all(NUMBERED.match(one.name) for one in files) else mails
    except FileNotFoundError as error:
        raise MailboxError(f'{source}: no such file or folder') from error
    except OSError as error:
        raise MailboxError(f'{source}: {error.strerror}') from error


def of_one_series(sources: Sequence[str]) -> bool:
    """
    Whether several names are the files of one series, as `*.patch` gives them.

    Each is a file of one mail, and their subjects number them, or their names
    do (0001-…, 0002-…).
    """
    if len(sources) < 2 or not all(Path(one).is_file() for one in sources):
        return False
    try:
        found = [list(split(_bytes(Path(one)))) for one in sources]
    except OSError:
        return False
    if any(len(mails) != 1 for mails in found):
        return False
    parts = [posted(parse_mail(mails[0])) for mails in found]
    named = all(NUMBERED.match(Path(one).name) for one in sources)
    first = parts[0]
    return first is not None and all(
        one is not None
        and (one.version, one.expected) == (first.version, first.expected)
        and (named if one.counters_inferred else one.expected > 1)
        for one in parts
    )


def standard_input() -> bytes:
    """Return what is on standard input, a byte more than `LARGEST` at most."""
    return sys.stdin.buffer.read(LARGEST + 1)


def read_all(sources: Sequence[str]) -> list[Mail]:
    """Return the mails of several files that are one series, in the order in which it has them."""
    return numbered([mail for one in sources for mail in read(one)])


def _files(folder: Path) -> list[Path]:
    if (folder / 'cur').is_dir() and (folder / 'new').is_dir():
        return [one for part in ('cur', 'new') for one in (folder / part).iterdir()]
    return [one for one in folder.iterdir() if one.suffix in SUFFIXES and one.is_file()]


def _bytes(path: Path) -> bytes:
    with path.open('rb') as file:
        return file.read(LARGEST + 1)


def _mails(data: bytes, name: str) -> list[Mail]:
    if len(data) > LARGEST:
        raise MailboxError(f'{name}: larger than {LARGEST >> 20} MB')
    if not data.strip():
        raise MailboxError(f'{name}: empty, no mail in it')
    mails = [parse_mail(raw) for raw in split(data)]
    if len(mails) == 1 and data.startswith(b'From '):
        mails = [replace(mails[0], before=1)]
    if not any(mail.subject or mail.msgid for mail in mails):
        raise MailboxError(f'{name}: no mail in it (git format-patch makes mails)')
    return mails
