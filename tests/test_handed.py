"""The one mail that b4 hands to a check: how it is read, and what is said of it."""

import base64
import json
import quopri
from pathlib import Path
from typing import Any

import pytest

from bot.b4 import thread_blob
from bot.errors import MailboxError
from bot.handed import read
from bot.model import (
    Author,
    Build,
    BuildFailed,
    CouldNotRun,
    DoesNotApply,
    Failure,
    Hit,
    Incomplete,
    Passed,
    Review,
    Severity,
    Suppressed,
)
from bot.output.b4 import Part, lines, render
from bot.rule import BASE, Case, Edit, Rule, finding_of, subject_of
from tests.conftest import Bot, Demo

pytestmark = pytest.mark.slow

HEAD = b'From: A <a@example.org>\nSubject: [PATCH 2/3] x\nMessage-ID: <2@example.org>\n'
DIFF = (
    b'diff --git a/x.c b/x.c\n--- a/x.c\n+++ b/x.c\n@@ -1 +1,2 @@\n-int x =\n+int x = 3d;\n+= b;\n'
)
BODY = b'Words =\nand more.\n---\n' + DIFF
UNNAMED = 'Subject: [PATCH 2/3] ü\nMessage-ID: <ü\u202e@x>\n\nü\n'.encode()
FILE = 'mm/x.c'
SUBJECT = subject_of(
    Case({FILE: 'a\n'}, (Edit({FILE: 'b\n'}), Edit({FILE: 'c\n'}), Edit({FILE: 'd\n'})))
)


def header(encoding: str) -> bytes:
    return (
        HEAD + b'MIME-Version: 1.0\nContent-Type: text/plain;\n charset="utf-8"\n'
        b'Content-Transfer-Encoding: ' + encoding.encode() + b'\n\n'
    )  # fmt: skip


@pytest.mark.parametrize(
    'raw',
    [
        HEAD + b'\n' + BODY,
        header('quoted-printable') + BODY,
        header('base64') + BODY,
        header('8bit') + BODY,
        header('quoted-printable') + quopri.encodestring(BODY),
        header('base64') + base64.encodebytes(BODY),
        HEAD + b'Content-Type: multipart/mixed;\n boundary="xx"\n\n' + BODY,
        HEAD + b'Content-Type: multipart/mixed;\n boundary="xx"\n\n--xx\n\n' + BODY + b'--xx--\n',
        (HEAD + b'\n' + BODY).replace(b'\n', b'\r\n'),
    ],
    ids=[
        'none', 'qp-undone', 'base64-undone', '8bit', 'qp', 'base64',
        'parts-undone', 'parts', 'crlf',
    ],
)  # fmt: skip
def test_the_encoding_is_undone_once(raw: bytes) -> None:
    mail = read(raw)
    assert mail.msgid == '2@example.org'
    assert mail.subject == '[PATCH 2/3] x'
    assert mail.body.rstrip() == BODY.rstrip()


@pytest.mark.parametrize(
    'raw', [b'', b'hi\n', b'\n\n\n', HEAD, b'Subject: x\n\nbody\n', b'\xff\x00']
)
def test_what_is_no_mail(raw: bytes) -> None:
    with pytest.raises(MailboxError):
        read(raw)


@pytest.mark.parametrize(
    ('text', 'blob'),
    [
        (None, None),
        ('', None),
        ('[' * 100_000, None),
        ('[]', None),
        ('{"series": 1}', None),
        ('{"series": {"thread-blob": "../x"}}', None),
        ('{"series": {"thread-blob": 7}}', None),
        ('{"series": {"thread-blob": "' + 'a' * 40 + '"}}', 'a' * 40),
    ],
)
def test_what_b4_says_of_the_thread_that_it_keeps(
    tmp_path: Path, text: str | None, blob: str | None
) -> None:
    path = tmp_path / 'tracking.json'
    if text is not None:
        path.write_text(text)
    assert thread_blob(path) == blob


# What is more than a sentence of ours, in a line that can't have it as a quoted block.
ODD = 'needs a look, for the reason below: "says \'ERROR: x\'"'

