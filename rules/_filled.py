"""
Functions that fill a struct of their caller's, and the callers that rely on them for too much.

`faults(tree, paths)` answers for struct vm_area_desc, struct mmap_action and
struct vma_merge_struct: where a function sets some members and zeroes nothing,
a caller passes it an uninitialised local, and goes on to use what nobody has
set. Whatever may have filled the object otherwise ends the matter.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from tree_sitter import Node

from bot.csyntax import Function, Point, calls, flow_of, parse, text_of
from bot.csyntax.syntax import declared_name, walk
from bot.model import Snapshot
from rules._written import LARGEST, functions, place, read, writes

HOMES = {
    'vm_area_desc': 'include/linux/mm_types.h',
    'mmap_action': 'include/linux/mm_types.h',
    'vma_merge_struct': 'mm/vma.h',
}
WORDS = tuple(name.encode() for name in HOMES)
# Cheap: a local (or a member) of one of these types, without initialiser.
PLAIN = re.compile(rb'\bstruct\s+(?:' + b'|'.join(WORDS) + rb')\s+\w+\s*[;,]')
# Where a function may lie that a patch calls and does not bring along.
CORE = ('mm/util.c', 'mm/vma.h', 'mm/vma.c', 'include/linux/mm.h')
# Get the pointer, and fill nothing but what they are named after.
QUIET = re.compile(r'vma_desc_\w+|mmap_action_\w+|pr_\w+|dev_\w+|printk\w*|trace_\w+|dump_\w+')
ADDRESS = re.compile(r'&\s*(\w+)\s*(?:->|\.)\s*(\w+)')
# What may stand around a variable that is not touched as a whole.
IN_PASSING = (
    'field_expression',
    'binary_expression',
    'unary_expression',
    'sizeof_expression',
    'declaration',
)

Path = tuple[str, ...]
"""A member, or a member of a member."""


@dataclass(frozen=True)
class Filler:
    """A function that sets some members of what its parameter points to, and zeroes nothing."""

    path: str
    function: Function
    struct: str
    index: int
    sets: frozenset[Path]


@dataclass(frozen=True)
class Fault:
    """A caller's local that a filler leaves half filled; `call` and `use` are lines."""

    filler: Filler
    path: str
    caller: Function
    local: str
    declared: int
    call: int
    use: int
    missing: tuple[str, ...]

    @property
    def callee(self) -> str:
        """The filler's name."""
        return self.filler.function.name


# --- both halves --------------------------------------------------------------


def faults(tree: Snapshot, paths: tuple[str, ...]) -> Iterator[Fault]:
    """Yield the faults between the functions of these files (and the core's, as callees)."""
    texts = {path: read(tree, path, *WORDS) for path in paths}
    callers = [
        (path, function, local)
        for path, text in texts.items()
        for function, local in _callers(text)
    ]
    called = {
        call.name
        for _, function, _ in callers
        for call in calls(function.body)
        if call.plain and any(one.startswith('&') for one in call.arguments)
    }
    if not called:
        return
    fillers = [
        filler
        for path in dict.fromkeys((*paths, *CORE))
        for filler in _fillers(read(tree, path, *WORDS), path, frozenset(called))
    ]
    for path, function, local in callers:
        yield from _between(tree, paths, path, function, local, fillers)


@lru_cache(maxsize=64)
def _callers(text: bytes) -> tuple[tuple[Function, str], ...]:
    """Return the functions of a file that have such a local, with each."""
    return tuple(
        (function, local)
        for function in (functions(text) if PLAIN.search(text) else ())
        if PLAIN.search(function.body.text or b'')
        for local in _locals(function)
    )


def _locals(function: Function) -> Iterator[str]:
    """Yield the plain locals of a function that nothing initialises where they are declared."""
    for one in function.variables:
        if one.parameter or one.pointer or one.static or one.initialiser is not None:
            continue
        if one.type.removeprefix('struct ') in HOMES and function.variable(one.name) is not None:
            yield one.name


