"""
Threads by chance: format-patch as people run it, wires, damages, answers, revisions.

A `Case` says which of its mails are the series that is meant, so that `git am`
can be asked about these alone.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random

import pygit2

from bot.series import split
from tests.torture import trees, wires

Git = Callable[..., bytes]
OPTIONS: dict[str, tuple[str, ...]] = {
    'plain': (), 'no-prefix': ('--no-prefix',), 'mnemonic': ('--src-prefix=i/', '--dst-prefix=w/'),
    'src-prefix': ('--src-prefix=old/', '--dst-prefix=new/'), 'unnumbered': ('-N',),
    'subject-prefix': ('--subject-prefix=PATCH mm-unstable',), 'rfc': ('--rfc',), 'v2': ('-v2',),
    'cover': ('--cover-letter',), 'base': ('--base={base}',), 'attach': ('--attach',),
    'inline': ('--inline',), 'full-index': ('--full-index',), 'no-renames': ('--no-renames',),
    'one-line': ('-U1',), 'no-context': ('-U0',), 'no-binary': ('--no-binary',),
    'no-signature': ('--no-signature',), 'numbered': ('-n',), 'no-from': ('--no-from',),
    'patience': ('--patience', '-U7'), 'copies': ('-C', '--find-copies-harder'),
    'no-encoding': ('--no-encode-email-headers',), 'rewrite': ('-B',),
}  # fmt: skip
FORMAT_WEIGHTS = {'plain': 8, 'cover': 3}
SENDER = 'A Developer <dev@example.org>'
ANSWER = 'From: {who}\nDate: {date}\nSubject: {subject}\nMessage-ID: <{msgid}>\n'
SUGGESTED = (
    'diff --git a/mm/vma.c b/mm/vma.c\n--- a/mm/vma.c\n+++ b/mm/vma.c\n@@ -1 +1 @@\n-x\n+y\n'
)
NASTY = ('rtl', 'no-msgid', 'loop', 'long')


@dataclass(frozen=True)
class Case:
    """
    A thread in the order in which it came, and where it is to be applied.

    `meant` are the mails of the newest series, in order; none where a part of
    it is not there. `on` is the commit. `did` names all that was done.
    """

    number: int
    base: str
    on: str
    mails: tuple[bytes, ...]
    meant: tuple[int, ...]
    did: frozenset[str]
    touched: tuple[str, ...] = ()
    revision: int = 1
    files: tuple[bytes, ...] = field(default=())
    """The series as files of format-patch, where it is handed over as such."""


def case(repo: pygit2.Repository, git: Git, seed: int, number: int) -> Case:
    """Return case `number` of a seed."""
    choose = Random(f'{seed} {number}')
    files = trees.tree(choose)
    base = trees.commit(repo, choose, files, 'base\n', None)
    did: set[str] = set()
    commits = [base]
    subjects = choose.sample(trees.SUBJECTS, len(trees.SUBJECTS))
    for _ in range(choose.choice([1, 1, 1, 2, 2, 3, 4])):
        step = trees.change(choose, files)
        files, did = step.files, did | step.did
        message = trees.message(choose, subjects.pop())
        commits.append(trees.commit(repo, choose, files, message, commits[-1]))
    names, weights = [*OPTIONS], [FORMAT_WEIGHTS.get(one, 1) for one in OPTIONS]
    option = choose.choices(names, weights)[0]
    raws = _formatted(git, repo, option, commits)
    did.add(option)
    on = _base(choose, repo, commits, did)
    posts = [*raws]
    if choose.random() < 0.45:
        name = choose.choice(sorted(wires.WIRES))
        posts, did = _wired(posts, wires.WIRES[name], name), did | {name}
    elif choose.random() < 0.2 and len(raws) > 1:
        name, written = wires.subjects(choose)
        posts, did = _wired(posts, written, name), did | {name}
    if choose.random() < 0.15:
        posts = _damaged(choose, posts, did)
    revision = 2 if option == 'v2' else 1
    whole = Case(number, str(base), str(on), (), (), frozenset(did), (), revision)
    if choose.random() < 0.15 and not any(one in did for one in ('crlf',)):
        return replace(
            whole, files=tuple(posts), did=frozenset(did | {'files'}),
            mails=tuple(_threaded(posts, f'{number}.{seed}')), meant=_patches(posts),
        )  # fmt: skip
    return _in_thread(choose, whole, posts, f'{number}.{seed}')


def _formatted(
    git: Git, repo: pygit2.Repository, option: str, commits: Sequence[pygit2.Oid]
) -> list[bytes]:
    base, tip = commits[0], commits[-1]
    words = [one.format(base=base) for one in OPTIONS[option]]
    repo.references.create('refs/heads/tip', tip, force=True)
    raw = git('format-patch', '--stdout', f'--from={SENDER}', *words, f'{base}..tip')
    found = [one if one.endswith(b'\n') else one + b'\n' for one in split(raw)]
    if option == 'cover':
        found[0] = found[0].replace(b'*** SUBJECT HERE ***', b'mm: all of it')
    return found


def _patches(posts: Sequence[bytes]) -> tuple[int, ...]:
    return tuple(n for n, one in enumerate(posts) if not _is_cover(one))


def _is_cover(raw: bytes) -> bool:
    return re.search(rb'(?m)^Subject:.*\b0+(?:/| of )\d', wires.parted(raw)[0]) is not None


def _wired(
    posts: Sequence[bytes], written: Callable[[bytes], bytes], name: str
) -> list[bytes]:  # fmt: skip
    return [
        written(one)
        if name == 'crlf'
        or (wires.plain(one) and (name.startswith('subject') or not _is_cover(one)))
        else one
        for one in posts
    ]


def _base(
    choose: Random, repo: pygit2.Repository, commits: Sequence[pygit2.Oid], did: set[str]
) -> pygit2.Oid:
    """Return what the series is applied to: what it was made on, or something else."""
    chance = choose.random()
    if chance < 0.7:
        return commits[0]
    if chance < 0.78:
        did.add('already')
        return choose.choice(commits[1:])
    files: trees.Files = {}
    tree = repo[commits[0]].peel(pygit2.Tree)
    _read(repo, tree, '', files)
    if chance < 0.84:
        did.add('moved')
        name = choose.choice(sorted(files))
        files[f'{name} elsewhere'] = files.pop(name)
    elif chance < 0.88:
        did.add('other-base')
        files = trees.tree(choose)
    else:
        did.add('offset')
        for name, (mode, content) in sorted(files.items()):
            if mode in (trees.REGULAR, trees.EXECUTABLE) and b'\0' not in content:
                where = b'new first line\n' * choose.randint(0, 5)
                if choose.random() < 0.4:
                    did.add('fuzz')
                    content = trees.edited(choose, content)
                files[name] = (mode, where + content)
    return trees.commit(repo, choose, files, 'another base\n', commits[0])


def _read(repo: pygit2.Repository, tree: pygit2.Tree, prefix: str, files: trees.Files) -> None:
    for one in tree:
        path, mode = f'{prefix}{one.name}', int(one.filemode)
        if mode == 0o40000:
            inner = repo[one.id]
            assert isinstance(inner, pygit2.Tree)
            _read(repo, inner, f'{path}/', files)
        elif mode == trees.SUBMODULE:
            files[path] = (mode, str(one.id).encode())
        else:
            blob = repo[one.id]
            assert isinstance(blob, pygit2.Blob)
            files[path] = (mode, blob.data)


def _damaged(choose: Random, posts: list[bytes], did: set[str]) -> list[bytes]:
    at = choose.choice(_patches(posts))
    raw = posts[at]
    start = raw.find(b'\n@@ ')
    kind = choose.choice(['truncated', 'wrapped', 'tabs', 'trimmed', 'count', 'no-minus'])
    if start < 0:
        return posts
    head, rest = raw[:start], raw[start:].split(b'\n')
    match kind:
        case 'truncated':
            rest = rest[: choose.randint(1, len(rest))]
        case 'wrapped':
            long = [n for n, one in enumerate(rest) if one.count(b' ') > 4]
            if not long:
                return posts
            n = choose.choice(long)
            left, _, right = rest[n].rpartition(b' ')
            rest[n : n + 1] = [left, right]
        case 'tabs':
            rest = [one.replace(b'\t', b'        ') for one in rest]
        case 'trimmed':
            rest = [one.rstrip() for one in rest]
        case 'count':
            rest[1] = re.sub(rb'\+(\d+)', lambda one: b'+%d' % (int(one[1]) + 3), rest[1])
        case _:
            minus = [n for n, one in enumerate(rest) if one.startswith(b'-')]
            if not minus:
                return posts
            del rest[choose.choice(minus)]
    did.add(kind)
    return [*posts[:at], head + b'\n'.join(rest) + b'\n', *posts[at + 1 :]]


# --- threads ------------------------------------------------------------------


def _threaded(
    posts: Sequence[bytes], name: str, version: int = 1, root: str | None = None
) -> list[bytes]:
    """Give mails ids; all but the first answer it."""
    found = []
    for n, raw in enumerate(posts):
        msgid = f'{name}.v{version}.{n}@example.org'
        above = f'{name}.v{version}.0@example.org' if n else root
        extra = f'Message-ID: <{msgid}>\n'
        if above is not None:
            extra += f'In-Reply-To: <{above}>\nReferences: <{above}>\n'
        end = b'\r\n' if b'\r\n' in raw[:200] else b'\n'
        found.append(extra.encode().replace(b'\n', end) + raw)
    return found


def _answer(name: str, to: str, subject: str, body: str, who: str = 'B <b@example.org>') -> bytes:
    head = ANSWER.format(
        who=who, date='Mon, 6 Apr 2026 10:00:00 +0000', subject=subject, msgid=f'{name}@example.org'
    )
    return f'{head}In-Reply-To: <{to}>\nReferences: <{to}>\n\n{body}'.encode()


def _in_thread(choose: Random, whole: Case, posts: list[bytes], name: str) -> Case:
    mails = _threaded(posts, name, whole.revision)
    meant = _patches(posts)
    if 'unnumbered' in whole.did:
        meant = meant[:1]  # the others are series of their own
    first = f'{name}.v{whole.revision}.0@example.org'
    did = set(whole.did)
    chance = choose.random()
    revision = whole.revision
    numbered = b'/' in re.sub(rb'(?s)\].*', b'', _subject(posts[-1]))
    if chance < 0.07 and len(meant) > 1 and numbered:
        did.add('missing')
        del mails[choose.choice(meant)]
        meant = ()
    elif chance < 0.17 and whole.revision == 1 and numbered | (len(meant) == 1):
        did.add('reroll')
        revision = 2
        # The first revision is another: its last patch says more in its message.
        older = [one.replace(b'\n---\n', b'\nOf the first revision.\n---\n') for one in mails]
        newer = [_of_v2(one) for one in posts]
        mails = [*older, *_threaded(newer, name, 2, first if choose.random() < 0.5 else None)]
        meant = tuple(len(older) + n for n in meant)
    elif chance < 0.22:
        did.add('duplicate')
        mails.insert(choose.randrange(len(mails) + 1), mails[choose.choice(meant)])
        meant = _positions(mails, meant, posts)
    elif chance < 0.27 and numbered | (len(meant) == 1):
        did.add('resend')
        again = [re.sub(rb'(?m)^(Subject: .*?\[)', rb'\1RESEND ', one, count=1) for one in posts]
        start = len(mails)
        mails += _threaded(again, f'{name}.again', whole.revision, first)
        meant = tuple(start + n for n in meant)
    elif chance < 0.33:
        did.add('follow-up')
        diff = (
            'Because.\n\nSigned-off-by: B <b@example.org>\n---\ndiff --git a/new.c b/new.c\n'
            'new file mode 100644\nindex 0000000..5716ca5\n--- /dev/null\n+++ b/new.c\n'
            '@@ -0,0 +1 @@\n+bar\n'
        )
        mails.append(_answer(f'{name}.follow', first, '[PATCH] mm: follow up', diff))
    elif chance < 0.38 and len(meant) > 1 and numbered:
        did.add('shuffled')
        order = [*range(len(mails))]
        choose.shuffle(order)
        mails, meant = [mails[n] for n in order], tuple(order.index(n) for n in meant)
    if choose.random() < 0.3:
        did.add('answers')
        mails += _answers(choose, name, first, posts)
    if choose.random() < 0.04:
        kind = choose.choices(NASTY, (6, 6, 1, 6))[0]
        did.add(f'nasty-{kind}')
        mails += _nasty(kind, name, first)
    return replace(whole, mails=tuple(mails), meant=meant, did=frozenset(did), revision=revision)


def _positions(
    mails: Sequence[bytes], meant: Sequence[int], posts: Sequence[bytes]
) -> tuple[int, ...]:
    """Return where the meant mails are, each once."""
    del posts
    seen: dict[bytes, int] = {}
    for n, raw in enumerate(mails):
        seen.setdefault(raw, n)
    unique = sorted(seen.values())
    order = sorted(unique, key=lambda n: _id(mails[n]))
    return tuple(order[n] for n in meant)


def _id(raw: bytes) -> int:
    found = re.search(rb'\.(\d+)@example', raw)
    return int(found[1]) if found else 0


def _subject(raw: bytes) -> bytes:
    found = re.search(rb'(?m)^Subject: (.*)$', raw)
    return found[1] if found else b''


def _of_v2(raw: bytes) -> bytes:
    if b'[PATCH' in _subject(raw):
        return re.sub(rb'(?m)^(Subject: .*?\[PATCH)', rb'\1 v2', raw, count=1)
    return re.sub(rb'(?m)^(Subject: (?:PATCH|\[RFC|\[RESEND,PATCH|\[mm-unstable,PATCH))', rb'\1 v2',
                  raw, count=1)  # fmt: skip


def _answers(choose: Random, name: str, first: str, posts: Sequence[bytes]) -> list[bytes]:
    quoted = '\n'.join(
        f'> {one}' for one in wires.parted(posts[-1])[1].decode('utf-8', 'replace').split('\n')
    )
    bodies = [
        'Acked-by: B Reviewer <b@example.org>\n',
        f'On Monday A wrote:\n{quoted}\n\nReviewed-by: B Reviewer <b@example.org>\n',
        f'Could you do it so?\n\n{SUGGESTED}',
        'Tested-by: =?utf-8?q?J=C3=B6rg?= <j@example.org>\nLink: https://example.org/x\n',
    ]
    return [
        _answer(f'{name}.re{n}', first, 'Re: [PATCH] mm: something', choose.choice(bodies))
        for n in range(choose.randint(1, 3))
    ]


def _nasty(kind: str, name: str, first: str) -> list[bytes]:
    trailer = 'Reviewed-by: B Reviewer <b@example.org>\n'
    match kind:
        case 'rtl':
            return [_answer(f'{name}.n1', first, 'Re: mm: x', f'so\u202e\u2066 it is\n{trailer}')]
        case 'no-msgid':
            raw = _answer('gone', first, 'Re: mm: x', trailer)
            return [re.sub(rb'(?m)^Message-ID:.*\n', b'', raw)]
        case 'loop':
            one, two = f'{name}.n1', f'{name}.n2'
            return [
                _answer(one, f'{two}@example.org', 'Re: mm: x', trailer),
                _answer(two, f'{one}@example.org', 'Re: mm: x', trailer),
            ]
        case _:
            return [_answer(f'{name}.n1', first, 'Re: ' * 300 + 'mm: x', trailer * 200)]
