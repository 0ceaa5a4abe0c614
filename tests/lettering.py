"""Mails as a list would bring them: series of any shape, for the tests of store and watcher."""

from dataclasses import dataclass

from bot.events import EVENTS, LEVELS, Tell, sentence
from bot.outgoing import Silent
from bot.respond import Response

QUIET = Response(Silent('nothing found'))
DIFF = """diff --git a/{path} b/{path}
index 1111111..2222222 100644
--- a/{path}
+++ b/{path}
@@ -1 +1,2 @@
 int x;
+int y{what};
"""


def telling(said: list[str] | None = None) -> Tell:
    """Keep what is told in `said`, as people see it without -v; each event has to be known."""

    def tell(event: str, /, **values: object) -> None:
        words = sentence(event, values)
        if said is not None and EVENTS[event].level != LEVELS[0]:
            said.append(words)

    return tell


@dataclass(frozen=True)
class Post:
    """One mail to be."""

    msgid: str
    raw: bytes


def post(
    msgid: str,
    subject: str,
    body: str,
    *parents: str,
    author: str = 'dev@example.org',
    date: str = 'Fri, 20 Mar 2026 09:46:40 +0000',
) -> Post:
    """A mail; `parents` from the root to the one it answers."""
    heads = [f'From: A Developer <{author}>', f'Date: {date}', f'Message-ID: <{msgid}>']
    if parents:
        heads.append(f'In-Reply-To: <{parents[-1]}>')
        heads.append(f'References: {" ".join(f"<{one}>" for one in parents)}')
    heads.append(f'Subject: {subject}')
    return Post(msgid, ('\n'.join(heads) + f'\n\n{body}').encode())


def series(
    name: str,
    of: int = 3,
    revision: int = 1,
    *,
    cover: bool = True,
    path: str = 'mm/vma.c',
    prefix: str = 'PATCH',
    answers: tuple[str, ...] = (),
    deep: bool = False,
    author: str = 'dev@example.org',
    title: str | None = None,
) -> list[Post]:
    """A series `name`: cover letter (where there is one) and patches, in order."""
    title = title or name
    version = f' v{revision}' if revision > 1 else ''
    found: list[Post] = []
    root = answers
    if cover and of > 1:
        first = post(
            f'{name}.{revision}.0@x', f'[{prefix}{version} 0/{of}] mm: {title}', 'Hello.\n',
            *answers, author=author,
        )  # fmt: skip
        found.append(first)
        root = (*answers, first.msgid)
    for n in range(1, of + 1):
        count = f' {n}/{of}' if of > 1 else ''
        one = post(
            f'{name}.{revision}.{n}@x', f'[{prefix}{version}{count}] mm: {title} part {n}',
            f'Because.\n\nSigned-off-by: A Developer <{author}>\n---\n'
            + DIFF.format(path=path, what=f'{name}{revision}_{n}'),
            *root, author=author,
        )  # fmt: skip
        if of > 1 and (deep or not root):
            root = (*root, one.msgid)
            if not deep:
                root = root[: len(answers) + 1]
        found.append(one)
    return found


def answer(to: Post, name: str, body: str = 'Acked-by: B Reviewer <b@example.org>\n') -> Post:
    """A reply to a mail."""
    subject = next(
        line.removeprefix(b'Subject: ').decode()
        for line in to.raw.split(b'\n')
        if line.startswith(b'Subject: ')
    )
    return post(f'{name}@x', f'Re: {subject}', body, to.msgid, author='b@example.org')


def raw_series(name: str, of: int, revision: int = 1) -> list[bytes]:
    """The bytes of a series' mails."""
    return [one.raw for one in series(name, of, revision)]
