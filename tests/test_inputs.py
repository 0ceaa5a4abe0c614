"""The inputs campaign, a short one, and its table of reasons."""

from pathlib import Path

import pytest

from bot.series import parse_mail
from tests.torture import inputs, reasons, threads
from tests.torture.verdicts import Desk, Said

pytestmark = pytest.mark.slow


def test_git_b4_and_the_bot_make_the_same_of_generated_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('CASES', '60')
    found = inputs.campaign('sqlite', 0, 21, tmp_path, print)
    assert found.problems == ()
    assert found.good
    assert found.cases == found.same + found.refused + found.explained == 60
    assert found.same > 20
    assert {name for name, _ in found.reasons} <= {*reasons.SAID}


def test_a_seed_repeats_a_case(tmp_path: Path) -> None:
    one, two = (Desk(tmp_path / name) for name in ('one', 'two'))
    for number in range(20):
        first = threads.case(one.repo, one.git, 5, number)
        assert first == threads.case(two.repo, two.git, 5, number)
        assert all(parse_mail(first.mails[n]).msgid for n in first.meant)


def test_another_tree_is_never_explained_where_nothing_odd_was_done(tmp_path: Path) -> None:
    """A table of reasons that explains anything holds nothing."""
    desk = Desk(tmp_path / 'desk')
    case = threads.case(desk.repo, desk.git, 5, 1)
    plain = threads.Case(1, case.base, case.on, case.mails, case.meant, frozenset({'plain'}))
    one, two = Said('1' * 40), Said('2' * 40)
    asked = reasons.Asked(plain, two, two, b'', one, two)
    for pair in ('git', 'text', 'watch', 'program'):
        assert reasons.reason(pair, asked) is None
