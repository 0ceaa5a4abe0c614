"""
Which locks of the kernel a function still holds where it returns.

By name and by the text of the argument. Answers only where that can be told:
a lock that is taken or released under a condition of its own, under `#if`, or
perhaps by another function, is left out.
"""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache

from bot.csyntax import Call, Function, Point, calls, text_of
from bot.csyntax.syntax import walk
from rules._hooks import MOST_VISITS, Hook, choices


@dataclass(frozen=True)
class Kind:
    """
    One sort of lock. All are patterns of whole names.

    `may_fail` returns an error without the lock, `tries` true with the lock.
    """

    name: str
    takes: str
    releases: str
    may_fail: str = '-'
    tries: str = '-'


KINDS = (
    Kind(
        'mutex',
        'mutex_lock(?:_nested|_io|_io_nested|_nest_lock)?',
        'mutex_unlock',
        'mutex_lock_(?:interruptible|killable)(?:_nested)?',
        'mutex_trylock',
    ),
    Kind(
        'spin',
        '(?:raw_)?spin_lock(?:_nested|_irq|_bh|_irqsave|_irqsave_nested)?',
        '(?:raw_)?spin_unlock(?:_irq|_bh|_irqrestore)?',
        tries='(?:raw_)?spin_trylock(?:_irq|_bh|_irqsave)?',
    ),
    Kind('read', 'read_lock(?:_irq|_bh|_irqsave)?', 'read_unlock(?:_irq|_bh|_irqrestore)?'),
    Kind('write', 'write_lock(?:_irq|_bh|_irqsave)?', 'write_unlock(?:_irq|_bh|_irqrestore)?'),
    Kind(
        'down_read',
        'down_read(?:_nested|_non_owner)?',
        'up_read(?:_non_owner)?',
        'down_read_(?:killable|interruptible)(?:_nested)?',
        'down_read_trylock',
    ),
    Kind(
        'down_write',
        'down_write(?:_nested|_nest_lock)?',
        'up_write',
        'down_write_killable(?:_nested)?',
        'down_write_trylock',
    ),
    Kind('down', 'down', 'up', 'down_(?:interruptible|killable|timeout|trylock)'),
    Kind('rcu', 'rcu_read_lock(?:_bh|_sched)?', 'rcu_read_unlock(?:_bh|_sched)?'),
    Kind(
        'inode',
        'inode_lock(?:_nested|_shared|_shared_nested)?',
        'inode_unlock(?:_shared)?',
        tries='inode_trylock(?:_shared)?',
    ),
    Kind(
        'mmap_read',
        'mmap_read_lock',
        'mmap_read_unlock(?:_non_owner)?',
        'mmap_read_lock_killable',
        'mmap_read_trylock',
    ),
    Kind(
        'mmap_write',
        'mmap_write_lock(?:_nested)?',
        'mmap_write_unlock',
        'mmap_write_lock_killable',
        'mmap_write_trylock',
    ),
    Kind(
        'invalidate',
        'filemap_invalidate_lock(?:_shared)?',
        'filemap_invalidate_unlock(?:_shared)?',
        tries='filemap_invalidate_trylock(?:_shared)?',
    ),
)
# A name of somebody else's: what it releases can't be told.
MAY_RELEASE = re.compile(r'\w*(?:unlock|release|downgrade)\w*|\w*up_(?:read|write)\w*')
RELEASES = re.compile(rb'unlock|\bup(?:_read|_write)?\s*\(|release')


@dataclass(frozen=True)
class Held:
    """
    A lock that was taken on `line`. `shown` is its argument, or its call where it has none.

    `result` is the variable that will say whether it was, None where it surely
    was; `success` is what that variable's truth then is.
    """

    kind: str
    lock: str
    shown: str
    line: int = field(compare=False)
    result: str | None = None
    success: bool = False


State = frozenset[Held]


def kept(hook: Hook, others: dict[str, Function]) -> Iterator[tuple[Held, int, tuple[int, ...]]]:
    """Yield (lock, line of the return, lines of the path) for each lock that is kept."""
    if not any(_taken(call) is not None for call in hook.calls):
        return
    flow = hook.flow
    if flow is None:
        return
    releasers = {
        name for name, function in others.items() if RELEASES.search(function.node.text or b'')
    }
    told = set()

    def step(point: Point, state: State, outcome: bool | None) -> State | None:
        return _after(point, state, outcome, releasers)

    start: State = frozenset()
    for point, state, visit in itertools.islice(flow.walk(start, step), MOST_VISITS):
        if point.kind != 'exit' or visit.before is None:
            continue
        path = tuple(before.line for before in visit.path())
        for held in sorted(state, key=lambda one: one.line):
            if held.result is None and held.lock not in told and _told_apart(hook, held):
                told.add(held.lock)
                last = visit.before.point
                ends = last.line if last.kind == 'return' else hook.function.end
                yield held, ends, path


