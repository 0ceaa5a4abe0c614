"""
The mmap_prepare hooks of a file, and how what is wrong with one becomes a hit.

A hook takes a pointer to a struct vm_area_desc, and is named in a slot: its
address is taken somewhere in the file, or it is global and called so. Functions
of the same file that a hook hands its descriptor to are judged with it.

Only .c files of the kernel itself are looked at, by text alone: a hook whose
slot is in another file and whose name does not say so is not known as one.
"""

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from tree_sitter import Node

from bot.csyntax import Call, Flow, Function, calls, changed_line, flow_of, parse, text_of, tokens
from bot.csyntax.syntax import declared_name, line_of, walk
from bot.model import Evidence, FileDiff, Hit, Side, Snapshot, Step, Subject

DESC = b'vm_area_desc'
# No file that people write by hand is larger.
LARGEST = 1 << 20
# An open end counts as one: a text that nobody wrote by hand takes no longer.
NO_CODE = re.compile(
    rb'/\*.*?(?:\*/|\Z)|//[^\n]*|"(?:\\.|[^"\\\n])*"?|\'(?:\\.|[^\'\\\n])*\'?', re.S
)
MOST = 100
"""No file has more hooks, or vm_ops."""
MOST_VISITS = 4_000
"""A function whose paths take more than this is not judged."""
VISIBLE = re.compile(rb'[^\n]')
VM_OPS = re.compile(rb'\bstruct\s+vm_operations_struct\s+(\w+)[^;={}]{0,200}=\s*\{([^{}]*)\}')
SLOT = re.compile(rb'\.\s*(open|mapped|close)\s*=\s*&?(\w+)')
# Who calls the hooks and performs their actions.
CORE = ('mm/util.c', 'mm/vma.c', 'mm/vma_exec.c', 'mm/mmap.c', 'mm/nommu.c', 'mm/memory.c')
TAKES_DESC = re.compile(r'(?:const )?struct vm_area_desc \*')
JUMPS = ('return_statement', 'goto_statement', 'break_statement', 'continue_statement')
# What may run, or not, on the way from one statement of a function to another.
CHOICES = (
    'if_statement', 'else_clause', 'switch_statement', 'case_statement', 'while_statement',
    'for_statement', 'do_statement', 'conditional_expression',
)  # fmt: skip


@dataclass(frozen=True)
class Hook:
    """A function that works on the descriptor `desc`; `slot`: it is a hook itself."""

    function: Function
    desc: str
    slot: bool

    @property
    def name(self) -> str:
        """Return the function's name."""
        return self.function.name

    @property
    def flow(self) -> Flow | None:
        """Return its control flow; an odd word before its name does not count."""
        return flow_of(replace(self.function, clean=not self.function.body.has_error))

    @property
    def calls(self) -> list[Call]:
        """Return the calls by name that it makes."""
        return [call for call in calls(self.function.body) if call.plain]


