"""Mails for the campaigns of machines: series that are worth a mail each patch, and chatter."""

import time
from dataclasses import dataclass, field
from email.utils import formatdate

from tests.lettering import Post

LIST = 'linux-mm@kvack.org'
AUTHOR = 'dev@example.org'
DIFF = """diff --git a/{path} b/{path}
new file mode 100644
index 0000000..2222222
--- /dev/null
+++ b/{path}
@@ -0,0 +1,4 @@
+static const struct file_operations {name}_fops = {{
+\t.mmap = {name}_mmap,
+\t.mmap_prepare = {name}_mmap_prepare,
+}};
"""
"""Worth a mail, and no harness reads it."""


@dataclass(frozen=True)
class Series:
    """A series of `of` patches, posted just now."""

    name: str
    of: int
    posted: float = field(default_factory=lambda: float(int(time.time())))


def patch_of(one: Series, n: int) -> str:
    """The message-id of a patch; 0 is the cover letter."""
    return f'{one.name}.{n}@x'


def patches(one: Series, *parents: str) -> list[Post]:
    """The mails of a series that applies to the sample kernel, each patch a new file."""
    found = []
    if one.of > 1:
        cover = patch_of(one, 0)
        found.append(_mail(one, cover, f'[PATCH 0/{one.of}] mm: {one.name}', 'Hello.\n', *parents))
        parents = (*parents[:1], *parents[-1:], cover)
    for n in range(1, one.of + 1):
        name = f'{one.name}_{n}'
        diff = DIFF.format(path=f'drivers/{name}.c', name=name)
        tag = f' {n}/{one.of}' if one.of > 1 else ''
        subject = f'[PATCH{tag}] mm: {one.name} part {n}'
        found.append(
            _mail(
                one,
                patch_of(one, n),
                subject,
                f'Because.\n\nSigned-off-by: A Developer <{AUTHOR}>\n---\n{diff}',
                *parents,
            )
        )
    return found


def chatter(name: str) -> Post:
    """A mail that is none of the bot's business."""
    one = Series(name, 1)
    return _mail(one, f'{name}@chat', f'hello {name}', f'How are you, {name}?\n')


def answer(name: str, subject: str, posted: float, *parents: str) -> bytes:
    """A reply to a mail; `parents` from the root to the one that it answers."""
    return (
        f'From: A Reviewer <r@example.org>\nTo: {LIST}\nDate: {formatdate(posted)}\n'
        f'Message-ID: <{name}@x>\nIn-Reply-To: <{parents[-1]}>\n'
        f'References: {" ".join(f"<{one}>" for one in parents)}\nSubject: Re: {subject}\n\n'
        f'I do not think so, for the {name}th time.\n'
    ).encode()


def _mail(one: Series, msgid: str, subject: str, body: str, *parents: str) -> Post:
    heads = [
        f'From: A Developer <{AUTHOR}>', f'To: {LIST}', f'Date: {formatdate(one.posted)}',
        f'Message-ID: <{msgid}>', f'Subject: {subject}',
    ]  # fmt: skip
    if parents:
        heads.append(f'In-Reply-To: <{parents[-1]}>')
        heads.append(f'References: {" ".join(f"<{parent}>" for parent in parents)}')
    return Post(msgid, ('\n'.join(heads) + f'\n\n{body}').encode())