def releases(function: Function, held: Held) -> bool:
    """Whether a function releases that very lock."""
    return any(_released(call) == (held.kind, held.lock) for call in calls(function.body))


def may_release(function: Function, held: Held) -> bool:
    """Whether a function releases a lock of that kind, or one that nobody knows."""
    for call in calls(function.body):
        released = _released(call)
        if released is not None and released[0] == held.kind:
            return True
        if released is None and MAY_RELEASE.fullmatch(call.name):
            return True
    return False


def _told_apart(hook: Hook, held: Held) -> bool:
    """Whether all that is done with a lock happens under the same conditions."""
    body = hook.function.body
    mine = [call for call in hook.calls if _of(call) == (held.kind, held.lock)]
    if len({choices(call.node, body) for call in mine}) != 1:
        return False
    return not any(
        _of(call) is not None
        for node in walk(body, 'conditional_expression')
        for call in calls(node)
    )


def _of(call: Call) -> tuple[str, str] | None:
    """Return the kind of lock that a call takes or releases, and which one."""
    taken = _taken(call)
    return (taken[0].name, taken[1]) if taken is not None else _released(call)


def _taken(call: Call) -> tuple[Kind, str, str] | None:
    """Return the kind of lock that a call takes, which one, and how: takes, may_fail, tries."""
    for kind, how in _meaning(call.name) if call.plain else ():
        if how != 'releases':
            return kind, _lock(call), how
    return None


def _released(call: Call) -> tuple[str, str] | None:
    for kind, how in _meaning(call.name) if call.plain else ():
        if how == 'releases':
            return kind.name, _lock(call)
    return None


@lru_cache(maxsize=4096)
def _meaning(name: str) -> tuple[tuple[Kind, str], ...]:
    return tuple(
        (kind, how)
        for kind in KINDS
        for how in ('takes', 'may_fail', 'tries', 'releases')
        if re.fullmatch(getattr(kind, how), name)
    )


def _lock(call: Call) -> str:
    return call.arguments[0].replace(' ', '') if call.arguments else ''


def _after(point: Point, state: State, outcome: bool | None, releasers: set[str]) -> State | None:
    if point.node is None:
        return state
    if state:
        state = _settled(point, state, outcome)
    for call in list(calls(point.node))[::-1]:
        taken, released = _taken(call), _released(call)
        if taken is not None:
            state |= _takes(point, call, *taken, outcome)
        elif released is not None:
            left = frozenset(one for one in state if (one.kind, one.lock) != released)
            # Another name of it, if it is none that we know.
            state = (
                left
                if left != state
                else frozenset(one for one in state if one.kind != released[0])
            )
        elif call.name in releasers or MAY_RELEASE.fullmatch(call.name):
            state = frozenset()
    return state


def _takes(
    point: Point, call: Call, kind: Kind, lock: str, how: str, outcome: bool | None
) -> State:
    shown = call.arguments[0].lstrip('& ') if call.arguments else f'{call.name}()'
    held = Held(kind.name, lock, shown, call.line)
    if how == 'takes':
        return frozenset({held})
    success = how == 'tries'
    if point.kind == 'test':
        truth = _truth(text_of(point.node), text_of(call.node), outcome)
        return frozenset({held}) if truth is success else frozenset()
    parent = call.node.parent
    if parent is not None and parent.type == 'assignment_expression':
        result = text_of(parent.child_by_field_name('left'))
    elif parent is not None and parent.type == 'init_declarator':
        result = text_of(parent.child_by_field_name('declarator'))
    else:
        return frozenset()
    return frozenset({replace(held, result=result, success=success)})


def _settled(point: Point, state: State, outcome: bool | None) -> State:
    """Decide about the locks whose result is tested here; forget what is overwritten."""
    found = set()
    text = text_of(point.node)
    assert point.node is not None
    assigned = {
        text_of(node.child_by_field_name('left'))
        for node in walk(point.node, 'assignment_expression')
    }
    for held in state:
        if held.result is None:
            found.add(held)
        elif point.kind == 'test' and re.search(rf'\b{re.escape(held.result)}\b', text):
            truth = _truth(text, held.result, outcome)
            if truth is held.success:
                found.add(replace(held, result=None))
        elif held.result not in assigned:
            found.add(held)
    return frozenset(found)


def _truth(condition: str, value: str, outcome: bool | None) -> bool | None:
    """Whether `value` is not 0 where `condition` comes out so; None where it does not say."""
    it = rf'\(*(?:\w+ = )?{re.escape(value)}\)*'
    if outcome is None:
        return None
    if re.fullmatch(rf'{it}(?: != 0| < 0)?', condition):
        return outcome
    if re.fullmatch(rf'{it} (?:== 0|>= 0)', condition):
        return not outcome
    return None
