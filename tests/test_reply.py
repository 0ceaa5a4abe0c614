"""Replies, compared whole with tests/golden/reply-*.mbox."""

from collections.abc import Callable
from dataclasses import replace
from email import message_from_bytes
from email.policy import default
from typing import Any

import pytest

from bot.errors import ReplyError
from bot.model import Evidence, Failure, Mail, Review, Severity, Suppressed
from bot.outgoing import Asked, History, Reply
from bot.output import mbox
from bot.reply import Writer, check_templates, sentence
from tests.replying import (
    AUTHOR,
    BASE,
    BEFORE,
    FILE,
    HISTORY,
    LETTERHEAD,
    LIST,
    OTHER_LIST,
    POLICY,
    edited,
    finding,
    hit,
    mail,
    reviewed,
    well_formed,
)

ONE = edited(line_12='long line_12;')
TWO = edited(line_12='long line_12;', line_30='long line_30;')


def written(review: Review, history: History = HISTORY, **more: Any) -> tuple[Reply, ...]:
    thread = {one.msgid: one for one in review.thread if one.msgid is not None}
    writer = replace(Writer(POLICY, LETTERHEAD, history, thread), **more)
    return writer.compose(review)


def one_finding() -> Review:
    return reviewed([ONE], [finding(hit(12))])


def two_at_one_line() -> Review:
    return reviewed([ONE], [finding(hit(12)), finding(hit(12, 'adds a long'), 'const-cast')])


def two_in_one_hunk() -> Review:
    text = edited(**{f'line_{n}': f'long line_{n};' for n in range(8, 28)})
    return reviewed(
        [text], [finding(hit(9)), finding(hit(26, 'calls f(), which nothing declares'))]
    )


def two_hunks() -> Review:
    return reviewed([TWO], [finding(hit(12)), finding(hit(30, 'the copy of f() is stale'))])


def removed_line() -> Review:
    return reviewed([edited(line_12='')], [finding(hit(12, 'f() goes here', side='old'))])


def in_the_message() -> Review:
    message = 'This does what has to be done,\nand calls vma_do_it_all() for it.\n\nMore of it.'
    said = hit(
        4, 'vma_do_it_all() is neither in the tree nor in this series', path=None, side='message'
    )
    return reviewed([ONE], [finding(said, 'identifier-typo')], messages={1: message})


def without_a_line() -> Review:
    return reviewed([ONE], [finding(hit(None, 'leaves its copy as it was'))])


def much_evidence() -> Review:
    places = tuple(Evidence('mm/util.c', n, f'\tuse_of_it({n});') for n in range(1, 9))
    return reviewed([ONE], [finding(hit(12, evidence=places))])


def of_the_series() -> Review:
    message = 'the cover letter says this, and no patch touches them'
    said = hit(None, message, n=0, path=None, said=('tests updated',))
    return reviewed([ONE, TWO], [finding(hit(12)), finding(said, 'message-claims-tests')])


def many_patches() -> Review:
    texts, found, lines = [], [], {}
    for n in range(1, 7):
        lines[f'line_{n * 5}'] = f'long line_{n * 5};'
        texts.append(edited(**lines))
        if n != 3:
            found.append(finding(hit(n * 5, n=n)))
    return reviewed(texts, found)


def three_patches() -> Review:
    texts = [ONE, TWO, edited(line_12='long line_12;', line_30='long line_30;', line_40='')]
    found = [finding(hit(12)), finding(hit(30, n=2)), finding(hit(40, n=3, side='old'))]
    return reviewed(texts, found)


def no_cover() -> Review:
    said = hit(None, 'the drift of patch 1 is closed only by patch 2', n=0, path=None)
    return reviewed([ONE, TWO], [finding(said, 'vma-test-order')], cover=False)


def one_patch_and_its_series() -> Review:
    said = hit(None, 'says this, and touches none', n=0, path=None, said=('tests updated',))
    return reviewed([ONE], [finding(hit(12)), finding(said, 'message-claims-tests')])


