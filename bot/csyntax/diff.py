"""What a step changes, in terms of C: added nodes, and the line to point at."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, TypeVar

from tree_sitter import Node

from bot.csyntax.source import parse
from bot.csyntax.syntax import line_of
from bot.model import Step, Subject

T = TypeVar('T')
C_FILES = ('.c', '.h')


def added_nodes(
    subject: Subject, pattern: str, suffixes: tuple[str, ...] = C_FILES
) -> Iterator[tuple[Step, str, Node]]:
    """
    Yield (step, path, node) for what a tree-sitter query captures as `@hit` on added lines.

    A node whose text stood as often in the file before is moved, not added,
    and is left out.
    """
    for step in subject.steps:
        for diff in step.files:
            path = diff.new_path
            if path is None or not path.endswith(suffixes):
                continue
            post = step.post.read(path)
            if post is None:
                continue
            added = {number for number, _ in diff.added}
            found = [node for node in parse(post).query(pattern) if line_of(node) in added]
            if not found:
                continue
            pre = step.pre.read(diff.old_path or path) or b''
            known = Counter(node.text for node in parse(pre).query(pattern))
            every = Counter(node.text for node in parse(post).query(pattern))
            for node in found:
                if every[node.text] > known[node.text]:
                    yield step, path, node


def changed_line(
    step: Step, path: str, start: int, end: int
) -> tuple[int, Literal['new', 'old']] | None:
    """
    Return a line of the step's diff of `path` to point at, and its side.

    `start` and `end` are lines of the post-image: the first added line among
    them, else the removed line that stood there, else None.
    """
    diff = step.file(path)
    if diff is None:
        return None
    for number, _ in diff.added:
        if start <= number <= end:
            return number, 'new'
    for hunk in diff.hunks:
        new, old = hunk.new_start, hunk.old_start
        for line in hunk.lines:
            marker = line[:1]
            if marker == b'-' and start <= new <= end + 1:
                return old, 'old'
            new += marker != b'-'
            old += marker != b'+'
    return None


def introduced(before: Iterable[T], after: Iterable[T], key: Callable[[T], object]) -> list[T]:
    """Return what `after` has and `before` has not, by `key` (as often as it has more)."""
    known = [key(item) for item in before]
    new = []
    for item in after:
        if key(item) in known:
            known.remove(key(item))
        else:
            new.append(item)
    return new