# --- what is said -------------------------------------------------------------


def rule(name: str, severity: Severity) -> Rule:
    return Rule(name, severity, lambda _: iter(()), (), ())


def review(**more: Any) -> Review:
    findings = tuple(
        finding_of(rule(name, severity), hit)
        for name, severity, hit in (
            ('of-all', Severity.WARNING, Hit(0, None, None, 'is too long')),
            ('looks', Severity.NOTE, Hit(1, FILE, 1, 'is worth a look')),
            ('breaks', Severity.ERROR, Hit(2, FILE, 1, 'breaks x', 'Could it not?')),
            ('claims', Severity.WARNING, Hit(2, None, 3, 'says "ERROR: x"\n', side='message')),
        )
    )
    builds = (
        Build('vma', 0, Passed(5)), Build('vma', 1, Passed(5)), Build('vma', 2, BuildFailed(())),
        Build('radix', 3, CouldNotRun('no cc')),
    )  # fmt: skip
    aside = Suppressed(finding_of(rule('drops', Severity.ERROR), Hit(3, FILE, 1, 'x')), 'we know')
    return Review(SUBJECT.series, SUBJECT.applied, findings, (aside,), builds, **more)


def said(found: Review, part: Part) -> tuple[str, str, list[tuple[str, str]]]:
    """Status, summary and details."""
    (one,) = json.loads(render(found, part, 'https://example.org/'))
    assert {key: type(value) for key, value in one.items()} == dict.fromkeys(
        ('tool', 'status', 'summary', 'url', 'details'), str
    )
    details = [(entry['status'], entry['description']) for entry in json.loads(one['details'])]
    return one['status'], one['summary'], details


def test_a_patch_has_its_own_findings() -> None:
    assert said(review(), Part(2, 2)) == ('fail', '1 error, 1 warning', [
        ('fail', 'mm/x.c:1: breaks x. Could it not? [breaks]'),
        ('warn', f'commit message, line 3: {ODD} [claims]'),
    ])  # fmt: skip
    assert lines(review(), Part(2, 2)) == (
        'mm/x.c:1: ERROR: breaks x. Could it not? [breaks]\n'
        f'commit message, line 3: WARNING: {ODD.replace("ERROR:", "ERROR")} [claims]\n'
    )


def test_the_first_has_those_of_the_series_too_where_no_cover_letter_is() -> None:
    assert said(review(), Part(1, 1)) == ('warn', '1 warning, 1 note', [
        ('warn', 'is too long [of-all]'),
        ('pass', 'mm/x.c:1: is worth a look [looks]'),
        ('pass', 'vma: 5 tests passed'),
    ])  # fmt: skip
    assert lines(review(), Part(1, 1)) == 'WARNING: is too long [of-all]\n'
    assert 'CHECK: is worth a look' in lines(review(), Part(1, 1), Severity.NOTE)
    assert lines(review(), Part(1, 1), Severity.ERROR) == ''


def test_the_cover_letter_has_them_all() -> None:
    status, summary, details = said(review(), Part(0, 0))
    assert (status, summary) == (
        'fail',
        '1 error, 2 warnings, 1 note; patch 3: radix tests could not run: no cc',
    )
    assert [one for _, one in details] == [
        'the series: is too long [of-all]',
        'patch 1, mm/x.c:1: is worth a look [looks]',
        'patch 2, mm/x.c:1: breaks x. Could it not? [breaks]',
        f'patch 2, commit message, line 3: {ODD} [claims]',
        'vma: 5 tests passed',
        'patch 1: vma: 5 tests passed',
        'patch 3: radix tests could not run: no cc',
        'set aside: drops: "we know"',
    ]


def test_our_own_faults_are_never_a_failure() -> None:
    assert said(review(), Part(3, 3)) == ('warn', 'radix tests could not run: no cc', [
        ('warn', 'radix tests could not run: no cc'), ('pass', 'set aside: drops: "we know"'),
    ])  # fmt: skip
    crashed = review(failures=(Failure('crashes', 'KeyError: x'), Failure('parse', 'long', 1)))
    status, summary, details = said(crashed, Part(2, 2))
    assert status == 'fail'
    assert summary.endswith('; could not check all of it: crashes: KeyError: x')
    assert len(details) == 3