def broken_build() -> Review:
    place = Evidence('mm/vma.c', 12, 'vma_count(vma);')
    message = 'breaks the vma tests at 1/2 (mended at 2/2)'
    words = ("undefined reference to 'vma_count'",)
    said = hit(12, message, advice='Could a stub go into stubs.h?', evidence=(place,), said=words)
    return reviewed([ONE, TWO], [finding(said, 'vma-test-build', Severity.ERROR)])


def not_ascii() -> Review:
    text = edited(line_12='char *line_12 = "größer 日本";')
    author = '=?utf-8?b?SsO2cmcgw4RuZ3N0bGljaA==?= <joerg@example.org>'
    return reviewed([text], [finding(hit(12))], author=author)


def latin_one() -> Review:
    review = one_finding()
    assert review.applied is not None
    (step,) = review.applied.steps
    (file,) = step.files
    (hunk,) = file.hunks
    lines = tuple(
        line.replace(b'long line_12;', b'long line_12; /* \xfcber\x1b[31m */\r')
        for line in hunk.lines
    )
    changed = replace(step, files=(replace(file, hunks=(replace(hunk, lines=lines),)),))
    return replace(review, applied=replace(review.applied, steps=(changed,)))


def long_headers() -> Review:
    review = one_finding()
    parents = [f'a-rather-long-message-id.{n}.of.an.old.thread@mail.example.org' for n in range(40)]
    subject = f'[PATCH RFC net-next] mm: {"change a thing and " * 9}mend it'
    answered = mail('patch-1@x', subject, parents=parents)
    return replace(review, thread=(answered,))


def like_a_from_line() -> Review:
    text = edited(line_12='From here on this is a long one;')
    return reviewed([text], [finding(hit(12, 'from here on it is long'))])


REVIEWS: dict[str, Callable[[], Review]] = {
    'one-finding': one_finding,
    'two-at-one-line': two_at_one_line,
    'two-in-one-hunk': two_in_one_hunk,
    'two-hunks': two_hunks,
    'removed-line': removed_line,
    'in-the-message': in_the_message,
    'without-a-line': without_a_line,
    'much-evidence': much_evidence,
    'of-the-series': of_the_series,
    'many-patches': many_patches,
    'three-patches': three_patches,
    'no-cover': no_cover,
    'one-patch-and-its-series': one_patch_and_its_series,
    'broken-build': broken_build,
    'not-ascii': not_ascii,
    'latin-1': latin_one,
    'long-headers': long_headers,
    'like-a-from-line': like_a_from_line,
}


@pytest.mark.parametrize('name', REVIEWS)
def test_the_mails_of_a_review(name: str, golden: Callable[[str, str], None]) -> None:
    replies = written(REVIEWS[name]())
    assert replies
    golden(f'reply-{name}.mbox', mbox.render(replies).decode())
    for reply in replies:
        well_formed(reply)


FAILED = Failure('vma', 'no compiler')
SECOND = Asked(1, 'gone', 'struct-doc-stale', 'mm/vma.c', 'struct vma')


def known(*asked: Asked) -> History:
    return replace(HISTORY, asked=asked)


def test_what_became_of_earlier_remarks(golden: Callable[[str, str], None]) -> None:
    review = reviewed([ONE], [finding(hit(12))], revision=2)
    still = Asked(1, review.findings[0].fingerprint, 'vma-test-drift', FILE, None)
    golden('reply-v2.mbox', mbox.render(written(review, known(still, SECOND))).decode())


def test_what_could_not_be_looked_at_is_not_called_fixed() -> None:
    review = replace(reviewed([ONE], [finding(hit(12))], revision=2), failures=(FAILED,))
    (reply,) = written(review, known(SECOND))
    assert b'fixed' not in reply.raw


def test_what_is_set_aside_now_is_not_called_fixed() -> None:
    aside = replace(finding(hit(30)), fingerprint='gone')
    review = reviewed([ONE], [finding(hit(12))], revision=2)
    review = replace(review, suppressed=(Suppressed(aside, 'on purpose'),))
    (reply,) = written(review, known(SECOND))
    assert b'fixed' not in reply.raw


