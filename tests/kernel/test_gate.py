"""The gate on a real kernel: who looks after which file is said by the kernel's own script."""

from pathlib import Path

from bot.model import Limits
from bot.reviewers import people
from bot.sandbox import Cage
from bot.tree import Quarantine
from tests.conftest import Bot
from tests.gitrepo import Repo
from tests.kernel.seed import borrowing

PATH = 'mm/vma.c'


def commit(repo: Repo, base: str, trailers: str, files: dict[str, bytes]) -> str:
    message = (
        f'mm/vma: a comment\n\nBecause.\n\n{trailers}Signed-off-by: A Developer <dev@example.org>\n'
    )
    return repo.commit(repo.write(files, base), message, base, 'topic')


def test_reviews_are_counted_by_the_kernels_own_list(
    bot: Bot, kernel: Path, tmp_path: Path
) -> None:
    repo = borrowing(kernel, tmp_path / 'repo.git')
    base = Repo(kernel, existing=True).git('rev-parse', 'HEAD').decode().strip()
    text = repo.git('cat-file', 'blob', f'{base}:{PATH}')
    with Quarantine(kernel) as quarantine:
        ground = quarantine.at(base)
        known = people(Cage(Limits()), ground, {1: [PATH], 2: ['mm/brand_new.c'], 3: []})
    assert len(known[1]) >= 2
    assert known[3] == frozenset()
    first, second, *_ = sorted(known[1])
    config = tmp_path / 'config.toml'
    config.write_text('[gate]\nreviews = 2\n')
    # That the range makes itself its own maintainer does not count: the base is asked.
    own = {
        PATH: text + b'/* a comment */\n',
        'MAINTAINERS': b'EVERYTHING\nM:\tA Friend <friend@example.org>\nF:\tmm/\n',
    }
    for trailers, code in (
        (f'Reviewed-by: X <{first}>\n', 1),
        ('Reviewed-by: A Friend <friend@example.org>\nAcked-by: B <b@example.org>\n', 1),
        (f'Reviewed-by: X <{first}>\nAcked-by: Y <{second.upper()}>\n', 0),
    ):
        tip = commit(repo, base, trailers, own)
        said = bot('gate', '-q', '--config', config, '--harness', 'none', '--tree', repo.path,
                   '--rules', 'review-coverage', f'{base}..{tip}')  # fmt: skip
        assert said.code == code, said.out + said.err
        assert ('[review-coverage]' in said.out) is bool(code)
