"""
Behind each real call that ends a VMA, that VMA is used.

A use is put behind the call (behind the whole `if`, where the call is its
condition; on the error path too, where the call ends the VMA by failing), the
statement before the call is moved behind it, the call is made twice, or the
assignment that gives the variable another VMA is taken away.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tree_sitter import Node

from bot.csyntax import calls, parse, text_of
from bot.csyntax.syntax import walk
from bot.model import Snapshot
from bot.rule import Edit
from tests.evaluate.planting import Plant, text

ENDS = re.compile(r'\b(?:remove_vma|do_vmi_align_munmap|do_munmap|mmap_action_complete)\(')
USES = {
    'read': 'pr_debug("%lx\\n", V->vm_start);',
    'written': 'V->vm_private_data = NULL;',
    'handed on': 'vma_assert_write_locked(V);',
    'tested': 'if (V->vm_flags & VM_ACCOUNT)\n\t\tcond_resched();',
}
STATEMENTS = ('expression_statement', 'return_statement', 'if_statement')
FOLDERS = ('mm', 'ipc', 'fs/proc', 'arch/x86/kernel')


@dataclass(frozen=True)
class Place:
    """A call that ends `vma`, and the statement that it stands in."""

    path: str
    whole: str
    function: str
    body: Node
    call: Node
    vma: str
    statement: Node

    @property
    def name(self) -> str:
        """Where it is."""
        callee = text_of(self.call.child_by_field_name('function'))
        line = self.call.start_point.row - self.body.start_point.row
        return f'{self.path}: {self.function}(), {callee}() {line} lines down'

    def edited(self, how: str, start: int, end: int, new: str) -> Plant:
        """Put a text in the place of another."""
        whole = self.whole[:start] + new + self.whole[end:]
        return Plant(f'{self.name}: {how}', (Edit({self.path: whole}),), self.path)


def plants(tree: Snapshot) -> Iterator[Plant]:
    for folder in FOLDERS:
        for path in tree.list(folder):
            if not path.endswith('.c'):
                continue
            whole = text(tree, path)
            if ENDS.search(whole):
                for place in _places(path, whole):
                    yield from _plants(place)


def _places(path: str, whole: str) -> Iterator[Place]:
    for function in parse(whole.encode('latin-1')).all_functions:
        for call in calls(function.body) if function.clean else ():
            vma = _ended(call.name, call.arguments)
            statement: Node | None = call.node
            while statement is not None and statement.type not in STATEMENTS:
                statement = statement.parent
            if vma is not None and statement is not None:
                yield Place(path, whole, function.name, function.body, call.node, vma, statement)


def _ended(name: str, given: tuple[str, ...]) -> str | None:
    if name == 'remove_vma':
        return given[0]
    if name == 'do_vmi_align_munmap':
        return given[1]
    if name == 'do_munmap' and (found := re.fullmatch(r'(\w+)->vm_start', given[1])):
        return found[1]
    if name == 'mmap_action_complete' and given[2] == 'false':
        return given[0]
    return None


def _plants(place: Place) -> Iterator[Plant]:
    statement, whole = place.statement, place.whole
    start, end = statement.start_byte, statement.end_byte
    old = whole[start:end]
    if statement.type == 'return_statement':
        called = whole[place.call.start_byte : place.call.end_byte]
        for how, use in _uses(place):
            new = f'{{\n\t\tint planted = {called};\n\n\t\tif (!planted)\n\t\t\t{use}\n'
            yield place.edited(how, start, end, f'{new}\t\treturn planted;\n\t}}')
        return
    braced = statement.parent is not None and statement.parent.type == 'compound_statement'
    for how, use in _uses(place):
        new = f'{old}\n\t{use}' if braced else f'{{\n\t{old}\n\t{use}\n\t}}'
        yield place.edited(how, start, end, new)
    if statement.type == 'expression_statement' and not _result(place):
        new = f'{old}\n\t{old}' if braced else f'{{\n\t{old}\n\t{old}\n\t}}'
        yield place.edited('twice', start, end, new)
    if braced:
        yield from _moved(place)
        yield from _on_failure(place)
    for found in walk(place.body, 'expression_statement'):
        if found.start_byte > end and text_of(found).startswith(f'{place.vma} = vma_'):
            yield place.edited('not assigned anew', found.start_byte, found.end_byte, ';')
            break


def _uses(place: Place) -> Iterator[tuple[str, str]]:
    for how, use in USES.items():
        yield (
            how,
            use.replace('V', place.vma, 1)
            if 'V->' in use
            else use.replace('(V)', f'({place.vma})'),
        )


def _result(place: Place) -> str | None:
    found = next(walk(place.statement, 'assignment_expression'), None)
    return text_of(found.child_by_field_name('left')) if found is not None else None


def _moved(place: Place) -> Iterator[Plant]:
    """Move the statement before the call, where it uses the VMA, behind it."""
    before = place.statement.prev_named_sibling
    if before is None or before.type != 'expression_statement':
        return
    moved, old = (
        place.whole[node.start_byte : node.end_byte] for node in (before, place.statement)
    )
    if re.search(rf'\b{place.vma}\b', moved):
        new = f'{old}\n\t{moved}'
        yield place.edited('moved behind', before.start_byte, place.statement.end_byte, new)


def _on_failure(place: Place) -> Iterator[Plant]:
    """Use the VMA where the test of a result, behind the call, leaves the function."""
    after = place.statement.next_named_sibling
    result = _result(place)
    if after is None or after.type != 'if_statement' or result is None:
        return
    then = after.child_by_field_name('consequence')
    if then is None or text_of(after.child_by_field_name('condition')) != f'({result})':
        return
    old = place.whole[then.start_byte : then.end_byte]
    for how, use in _uses(place):
        yield place.edited(
            f'{how} on failure', then.start_byte, then.end_byte, f'{{\n\t{use}\n\t{old}\n\t}}'
        )