def _between(
    tree: Snapshot,
    paths: tuple[str, ...],
    path: str,
    function: Function,
    local: str,
    fillers: list[Filler],
) -> Iterator[Fault]:
    variable = function.variable(local)
    assert variable is not None
    struct = variable.type.removeprefix('struct ')
    mine = {
        filler.function.name: filler
        for filler in fillers
        if filler.struct == struct
        and (filler.path in (path,) or filler.path.endswith('.h') or not _is_static(filler))
    }
    if not mine:
        return
    own = {one.place.path for one in writes(function.body) if one.place.base == local}
    own |= {(name,) for base, name in ADDRESS.findall(text_of(function.body)) if base == local}
    missing = {
        name: _missing(tree, paths, struct, filler.sets | own) for name, filler in mine.items()
    }
    flow = flow_of(function)
    if flow is None or not any(missing.values()):
        return

    def after(point: Point, state: tuple[str, int], _: bool | None) -> tuple[str, int] | None:
        return _caller_step(point, state, local, mine, missing)

    for point, (callee, call), _ in flow.walk(('', 0), after):
        if callee and point.line and _uses(point, local, missing[callee]):
            yield Fault(
                mine[callee],
                path,
                function,
                local,
                variable.line,
                call,
                point.line,
                missing[callee],
            )
            return


def _is_static(filler: Filler) -> bool:
    return any(
        child.type == 'storage_class_specifier' and text_of(child) == 'static'
        for child in filler.function.node.children
    )


def _caller_step(
    point: Point,
    state: tuple[str, int],
    local: str,
    fillers: dict[str, Filler],
    missing: dict[str, tuple[str, ...]],
) -> tuple[str, int] | None:
    """Follow the local: ('', 0) untouched, (callee, line) half filled, None out of sight."""
    if point.node is None:
        return state
    passed = False
    for call in calls(point.node):
        given = [one.replace(' ', '') for one in call.arguments]
        if f'&{local}' not in given:
            continue
        passed = True
        filler = fillers.get(call.name) if call.plain else None
        if filler is not None and given.index(f'&{local}') == filler.index and missing[call.name]:
            state = state if state[0] else (call.name, point.line)
        elif not QUIET.fullmatch(call.name):
            return None
    return None if not passed and _whole(point.node, local) else state


def _uses(point: Point, local: str, missing: tuple[str, ...]) -> bool:
    """Whether a point hands the local on, or reads a member that nobody has set."""
    if point.node is None:
        return False
    for call in calls(point.node):
        if call.name in ('memset', 'memcpy') or QUIET.fullmatch(call.name):
            continue
        if any(one.replace(' ', '') == f'&{local}' for one in call.arguments):
            return True
    return any(
        where is not None and where.base == local and '.'.join(where.path) in missing
        for where in map(place, walk(point.node, 'field_expression'))
    )


def _whole(node: Node, name: str) -> bool:
    """Whether a variable stands there as a whole, and not just in a test or for its size."""
    for found in walk(node, 'identifier'):
        if text_of(found) != name:
            continue
        above = found.parent
        while above is not None and above.type == 'parenthesized_expression':
            above = above.parent
        if above is None or above.type not in IN_PASSING:
            return True
    return False


# --- the filling half ---------------------------------------------------------


@lru_cache(maxsize=64)
def _fillers(text: bytes, path: str, called: frozenset[str]) -> tuple[Filler, ...]:
    if not any(name.encode('latin-1') in text for name in called):
        return ()
    found = (
        _filler(function, path, index, name, struct)
        for function in functions(text)
        if function.name in called
        for index, (name, struct) in enumerate(_parameters(function))
        if struct in HOMES
    )
    return tuple(one for one in found if one is not None)