def test_what_is_acknowledged_does_not_come_again() -> None:
    review = reviewed([TWO], [finding(hit(12)), finding(hit(30, 'x'), 'const-cast')])
    (reply,) = written(review, replace(HISTORY, acked=frozenset({'const-cast'})))
    assert b'const-cast' not in reply.raw
    assert (
        written(review, replace(HISTORY, acked=frozenset({'const-cast', 'vma-test-drift'}))) == ()
    )


def test_a_note_is_not_mailed_unless_it_is_asked_for() -> None:
    note = finding(hit(12), 'const-cast', Severity.NOTE)
    review = reviewed([ONE], [note])
    assert written(review) == ()
    assert len(written(review, policy=replace(POLICY, severity=Severity.NOTE))) == 1


def test_whom_it_goes_to(golden: Callable[[str, str], None]) -> None:
    people = 'Opted Out <out@example.org>, syzbot+1@syzkaller.example, <bad>, x y z'
    review = reviewed([ONE], [finding(hit(12))], cc=f'{LIST}, {OTHER_LIST}, {people}, {AUTHOR}')
    history = replace(HISTORY, opted_out=frozenset({'out@example.org'}))
    (reply,) = written(review, history)
    golden('reply-recipients.mbox', mbox.render((reply,)).decode())
    assert reply.recipients == ('ann@example.org', 'mo@example.net', LIST)
    assert reply.lists == (LIST,)
    (reply,) = written(review, history, policy=replace(POLICY, recipients='author'))
    assert reply.recipients == ('ann@example.org',)


def test_a_patch_that_went_to_no_consented_list_is_not_answered() -> None:
    review = reviewed([ONE], [finding(hit(12))], cc=OTHER_LIST)
    assert written(review) == ()
    (reply,) = written(review, anyway=True)
    assert reply.recipients == ('ann@example.org', 'mo@example.net')


def test_a_list_that_maintainers_name_is_one() -> None:
    review = reviewed([ONE], [finding(hit(12))], cc=f'{LIST}, odd-name@example.org')
    (reply,) = written(review, lists=frozenset({'odd-name@example.org'}))
    assert reply.recipients == ('ann@example.org', 'mo@example.net', LIST)


def test_commits_are_shown_as_if_they_had_been_mailed(golden: Callable[[str, str], None]) -> None:
    review = one_finding()
    assert review.series is not None
    patches = tuple(replace(one, msgid=None, commit='a' * 40) for one in review.series.patches)
    series = replace(review.series, msgid=None, patches=patches)
    replies = written(replace(review, series=series, thread=()), anyway=True)
    golden('reply-commits.mbox', mbox.render(replies).decode())


def test_the_same_review_gives_the_same_mail_at_another_time() -> None:
    (first,), (second,) = (
        written(one_finding(), replace(HISTORY, now=HISTORY.now + seconds)) for seconds in (0, 999)
    )
    assert first.msgid == second.msgid
    assert first.raw != second.raw  # its date is another
    (other,) = written(reviewed([ONE], [finding(hit(12, 'adds more'))]))
    assert other.msgid != first.msgid


def test_an_operators_words() -> None:
    own = {
        **LETTERHEAD.templates,
        'signature': 'Ask {{ contact }}; {{ places | length }} places.\n',
    }
    (reply,) = written(one_finding(), letterhead=replace(LETTERHEAD, templates=own))
    assert reply.raw.endswith(b'\n-- \nAsk humans@bot.example; 1 places.\n')


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('{% if %}', 'template signature (line 1)'),
        ('{{ nothing_like_it }}', 'nothing_like_it'),
        ("{{ ''.__class__.__mro__ }}", 'unsafe'),
    ],
)
def test_a_template_that_does_not_work(text: str, said: str) -> None:
    own = {**LETTERHEAD.templates, 'signature': text}
    with pytest.raises(ReplyError) as caught:
        written(one_finding(), letterhead=replace(LETTERHEAD, templates=own))
    assert said in str(caught.value)


def test_a_template_is_read_before_it_is_needed() -> None:
    check_templates(LETTERHEAD.templates)
    with pytest.raises(ReplyError, match=r'template patch \(line 2\)'):
        check_templates({'patch': 'x\n{% endif %}'})


