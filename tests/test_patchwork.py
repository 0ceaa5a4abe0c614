"""Checks in Patchwork: posted once, by whom it may, and refused in one line."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bot.errors import PatchworkError
from bot.model import (
    CheckState,
    DoesNotApply,
    Hit,
    Incomplete,
    PatchCheck,
    Patchwork,
    Review,
    Series,
    Severity,
)
from bot.output.patchwork import checks
from bot.patchwork import Client
from bot.rule import BASE, Case, Edit, Rule, finding_of, subject_of
from tests.patchworkserver import Server, serving
from tests.services.publicinbox import free_port

TOKEN = 'a1b2c3d4'
CHECK = PatchCheck('20260320.2@example.org', 'warning', '1 warning')


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as state:
        state.tokens[TOKEN] = 'vma-bot'
        state.patches = {n: f'<20260320.{n}@example.org>' for n in range(1, 6)}
        yield state


@pytest.fixture
def settings(server: Server, tmp_path: Path) -> Patchwork:
    token = tmp_path / 'token'
    token.write_text(f'{TOKEN}\n')
    token.chmod(0o600)
    return Patchwork(server.url, 'linux-mm', str(token), 'vma-bot')


def refused(settings: Patchwork, check: PatchCheck = CHECK) -> str:
    with pytest.raises(PatchworkError) as error:
        Client(settings).report(check)
    said = str(error.value)
    assert '\n' not in said
    assert TOKEN not in said
    return said


def test_a_check_is_posted_once(server: Server, settings: Patchwork) -> None:
    assert Client(settings).report(CHECK)
    assert not Client(settings).report(CHECK)
    assert server.said(2) == [('warning', '1 warning')]
    (check,) = server.checks[2]
    assert (check['user']['username'], check['context']) == ('vma-bot', 'vma-review-bot')
    assert check['target_url'] is None
    assert server.posts() == 1


def test_what_has_changed_is_posted(server: Server, settings: Patchwork) -> None:
    client = Client(settings)
    said: list[tuple[CheckState, str]] = [
        ('fail', '1 error'), ('success', 'no findings'), ('success', 'no findings'),
        ('success', 'no findings; set aside'), ('fail', '1 error'),
    ]  # fmt: skip
    posted = [client.report(PatchCheck(CHECK.msgid, *one)) for one in said]
    assert posted == [True, True, False, True, True]
    assert server.said(2) == [*said[:2], *said[3:]]


def test_others_checks_are_not_ours(server: Server, settings: Patchwork) -> None:
    said = {'state': 'warning', 'description': '1 warning'}
    server.add_check(2, 'somebody', context='vma-review-bot', **said)
    server.add_check(2, 'vma-bot', context='other', **said)
    assert Client(settings).report(CHECK)
    for n in range(7):  # several pages of others' in between
        server.add_check(2, f'ci-{n}', context='vma-review-bot', state='fail')
    assert not Client(settings).report(CHECK)
    anybodys = replace(settings, user='')
    assert Client(anybodys).report(CHECK)
    assert server.posts() == 2


def test_the_newest_is_on_the_last_page(server: Server, settings: Patchwork) -> None:
    for n in range(9):
        server.add_check(2, 'vma-bot', context='vma-review-bot', state='fail', description=str(n))
    assert Client(settings).newest(2) == ('fail', '8')
    pages = [path for _, path, _ in server.asked]
    assert len(pages) == 5


def test_a_link_to_the_mail(server: Server, settings: Patchwork) -> None:
    server.patches[9] = '<a+b/c@example.org>'
    linked = replace(settings, target_url='https://lore.kernel.org/r/{msgid}')
    assert Client(linked).report(PatchCheck('a+b/c@example.org', 'success', 'no findings'))
    assert server.checks[9][0]['target_url'] == 'https://lore.kernel.org/r/a%2Bb%2Fc@example.org'
    # One that Patchwork would refuse is left out.
    assert Client(replace(linked, target_url='https://x/' + 'y' * 200)).report(CHECK)
    assert server.checks[2][0]['target_url'] is None


def test_the_token_is_sent_only_to_post(server: Server, settings: Patchwork) -> None:
    Client(settings).report(CHECK)
    assert [(method, bool(token)) for method, _, token in server.asked] == [
        ('GET', False), ('GET', False), ('POST', True),
    ]  # fmt: skip


def test_a_netrc_does_not_take_the_tokens_place(
    server: Server, settings: Patchwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / 'netrc'
    netrc.write_text('machine 127.0.0.1 login x password y\n')
    monkeypatch.setenv('NETRC', str(netrc))
    assert Client(settings).report(CHECK)
    assert [token for _, _, token in server.asked] == [None, None, f'Token {TOKEN}']


# --- what goes wrong ----------------------------------------------------------


def test_no_such_patch(server: Server, settings: Patchwork) -> None:
    said = refused(settings, PatchCheck('none@example.org', 'success', 'x'))
    assert said.endswith('project linux-mm: there is no patch <none@example.org>')
    assert 'there is no patch' in refused(replace(settings, project='other'))


def test_a_token_that_is_refused(server: Server, settings: Patchwork) -> None:
    server.tokens.clear()
    assert 'answers 401 to a check of <20260320.2@example.org>: Invalid token.' in refused(settings)


def test_a_field_that_is_refused(server: Server, settings: Patchwork) -> None:
    said = refused(replace(settings, context='no slug'))
    assert "answers 400 to a check of <20260320.2@example.org>: context: ['Enter a" in said


@pytest.mark.parametrize(
    ('broken', 'said'),
    [
        ((500, b'<html>oops', {}), 'answers 500 to patches/'),
        ((200, b'<html>', {}), 'patches/: not JSON'),
        ((200, b'{"a": 1}', {}), 'patches/: not a list'),
        ((200, b'[1, null, {"id": "x"}]', {}), 'there is no patch'),
        ((403, b'{"detail": "no\\nway\\u001b[31m"}', {}), 'answers 403 to patches/: no way'),
        ((301, b'', {'Location': 'https://elsewhere.invalid/'}),
         'moves to https://elsewhere.invalid/: name that in [patchwork] url'),
    ],
)  # fmt: skip
def test_a_server_that_misbehaves(
    server: Server, settings: Patchwork, broken: tuple[int, bytes, dict[str, str]], said: str
) -> None:
    server.broken = broken
    assert said in refused(settings)


def test_nobody_listens(settings: Patchwork) -> None:
    port = free_port()
    said = refused(replace(settings, url=f'http://127.0.0.1:{port}'))
    assert said.startswith(f'127.0.0.1:{port} can not be reached: ')
    assert 'refused' in said


@pytest.mark.parametrize(
    ('text', 'mode', 'said'),
    [
        (None, 0, 'No such file or directory'),
        ('x', 0o604, 'others may read the token: chmod 600'),
        ('', 0o600, 'no token in it'),
        ('two words', 0o600, 'no token in it'),
        ('two\nlines', 0o600, 'no token in it'),
    ],
)
def test_a_token_file_that_is_of_no_use(
    server: Server, settings: Patchwork, text: str | None, mode: int, said: str
) -> None:
    path = Path(settings.token_file)
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
        path.chmod(mode)
    found = refused(settings)
    assert found.startswith('[patchwork] token_file: ')
    assert said in found
    assert server.posts() == 0


# --- what is told of a review -------------------------------------------------


def posted(**more: Any) -> Series:
    series = subject_of(Case({'x.c': 'a\n'}, (Edit({'x.c': 'b\n'}), Edit({'x.c': 'c\n'})))).applied
    patches = tuple(replace(one, msgid=f'{one.n}@x') for one in series.series.patches)
    return replace(series.series, patches=patches, **more)


def test_each_patch_has_its_state() -> None:
    series = posted(cover='all of it')
    applied = subject_of(Case({'x.c': 'a\n'}, (Edit({'x.c': 'b\n'}), Edit({'x.c': 'c\n'})))).applied
    rule = Rule('says', Severity.WARNING, lambda _: iter(()), (), ())
    hits = (Hit(0, None, None, 'is long'), Hit(2, 'x.c', 1, 'x', severity=Severity.ERROR))
    review = Review(series, applied, tuple(finding_of(rule, hit) for hit in hits))
    assert checks(review) == (
        PatchCheck('1@x', 'warning', '1 warning'), PatchCheck('2@x', 'fail', '1 error'),
    )  # fmt: skip
    assert checks(Review(series, applied)) == (
        PatchCheck('1@x', 'success', 'no findings'), PatchCheck('2@x', 'success', 'no findings'),
    )  # fmt: skip


def test_what_could_not_be_checked_is_a_warning() -> None:
    series = posted()
    apart = DoesNotApply(series, BASE, 2, 'x.c: does not match')
    said = 'could not check: patch 2 does not apply: x.c: does not match'
    assert checks(Review(series, apart)) == (
        PatchCheck('1@x', 'warning', said), PatchCheck('2@x', 'warning', said),
    )  # fmt: skip
    torn = Incomplete('patch 2 of 2 is missing', patches=series.patches[:1])
    assert [one.state for one in checks(Review(torn))] == ['warning']
    assert checks(Review(None)) == ()


def test_commits_have_no_checks() -> None:
    subject = subject_of(Case({'x.c': 'a\n'}, (Edit({'x.c': 'b\n'}),)))
    assert checks(Review(subject.series, subject.applied)) == ()