AUTHOR = Author('A', 'a@example.org')
MISMATCH = 'mm/x.c: hunk 1 does not match'
APART = DoesNotApply(SUBJECT.applied.series, BASE, 2, MISMATCH)


@pytest.mark.parametrize(
    ('found', 'summary'),
    [
        (Review(APART.series, APART), f'could not check: patch 2 does not apply: {MISMATCH}'),
        (Review(Incomplete('it is torn')), 'could not check: the series is incomplete: it is torn'),
        (Review(None, failures=(Failure('input', 'no mail'),)), 'could not check: no mail'),
    ],
)  # fmt: skip
def test_what_could_not_be_checked_is_a_warning(found: Review, summary: str) -> None:
    assert said(found, Part(3, 3)) == ('warn', summary, [('warn', summary)])
    assert lines(found, Part(3, 3), Severity.ERROR) == f'WARNING: {summary}\n'


ALONE = 'judged alone: the rest of its series is not there: no archive'


def test_alone_without_those_before_it_nothing_is_a_failure() -> None:
    status, summary, details = said(review(), Part(2, 2, 'no archive'))
    assert (status, len(details)) == ('warn', 3)
    assert (
        summary
        == '1 error, 1 warning; judged alone: the rest of its series is not there: no archive'
    )
    assert said(review(), Part(1, 1, 'no archive'))[0] == 'warn'
    breaks = finding_of(rule('applies', Severity.ERROR), Hit(1, FILE, 1, 'does not apply'))
    status, summary, details = said(
        Review(APART.series, APART, (breaks,)), Part(1, 2, 'no archive')
    )
    assert status == 'warn'
    assert [one for _, one in details] == [
        ALONE,
        f'could not check: patch 2 does not apply: {MISMATCH}',
    ]
    unseen = Review(Incomplete('only the cover letter is there'))
    why = 'could not check: the series is not there: no archive'
    assert said(unseen, Part(0, 0, 'no archive')) == ('warn', why, [('warn', why)])


def test_a_strangers_text_is_harmless() -> None:
    hit = Hit(1, 'a\x1b[31m\n.c', 1, 'x\x1b[0m\nERROR: y\u202e')
    found = Review(SUBJECT.series, SUBJECT.applied, (finding_of(rule('x', Severity.WARNING), hit),))
    assert lines(found, Part(1, 1)) == (
        '"a .c":1: WARNING: needs a look, for the reason below: "x ERROR y" [x]\n'
    )
    assert '\x1b' not in render(found, Part(1, 1))


# --- the program --------------------------------------------------------------


@pytest.mark.parametrize('stdin', [b'', b'\xff\x00\n\n\xfe', HEAD + b'\nno diff\n', UNNAMED])
def test_whatever_comes_in_json_comes_out(
    bot: Bot, sample: Demo, tmp_path: Path, stdin: bytes
) -> None:
    config = tmp_path / 'config.toml'
    config.write_text('[lore]\nurl = "http://127.0.0.1:9"\n')
    words = ('check', '--config', config, '--tree', sample.tree, '-')
    result = bot(*words, '--format', 'b4', stdin=stdin)
    assert (result.code, result.err) == (0, '')
    (one,) = json.loads(result.out)
    assert one['status'] == 'warn'
    assert 'could not check' in one['details']
    result = bot(*words, '--format', 'b4-am', stdin=stdin, env={'PYTHONIOENCODING': 'ascii'})
    assert (result.code, result.err) == (0, '')
    assert 'WARNING: could not check' in result.out


def test_only_the_mail_that_b4_hands_over(bot: Bot, sample: Demo) -> None:
    result = bot('check', '--format', 'b4', '--tree', sample.tree, sample.mbox)
    assert (result.code, result.out) == (2, '')
    assert result.err == 'bot: --format b4 judges the mail that b4 hands it: name -\n'