def test_a_strangers_text_is_no_template() -> None:
    review = reviewed(
        [edited(line_12='{{ 7 * 7 }} {% raw %}')], [finding(hit(12, 'adds {{ 7 * 7 }}'))]
    )
    (reply,) = written(review)
    assert b'> +{{ 7 * 7 }} {% raw %}\n' in reply.raw
    assert b'| adds {{ 7 * 7 }}\n' in reply.raw


ENCODED = '=?utf-8?q?A=0ABcc:_all=40example.org?='
HOSTILE = {
    'subject': mail('patch-1@x', '[PATCH] x\n Bcc: all@example.org\n X: y'),
    'encoded': mail('patch-1@x', '=?utf-8?q?=5BPATCH=5D_x=0D=0ABcc=3A_all=40example=2Eorg?='),
    'long': mail('patch-1@x', f'[PATCH] {"x" * (1 << 20)}'),
    'long-words': mail('patch-1@x', f'[PATCH] {"ü " * (1 << 16)}'),
    'name': mail('patch-1@x', '[PATCH] x', author=f'{ENCODED} <a@example.org>'),
    'address': mail('patch-1@x', '[PATCH] x', to='"a\r\nBcc: all@example.org" <b@example.org>'),
    'two-addresses': mail('patch-1@x', '[PATCH] x', to='a@b.example\x00@c.example, <a b@c.ex>'),
    'msgid': mail('patch-1@x> <other@x', '[PATCH] x'),
    'control-msgid': mail('patch\x1b[31m-1@x', '[PATCH] x'),
    'references': mail('patch-1@x', '[PATCH] x', parents=['a@x>\n Bcc: <b@x', 'c@x']),
    'date': mail('patch-1@x', '[PATCH] x', more='Date: \x1b[2J\n\tmore'),
    'bidi': mail('patch-1@x', '[PATCH] \u202eevil\u2066'),
    'many': mail('patch-1@x', '[PATCH] x', to=', '.join(f'a{n}@example.org' for n in range(5000))),
}  # fmt: skip


@pytest.mark.parametrize('name', HOSTILE)
def test_a_hostile_mail_gets_no_header_of_its_own(name: str) -> None:
    answered: Mail = HOSTILE[name]
    review = replace(one_finding(), thread=(replace(answered, msgid='patch-1@x'),))
    for reply in written(review, anyway=True):
        read = message_from_bytes(reply.raw, policy=default)
        assert set(read.keys()) <= {
            'From', 'To', 'Cc', 'Reply-To', 'Subject', 'Date', 'Message-ID', 'In-Reply-To',
            'References', 'Auto-Submitted', 'MIME-Version', 'Content-Type',
            'Content-Transfer-Encoding',
        }  # fmt: skip
        assert 'all@example.org' not in reply.recipients
        assert not set('\u202e\u2066\x1b') & set(reply.raw.decode())
        assert len(reply.recipients) <= 210
        assert len(reply.raw) < 1 << 17
        well_formed(reply)


@pytest.mark.parametrize(
    ('message', 'advice', 'said'),
    [
        ('drops const from mm', 'Is that meant?', 'This drops const from mm. Is that meant?'),
        ('the copy of f() differs', None, 'The copy of f() differs.'),
        ('f() is used', 'Why?', 'f() is used. Why?'),
        ('struct x changes', None, 'struct x changes.'),
        ('calls f(), which nothing declares', None, 'This calls f(), which nothing declares.'),
    ],
)
def test_a_message_becomes_a_sentence(message: str, advice: str | None, said: str) -> None:
    assert sentence(hit(1, message, advice=advice)) == said


def test_of_the_series_it_says_so() -> None:
    assert sentence(hit(None, 'adds nothing', n=0, advice=None)) == 'This series adds nothing.'


def test_base_is_named_without_a_path() -> None:
    base = replace(BASE, tree='/srv/secret/linux.git', why='a ref of /srv/secret/linux.git')
    review = one_finding()
    assert review.applied is not None
    (reply,) = written(replace(review, applied=replace(review.applied, base=base)))
    assert b'/srv' not in reply.raw
    assert b'a ref of linux.git' in reply.raw


def test_nothing_to_say_is_no_mail() -> None:
    assert written(reviewed([BEFORE], [])) == ()
