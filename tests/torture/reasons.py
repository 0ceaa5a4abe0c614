"""Why two programs may make different things of a case: the whole list, each with its test."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from bot.mailinfo import cut, decoded
from bot.model import Mail
from bot.series import parse_mail, split
from bot.thread import SEEN_AS_DIFF
from tests.torture.threads import Case
from tests.torture.verdicts import Desk, Said


@dataclass(frozen=True)
class Asked:
    """A case, and what each of the four said of it."""

    case: Case
    git: Said
    b4: Said
    by_b4: bytes
    check: Said
    watch: Said

    @classmethod
    def of(cls, desk: Desk, case: Case) -> 'Asked':
        """Ask all of them."""
        check = desk.check(case)
        watch = desk.watch(case)
        desk.forget()
        words = [] if 'crlf' in case.did else ['--keep-cr']
        words += ['--scissors'] if 'scissors' in case.did else []
        words += ['--quoted-cr=strip'] if 'base64-crlf' in case.did else []
        mails = [case.mails[n] for n in case.meant]
        git = desk.am(case.on, mails, *words) if mails else Said(None, 'a part is missing')
        b4, out = desk.b4_am(case)
        return cls(case, git, b4, out, check, watch)


Test = Callable[[str, Asked], bool]
SAID: dict[str, str] = {}
_TESTS: dict[str, Test] = {}


def reason(pair: str, asked: Asked) -> str | None:
    """Return the first reason that explains a difference, None where none does."""
    return next((name for name, test in _TESTS.items() if test(pair, asked)), None)


def _because(name: str, said: str) -> Callable[[Test], Test]:
    def kept(test: Test) -> Test:
        SAID[name], _TESTS[name] = said, test
        return test

    return kept


@_because('already', 'git am -3 goes on past a patch that is there; the bot says that it is there')
def _(pair: str, asked: Asked) -> bool:
    return pair in ('git', 'b4') and asked.check.why.startswith('there: ')


@_because('merge', 'git am -3 merges with what the base has renamed, or has and changed again')
def _(pair: str, asked: Asked) -> bool:
    by = {'git': asked.git, 'b4': asked.b4}.get(pair)
    merged = by is not None and 'Using index info to reconstruct a base tree' in by.why
    return merged and _did(asked, 'moved', 'already') and asked.check.tree is None


@_because('no-prefix', 'git makes of a name without a/ what it can; the bot says what is missing')
def _(pair: str, asked: Asked) -> bool:
    return pair in ('git', 'b4') and 'made with --no-prefix' in asked.check.why


@_because('charset', 'git am applies the bytes that were sent; the bot tries them in UTF-8, too')
def _(pair: str, asked: Asked) -> bool:
    latin = _did(asked, 'latin1', 'latin1-qp')
    return pair == 'git' and latin and asked.git.tree is None and asked.check.tree is not None


@_because('b4-answers', 'b4 fails on an answer; the bot asks it again without')
def _(pair: str, asked: Asked) -> bool:
    nasty = any(one.startswith('nasty-') for one in asked.case.did)
    return pair == 'b4' and nasty and asked.b4.tree is None and asked.by_b4 == b''


@_because(
    'b4-set', 'b4 takes other mails for the series: a follow-up, an unusual subject, no numbers'
)
def _(pair: str, asked: Asked) -> bool:
    odd = _did(asked, 'follow-up', 'resend', 'duplicate', 'files', 'octets', 'unnumbered')
    odd = odd or any(one.startswith('subject-') for one in asked.case.did)
    return pair == 'b4' and odd and _ids(asked) != _meant(asked)


@_because('subject', 'git am leaves in a subject what is not in brackets')
def _(pair: str, asked: Asked) -> bool:
    if pair != 'text' or not _did(asked, 'subject-bare'):
        return False
    pairs = zip(asked.git.texts, asked.check.texts, strict=True)
    return all(one[:2] + one[3:] == two[:2] + two[3:] for one, two in pairs)


@_because('b4-no-diff', 'b4 does not see the diff: an empty file, a rename of a name with blanks')
def _(pair: str, asked: Asked) -> bool:
    if pair != 'b4' or asked.b4.tree is not None:
        return False
    chosen = set(_ids(asked))
    mails = [parse_mail(asked.case.mails[n]) for n in asked.case.meant]
    left = [mail for mail in mails if mail.msgid not in chosen]
    return any(not SEEN_AS_DIFF.search(decoded(mail.body, mail.charset)) for mail in left)


@_because(
    'b4-bytes', 'b4 writes another diff than was sent: CR, bytes that are not UTF-8, MIME parts'
)
def _(pair: str, asked: Asked) -> bool:
    if pair != 'b4':
        return False
    sent = {mail.msgid: mail for mail in map(parse_mail, asked.case.mails)}
    for raw in split(asked.by_b4):
        ready = parse_mail(raw)
        mail = sent.get(ready.msgid)
        if mail is not None and _diff(ready) != _diff(mail):
            return True
    return False


@_because('utf-16', 'git am converts base64 line by line, which UTF-16 is not made for')
def _(pair: str, asked: Asked) -> bool:
    return pair in ('git', 'text') and 'cannot convert from utf-16' in asked.git.why


@_because('senders', 'mails of several senders are several series to the watcher')
def _(pair: str, asked: Asked) -> bool:
    if pair != 'watch' or asked.watch.tree is not None:
        return False
    return len({parse_mail(asked.case.mails[n]).author.email for n in asked.case.meant}) > 1


@_because('files', 'files of format-patch -N are numbered by their names, which mails have not')
def _(pair: str, asked: Asked) -> bool:
    several = len(asked.case.files) > 1
    return pair == 'watch' and several and _did(asked, 'unnumbered')


def _did(asked: Asked, *names: str) -> bool:
    return not asked.case.did.isdisjoint(names)


def _meant(asked: Asked) -> list[str | None]:
    return [parse_mail(asked.case.mails[n]).msgid for n in asked.case.meant]


def _ids(asked: Asked) -> list[str | None]:
    """Return the mails that b4 chose, in its order."""
    return [parse_mail(raw).msgid for raw in split(asked.by_b4)]


def _diff(mail: Mail) -> bytes:
    diff = re.sub(rb'(?m)^-- \n[\s\S]*\Z', b'', cut(mail.body, mail.charset).diff)
    return diff.rstrip()
