"""
A function takes a pointer to const, casts the const away, and stores the result.

The parameter promises callers that what it points to is left alone. Once a
plain pointer to it is stored, whoever reads that member may write through it,
and neither caller nor compiler can know. It is sometimes meant:
compat_set_desc_from_vma() (mm/util.c) takes a const struct file and puts it
into a descriptor whose file is not const. So this is a note: is the const of
the parameter true, or could the member have it too?

Only a direct cast of the parameter to its own type without the const, stored
in a member or a variable. Silent about a cast that is only passed on or
returned, one to another type (container_of() and the like), void and char
(buffers for interfaces that do without const), a const that the variable has
again, tools/ (where the copies are), and what the parent had, moved and
renamed code included.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from tree_sitter import Node

from bot.csyntax import Function, changed_line, parse, text_of
from bot.csyntax.syntax import declared_name, line_of, walk
from bot.model import Evidence, Hit, Severity, Snapshot, Step, Subject
from bot.rule import Case, Edit, Rule, named
from rules._written import MOST, c_files, functions, newly, read

# Cheap: a cast of a name to a pointer, and a parameter that is a pointer to const.
CAST = re.compile(rb'\(\s*((?:(?:struct|union)\s+)?\w+)[\s\w]*\*[\s\w]*\)[\s(]*([A-Za-z_]\w*)')
PARAMETER = re.compile(
    rb'(?:\bconst\s+((?:(?:struct|union)\s+)?\w+)|\b((?:(?:struct|union)\s+)?\w+)\s+const)'
    rb'[\s\w]*\*[\s\w]*?([A-Za-z_]\w*)\s*[,)]'
)
BUFFERS = ('void', 'char', 'unsigned char', 'u8', '__u8', 'uint8_t')
THROUGH = ('parenthesized_expression', 'conditional_expression', 'comma_expression')


@dataclass(frozen=True)
class Cast:
    """A parameter of a function, cast and stored; `target` says where to."""

    path: str
    function: Function
    parameter: str
    type: str
    target: str
    node: Node = field(compare=False)


def check(subject: Subject) -> Iterator[Hit]:
    for step in subject.steps:
        for diff in step.files:
            if any(CAST.search(line) or b'const' in line for _, line in diff.added):
                break
        else:
            continue
        paths = list(c_files(step))
        after = [one for _, path in paths for one in _casts(step.post, path)]
        if not after:
            continue
        before = [one for path, _ in paths for one in _casts(step.pre, path)]
        found = newly(
            before,
            after,
            lambda x: (x.path, x.function.name, x.type, x.target),
            lambda x: (x.type, x.target, text_of(x.node)),
            lambda x: (x.path, x.function.name, x.type),
        )
        last = subject.steps[-1].post
        left = {path: list(_casts(last, path)) for path in {one.path for one in found}}
        once = {(one.path, one.function.name, one.parameter): one for one in reversed(found)}
        for one in list(once.values())[::-1][:MOST]:
            if last.read(one.path) is None or any(_same(one, other) for other in left[one.path]):
                yield from _hit(step, one)


def _same(one: Cast, other: Cast) -> bool:
    return (one.type, one.target) == (other.type, other.target)


def _hit(step: Step, one: Cast) -> Iterator[Hit]:
    line, end = line_of(one.node), one.node.end_point.row + 1
    where = changed_line(step, one.path, line, end) or changed_line(
        step, one.path, one.function.start, line_of(one.function.body)
    )
    if where is None:
        return
    shown = parse(step.post.read(one.path) or b'').line(line).strip()
    target = named(one.target)
    yield Hit(
        step.n,
        one.path,
        where[0],
        f'{one.function.name}() casts the const of its parameter {one.parameter} away '
        f'and stores it in {target}',
        f'Could {target} point to const, or should the parameter not promise it?',
        side=where[1],
        symbol=f'{one.function.name}.{one.parameter}',
        evidence=() if where == (line, 'new') else (Evidence(one.path, line, shown),),
    )


def _casts(tree: Snapshot, path: str | None) -> Iterator[Cast]:
    text = read(tree, path, b'const')
    if path is None or path.startswith('tools/') or not text:
        return
    wanted = {_key(found) for found in PARAMETER.finditer(text)}
    if not any((b' '.join(found[1].split()), found[2]) in wanted for found in CAST.finditer(text)):
        return
    for function in functions(text):
        found = dict(parameters(function))
        if not found:
            continue
        changed, const = _assigned(function), _const_locals(function)
        for node in walk(function.body, 'cast_expression'):
            name = _name(node.child_by_field_name('value'))
            type_ = _plain_pointer(node.child_by_field_name('type'))
            if type_ is None or found.get(name) != type_ or name in changed:
                continue
            target = _target(const, node)
            if target is not None:
                yield Cast(path, function, name, type_, target, node)


def _key(found: re.Match[bytes]) -> tuple[bytes, bytes]:
    return b' '.join((found[1] or found[2]).split()), found[3]


def parameters(function: Function) -> Iterator[tuple[str, str]]:
    """Yield name and type of the parameters that are a pointer to const."""
    declarator = function.node.child_by_field_name('declarator')
    while declarator is not None and declarator.type != 'function_declarator':
        declarator = declarator.child_by_field_name('declarator')
    listed = declarator.child_by_field_name('parameters') if declarator is not None else None
    for parameter in listed.named_children if listed is not None else ():
        pointer = parameter.child_by_field_name('declarator')
        if parameter.type != 'parameter_declaration' or not _is_const(parameter) or pointer is None:
            continue
        inner = pointer.child_by_field_name('declarator')
        type_ = text_of(parameter.child_by_field_name('type'))
        if (
            pointer.type == 'pointer_declarator'
            and inner is not None
            and inner.type == 'identifier'
        ) and type_ not in BUFFERS:
            yield text_of(inner), type_


def _is_const(node: Node) -> bool:
    """Whether `const` stands beside the type (not behind the `*`)."""
    return any(
        child.type == 'type_qualifier' and text_of(child) == 'const' for child in node.children
    )


def _name(node: Node | None) -> str:
    while node is not None and node.type == 'parenthesized_expression':
        node = node.named_children[0] if node.named_child_count == 1 else None
    return text_of(node) if node is not None and node.type == 'identifier' else ''


def _plain_pointer(node: Node | None) -> str | None:
    """Return T for the type `T *`; None for any other, `const T *` among them."""
    if node is None or _is_const(node):
        return None
    declarator = node.child_by_field_name('declarator')
    if declarator is None or declarator.type != 'abstract_pointer_declarator':
        return None
    if declarator.child_by_field_name('declarator') is not None:
        return None
    return text_of(node.child_by_field_name('type'))


def _assigned(function: Function) -> set[str]:
    """Return the names that are given another value, or declared again."""
    names = [one.name for one in function.variables]
    again = {name for name, count in Counter(names).items() if count > 1}
    return again | {
        text_of(node.child_by_field_name('left'))
        for node in walk(function.body, 'assignment_expression')
    }


def _target(const: set[str], node: Node) -> str | None:
    """Return what the value of an expression is stored in, None where it is not."""
    inner, outer = node, node.parent
    while outer is not None and outer.type in THROUGH:
        if outer.type == 'conditional_expression' and inner == outer.child_by_field_name(
            'condition'
        ):
            return None
        if outer.type == 'comma_expression' and inner != outer.child_by_field_name('right'):
            return None
        inner, outer = outer, outer.parent
    if outer is None:
        return None
    if outer.type == 'assignment_expression':
        left = outer.child_by_field_name('left')
        if inner == left or text_of(outer.child_by_field_name('operator')) != '=' or left is None:
            return None
        if left.type == 'identifier' and text_of(left) in const:
            return None
        return _short(text_of(left))
    if outer.type == 'init_declarator':
        declaration = outer.parent
        if declaration is None or _is_const(declaration):
            return None
        return text_of(declared_name(outer.child_by_field_name('declarator')))
    if outer.type == 'initializer_pair' and inner == outer.child_by_field_name('value'):
        designator = outer.child_by_field_name('designator')
        return _short(text_of(designator)) if designator is not None else None
    return None


def _const_locals(function: Function) -> set[str]:
    """Return the locals that are declared as a pointer to const."""
    return {
        text_of(declared_name(declarator))
        for node in walk(function.body, 'declaration')
        if _is_const(node)
        for declarator in node.children_by_field_name('declarator')
    }


def _short(target: str) -> str:
    return target if len(target) <= 60 else f'{target[:57]}...'


FILE, UTIL = 'drivers/char/example.c', 'mm/util.c'
STORED = """static void example_set(struct example *ex, const struct file *file)
{
	ex->file = (struct file *)file;
}
"""
KEPT = STORED.replace('(struct file *)file', 'get_file_rcu(&file)')
LOCAL = """static int example_size(const struct folio *folio, const char *name)
{
	struct folio *mutable = (struct folio *)folio;

	return folio_size(mutable);
}
"""
PASSED = """static struct file *example_use(const struct file *file, const void *buf,
		const char *name)
{
	const struct file *same = (struct file *)file;
	struct inode *inode = (struct inode *)file;
	struct kvec iov = { .iov_base = (void *)buf };

	use((struct file *)file);
	ex->name = (char *)name;
	ex->key = (unsigned long)file;
	ex->file = container_of(file, struct file, f_node);
	return (struct file *)file;
}
"""

BEHIND = STORED.replace('const struct file *', 'struct file const *const ').replace(
    ')file', ')(file)'
)
CHOSEN = STORED.replace('(struct file *)file', 'file ? (struct file *)file : NULL')
LITERAL = STORED.replace('ex->file = ', '*ex = (struct example){ .file = ').replace(';', ' };')
TWO_STARS = STORED.replace('const struct file *file', 'const struct file **file')
FILP = STORED.replace('file)', 'filp)').replace(')file', ')filp')
PLAIN = STORED.replace('const ', '')


def _case(before: str, *after: str, expect: tuple[int, ...] | None = None) -> Case:
    return Case({FILE: before}, tuple(Edit({FILE: text}) for text in after), expect=expect)


RULE = Rule(
    id='const-cast',
    severity=Severity.NOTE,
    check=check,
    bad=(
        _case(KEPT, STORED, expect=(1,)),
        _case(KEPT, PASSED, PASSED + LOCAL, expect=(2,)),
        _case(KEPT, BEHIND, expect=(1,)),
        _case(KEPT, CHOSEN, expect=(1,)),
        _case(KEPT, LITERAL, expect=(1,)),
        # The cast was there, and did nothing; now the parameter promises const.
        _case(PLAIN, STORED, expect=(1,)),
        # Said once.
        _case(KEPT, STORED, '\n' + FILP, expect=(1,)),
    ),
    good=(
        _case(KEPT, KEPT + PASSED),
        # Moved and renamed.
        _case(STORED, 'int x;\n' + STORED.replace('example_set', 'example_put')),
        Case({FILE: STORED, UTIL: '\n'}, (Edit({FILE: None, UTIL: STORED}),)),
        _case(STORED, FILP),
        # No const parameter, another value by then, two stars.
        _case(KEPT, PLAIN),
        _case(KEPT, STORED.replace('	ex', '	file = dup(file);\n	ex')),
        _case(KEPT, TWO_STARS),
        # A function that can't be read.
        _case(KEPT, STORED.replace('	ex', '	if (x) {{{ ex')),
        # Gone again with the next patch.
        _case(KEPT, STORED, KEPT),
    ),
)