@dataclass(frozen=True)
class Fault:
    """
    What is wrong in a function, `what` being the same however it is moved or said.

    `added`: in a hook that the parent has, the line itself must be new.
    `shown` are other lines of the file that show it, `flow` the path to it.
    """

    function: Function
    what: str
    line: int
    message: str
    advice: str | None = None
    added: bool = False
    shown: tuple[int, ...] = ()
    flow: tuple[int, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        """Return what it is known by within a file."""
        return self.function.name, self.what


Find = Callable[[bytes], Iterable[Fault]]


# --- hooks ---


@lru_cache(maxsize=64)
def code(text: bytes) -> bytes:
    """Return a text with comments and strings blanked, every position kept."""
    return NO_CODE.sub(lambda found: VISIBLE.sub(b' ', found[0]), text)


@lru_cache(maxsize=64)
def hooks(text: bytes) -> tuple[Hook, ...]:
    """Return the hooks of a file, and the functions that they hand their descriptor to."""
    if DESC not in text:
        return ()
    found = []
    for function in parse(text).all_functions:
        desc = _descriptor(function)
        if desc is not None:
            found.append(Hook(function, desc, slot=False))
    if not 0 < len(found) <= MOST:
        return ()
    handed = [
        (hook.name, {call.name for call in hook.calls if hook.desc in call.arguments})
        for hook in found
    ]
    slots = {hook.name for hook in found if _in_slot(hook.function, text)}
    reached: set[str] = set()
    more = set(slots)
    while more:
        reached |= more
        called = {name for caller, names in handed if caller in more for name in names}
        more = called.intersection(hook.name for hook in found) - reached
    return tuple(replace(hook, slot=hook.name in slots) for hook in found if hook.name in reached)


def _descriptor(function: Function) -> str | None:
    """Return the name of a function's own parameter that points to a descriptor."""
    declarator = function.node.child_by_field_name('declarator')
    while declarator is not None and declarator.type != 'function_declarator':
        declarator = declarator.child_by_field_name('declarator')
    listed = declarator.child_by_field_name('parameters') if declarator is not None else None
    for parameter in listed.named_children if listed is not None else ():
        inner = parameter.child_by_field_name('declarator')
        if inner is not None and inner.type == 'pointer_declarator':
            name = text_of(declared_name(inner))
            if TAKES_DESC.fullmatch(text_of(parameter).removesuffix(name).rstrip()):
                return name
    return None


def is_static(function: Function) -> bool:
    """Whether nobody outside the file can call a function by its name."""
    return any(
        child.type == 'storage_class_specifier' and text_of(child) == 'static'
        for child in function.node.children
    )


def _in_slot(function: Function, text: bytes) -> bool:
    name = re.escape(function.name.encode())
    if not is_static(function) and b'mmap_prepare' in name:
        return True
    uses = re.compile(rb'(?<![\w>.])(EXPORT_\w+\s*\(\s*)?' + name + rb'\b(?!\s*\()')
    return any(found[1] is None for found in uses.finditer(code(text)))


# --- vm_ops ---


@dataclass(frozen=True)
class Operations:
    """A struct vm_operations_struct: its lines, and the handlers by slot."""

    name: str
    start: int
    end: int
    handlers: dict[str, str]


@lru_cache(maxsize=64)
def operations(text: bytes) -> dict[str, Operations]:
    """Return the vm_ops that a file defines, by name; of its slots open, mapped, close."""
    if b'vm_operations_struct' not in text:
        return {}
    clear = code(text)
    found = {}
    for one in itertools.islice(VM_OPS.finditer(clear), MOST):
        name = one[1].decode()
        start = clear.count(b'\n', 0, one.start()) + 1
        handlers = {slot.decode(): handler.decode() for slot, handler in SLOT.findall(one[2])}
        found[name] = Operations(name, start, start + one[0].count(b'\n'), handlers)
    return found


def assigned_operations(function: Function, owner: str) -> Iterator[tuple[str, int]]:
    """Yield (name, line) of the vm_ops whose address a function assigns to `owner`->vm_ops."""
    for node in walk(function.body, 'assignment_expression'):
        if text_of(node.child_by_field_name('left')) == f'{owner}->vm_ops':
            right = text_of(node.child_by_field_name('right'))
            for name in re.findall(r'&\s*(\w+)', right):
                yield name, line_of(node)


# --- control flow ---


def choices(node: Node, body: Node) -> frozenset[int]:
    """
    Return the blocks around `node` that may be skipped and that lead on to what is behind them.

    A block that ends in a jump is none: whoever comes behind it was not in it.
    What stands under `#if` is as good as skipped, too.
    """
    found = set()
    child, parent = node, node.parent
    while parent is not None and child != body:
        if parent.type.startswith('preproc_'):
            found.add(parent.start_byte)
        elif parent.type in CHOICES and not _always(parent, child):
            found.add(child.start_byte)
        child, parent = parent, parent.parent
    return frozenset(found)


def _always(parent: Node, child: Node) -> bool:
    """Whether who comes behind `parent` has been in `child`, or left from there."""
    if child == parent.child_by_field_name('condition'):
        return True
    if parent.type in ('if_statement', 'else_clause'):
        return child.type != 'else_clause' and _leaves(child)
    return child == parent.child_by_field_name('initializer')


def _leaves(node: Node) -> bool:
    """Whether a branch ends in a jump."""
    if node.type == 'compound_statement':
        inner = [child for child in node.named_children if child.type != 'comment']
        return bool(inner) and _leaves(inner[-1])
    return node.type in JUMPS


def fails(node: Node | None) -> bool:
    """Whether a return statement gives back an error by name."""
    value = node.named_children[0] if node is not None and node.named_children else None
    return re.match(r'\(*-\s*E[A-Z]', text_of(value)) is not None


# --- from faults to hits ---


def judged(path: str | None) -> bool:
    """Whether hooks of the kernel may be in a file."""
    if path is None or path in CORE:
        return False
    return path.endswith('.c') and not path.startswith('tools/')


def read(tree: Snapshot, path: str | None) -> bytes:
    """Return the text of a file that mentions a descriptor, b'' where it does not."""
    text = tree.read(path) if path is not None and judged(path) else None
    return text if text is not None and DESC in text and len(text) <= LARGEST else b''


def reported(subject: Subject, find: Find) -> Iterator[Hit]:
    """Yield what a series introduces of what `find` finds in a file, and leaves at its end."""
    told = set()
    for step in subject.steps:
        after = [
            (diff, fault) for diff in step.files for fault in find(read(step.post, diff.new_path))
        ]
        if not after:
            continue
        for diff, fault in _new(step, after, find):
            place = _place(step, diff, fault)
            path = diff.path
            if place is None or (path, *fault.key) in told or _mended(subject, path, fault, find):
                continue
            told.add((path, *fault.key))
            source = parse(read(step.post, path))
            shown = fault.shown if place == (fault.line, 'new') else (fault.line, *fault.shown)
            yield Hit(
                step.n,
                path,
                place[0],
                fault.message,
                fault.advice,
                side=place[1],
                symbol=fault.function.name,
                evidence=tuple(Evidence(path, at, source.line(at).strip()) for at in shown),
                flow=tuple(Evidence(path, at, source.line(at).strip()) for at in fault.flow if at),
            )


def _new(
    step: Step, after: list[tuple[FileDiff, Fault]], find: Find
) -> Iterator[tuple[FileDiff, Fault]]:
    """Leave out what the parent has: in the function itself, or in one that is gone."""
    texts = [read(step.pre, diff.old_path) for diff in step.files]
    before = [fault for text in texts for fault in find(text)]
    known = {fault.key for fault in before}
    old = {hook.name: hook for text in texts for hook in hooks(text)}
    new = {hook.name for diff in step.files for hook in hooks(read(step.post, diff.new_path))}
    gone = Counter(fault.what for fault in before if fault.function.name not in new)
    for diff, fault in after:
        was = old.get(fault.function.name)
        if fault.key in known:
            continue
        if was is not None and _same(was.function, fault.function):
            continue
        if gone[fault.what]:
            gone[fault.what] -= 1
            continue
        careful = was is not None and (fault.added or was.function.body.has_error)
        exact = changed_line(step, diff.path, fault.line, fault.line)
        if careful and exact != (fault.line, 'new'):
            continue
        yield diff, fault


def _same(one: Function, other: Function) -> bool:
    return tokens(one.node.text or b'') == tokens(other.node.text or b'')


def _place(step: Step, diff: FileDiff, fault: Fault) -> tuple[int, Side] | None:
    """Return the changed line to point at: the fault's, the function's, or the slot's."""
    function = fault.function
    exact = changed_line(step, diff.path, fault.line, fault.line)
    if exact == (fault.line, 'new'):
        return exact
    within = changed_line(step, diff.path, function.start, function.end)
    if within is not None:
        return within
    names = re.compile(rb'\b' + re.escape(function.name.encode()) + rb'\b')
    return next(((n, 'new') for n, line in diff.added if names.search(line)), None)


def _mended(subject: Subject, path: str, fault: Fault, find: Find) -> bool:
    """Whether nothing of the kind is left in the file at the end of the series."""
    last = subject.steps[-1].post
    if last.read(path) is None:
        return False
    return all(other.what != fault.what for other in find(read(last, path)))