def _parameters(function: Function) -> list[tuple[str, str]]:
    """Return (name, struct) of the parameters; ('', '') for what is no pointer to a struct."""
    declarator = function.node.child_by_field_name('declarator')
    while declarator is not None and declarator.type != 'function_declarator':
        declarator = declarator.child_by_field_name('declarator')
    listed = declarator.child_by_field_name('parameters') if declarator is not None else None
    found = []
    for one in listed.named_children if listed is not None else ():
        if one.type == 'comment':
            continue
        pointer = one.child_by_field_name('declarator')
        plain = pointer is not None and pointer.type == 'pointer_declarator'
        inner = pointer.child_by_field_name('declarator') if pointer is not None else None
        if plain and inner is not None and inner.type == 'identifier':
            type_ = text_of(one.child_by_field_name('type'))
            found.append((text_of(inner), type_.removeprefix('struct ')))
        else:
            found.append(('', ''))
    return found


def _filler(function: Function, path: str, index: int, name: str, struct: str) -> Filler | None:
    sets = {
        one.place.path
        for one in writes(function.body)
        if one.place.base == name and one.place.arrow
    }
    if len(sets) < 2:
        return None
    sets |= {(member,) for base, member in ADDRESS.findall(text_of(function.body)) if base == name}
    flow = flow_of(function)
    if flow is None or function.variable(name) is None:
        return None

    def after(point: Point, state: int, _: bool | None) -> int | None:
        if point.node is None:
            return state
        if _zeroes(point.node, name):
            return None
        return min(2, state + sum(one.place.base == name for one in writes(point.node)))

    for point, state, _ in flow.walk(0, after):
        if point.kind == 'exit' and state == 2:
            return Filler(path, function, struct, index, frozenset(sets))
    return None


def _zeroes(node: Node, name: str) -> bool:
    """Whether all of what the parameter points to may be filled here."""
    wrong = (f'sizeof({name})', f'sizeof {name}')
    passed = False
    for call in calls(node):
        if name not in call.arguments:
            continue
        passed = True
        size = call.arguments[2] if len(call.arguments) > 2 else ''
        if not (QUIET.fullmatch(call.name) or (call.name == 'memset' and size in wrong)):
            return True
    return not passed and _whole(node, name)


# --- the struct ---------------------------------------------------------------


def _missing(
    tree: Snapshot, paths: tuple[str, ...], struct: str, sets: frozenset[Path] | set[Path]
) -> tuple[str, ...]:
    """Return the members of a struct that are not among `sets`; empty where it is not found."""
    found = []
    for names, inner in _members(tree, paths, struct):
        here = {one for one in sets if one[0] in names}
        if not here:
            found.append(names[0])
        elif inner in HOMES and all(len(one) > 1 for one in here):
            below = _missing(tree, paths, inner, {one[1:] for one in here})
            found += [f'{names[0]}.{one}' for one in below]
    return tuple(found)


def _members(
    tree: Snapshot, paths: tuple[str, ...], struct: str
) -> tuple[tuple[tuple[str, ...], str], ...]:
    for path in dict.fromkeys((HOMES[struct], *paths)):
        text = tree.read(path) or b''
        if f'struct {struct} {{'.encode() in text and len(text) <= LARGEST:
            return _members_in(text, struct)
    return ()


@lru_cache(maxsize=32)
def _members_in(text: bytes, struct: str) -> tuple[tuple[tuple[str, ...], str], ...]:
    """Return (names, type) for each member; several names are those of an unnamed union."""
    for node in walk(parse(text).root, 'struct_specifier'):
        body = node.child_by_field_name('body')
        if body is not None and text_of(node.child_by_field_name('name')) == struct:
            return () if node.has_error else tuple(_of_body(body))
    return ()


def _of_body(body: Node) -> Iterator[tuple[tuple[str, ...], str]]:
    for declaration in body.named_children:
        if declaration.type != 'field_declaration':
            continue
        base = declaration.child_by_field_name('type')
        names = tuple(
            text_of(declared_name(one)) for one in declaration.children_by_field_name('declarator')
        )
        for name in names:
            yield (name,), text_of(base).removeprefix('struct ')
        inner = base.child_by_field_name('body') if base is not None else None
        if names or inner is None or base is None:
            continue
        below = list(_of_body(inner))
        if base.type == 'struct_specifier':
            yield from below
        elif all('{' not in type_ for _, type_ in below):
            yield tuple(name for group, _ in below for name in group), ''
