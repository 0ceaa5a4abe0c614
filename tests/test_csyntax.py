"""C as rules see it."""

import pytest

from bot.csyntax import Flow, calls, flow_of, parse, tokens

ATTRIBUTED = b"""
static __always_inline bool __must_check f(struct foo *a, unsigned long b) __must_hold(&x)
{
	struct page *p = container_of(a, struct page, lru);
	unsigned long n = min_t(unsigned long, b, 4);

	list_for_each_entry(p, &a->list, lru) {
		if (p)
			continue;
		g(p);
	}
	scoped_guard(mutex, &lock) {
		return h(n);
	}
	return false;
}
"""


def test_kernel_macros_do_not_stand_in_the_way() -> None:
    source = parse(ATTRIBUTED)
    assert source.clean
    function = source.functions['f']
    assert [call.name for call in calls(function.body)] == ['container_of', 'min_t', 'g', 'h']
    variable = function.variable('p')
    assert variable is not None
    assert (variable.type, variable.pointer) == ('struct page', True)
    assert source.text.count(b'\n') == source.root.end_point.row


def test_comments_strings_and_macros_are_not_masked() -> None:
    text = b'#define A __init x\n/* __init struct */ char *s = "__user for_each(x) {";\n'
    assert b'"__user for_each(x) {"' in (parse(text).root.text or b'')
    assert parse(text).definitions[0].tokens == ('#', 'define', 'A', 'x')


@pytest.mark.parametrize(
    ('text', 'kind', 'name'),
    [
        (b'int f(void)\n{\n}\n', 'function', 'f'),
        (b'static struct foo *f(int a)\n{\n\treturn 0;\n}\n', 'function', 'f'),
        (b'int f(void);\n', 'prototype', 'f'),
        (b'struct s {\n\tint a;\n} __randomize_layout;\n', 'struct', 's'),
        (b'union u {\n\tint a;\n};\n', 'union', 'u'),
        (b'enum e { A, B };\n', 'enum', 'e'),
        (b'enum { A, B };\n', 'enum', 'A'),
        (b'enum e {\n\tBIT(A, 1), /* a */\n\tBIT(B, 2),\n};\n', 'enum', 'e'),
        (b'typedef struct {\n\tint a;\n} t;\n', 'typedef', 't'),
        (b'#define M 1\n', 'macro', 'M'),
        (b'#define M(x) \\\n\tdo { x; } while (0)\n', 'macro', 'M'),
    ],
)
def test_definitions(text: bytes, kind: str, name: str) -> None:
    found = parse(b'\n' + text + b'\n').definitions
    assert [(one.kind, one.name, one.start) for one in found] == [(kind, name, 2)]
    assert found[0].end == 1 + text.count(b'\n')


def test_the_context_of_a_definition_is_its_ifs_without_the_guard() -> None:
    text = (
        b'/* x */\n#ifndef G_H\n#define G_H\n#ifdef CONFIG_MMU\nint f(void) { }\n#else\n'
        b'int f(void) { return 1; }\n#endif\n#if defined(A) && B\nint g(void) { }\n#endif\n#endif\n'
    )
    contexts = {
        (one.name, one.context) for one in parse(text).definitions if one.kind == 'function'
    }
    assert contexts == {
        ('f', ('CONFIG_MMU',)),
        ('f', ('else of CONFIG_MMU',)),
        ('g', ('defined ( A ) && B',)),
    }


def test_tokens_leave_out_comments_storage_and_attributes() -> None:
    one = b'static inline int f(int a) __must_hold(&l) /* why */\n{\n\treturn a >> 1; // x\n}'
    two = b'int f( int a ) { return a>>1; }'
    assert tokens(one) == tokens(two)
    assert tokens(b'a >>= 1') != tokens(b'a > >= 1')
    assert tokens(b'const int *a') != tokens(b'int *const a')


def test_members_and_their_const() -> None:
    text = (
        b'struct s {\n\tconst struct a *const x;\n\tstruct b *y, *z;\n'
        b'\tconst int n;\n\tint (*f)(int);\n};'
    )
    found = {
        one.name: (one.pointer, one.const, one.pointee_const) for one in parse(text).members('s')
    }
    assert found['x'] == (True, True, True)
    assert found['y'] == found['z'] == (True, False, False)
    assert found['n'] == (False, True, False)


def flow(body: str) -> Flow:
    found = flow_of(parse(f'int f(void)\n{{\n{body}\n}}\n'.encode()).functions['f'])
    assert found is not None
    return found


def paths(body: str) -> set[str]:
    """The calls that each path to the exit makes, in order; loops once."""
    found = set()

    def step(point: object, state: str, outcome: bool | None) -> str:
        node = getattr(point, 'node', None)
        made = ''.join(call.name for call in calls(node)) if node is not None else ''
        return state + made if len(state) < 12 else state

    for point, state, _ in flow(body).walk('', step):
        if point.kind == 'exit':
            found.add(state)
    return found


@pytest.mark.parametrize(
    ('body', 'expected'),
    [
        ('a(); b(); return 0;', {'ab'}),
        ('if (x) a(); else b(); c();', {'ac', 'bc'}),
        ('if (x) { a(); return 1; } b();', {'a', 'b'}),
        ('if (x && y) a(); b();', {'ab', 'b'}),
        ('if (p() && q()) a();', {'p', 'pq', 'pqa'}),
        ('if (p() || !q()) a();', {'pa', 'pqa', 'pq'}),
        ('if (unlikely(!p())) a(); b();', {'pab', 'pb'}),
        ('a(); goto out; b(); out: c();', {'ac'}),
        ('if (x) goto out; a(); out: b(); return 0;', {'b', 'ab'}),
        ('switch (x) { case 1: a(); break; case 2: b(); default: c(); }', {'a', 'bc', 'c'}),
        ('switch (x) { case 1: a(); break; } b();', {'ab', 'b'}),
        ('do { a(); } while (0); b();', {'ab'}),
        ('while (1) { a(); if (x) break; } b();', {'ab', 'aab'}),
        ('a();\n#ifdef X\nb();\n#else\nc();\n#endif\nd();', {'abd', 'acd'}),
        ('a();\n#if X\nb();\n#elif Y\nc();\n#endif\nd();', {'abd', 'acd', 'ad'}),
        ('\n#ifdef X\nreturn a();\n#else\nb();\n#define Z c()\n#endif\nd();', {'a', 'bd'}),
        ('\n#ifndef X\nif (x) return a();\n#endif\nb();', {'a', 'b'}),
        (
            'switch (x) {\n#ifdef X\ncase 1: a(); break;\n#else\ncase 2: b(); break;\n#endif\n}',
            {'', 'a', 'b'},
        ),
        ('switch (x) { case 1: a();\n#if X\ndefault: b();\n#endif\n} c();', {'ac', 'abc', 'bc'}),
        ('switch (x) { case 1: a(); { case 2: b(); } }', {'', 'ab', 'b'}),
        ('auto p = a(); const auto q = b(p); if (x) return q; c();', {'ab', 'abc'}),
        ('scoped_guard(mutex, &l) { if (x) return a(); b(); } c();', {'a', 'bc'}),
        ('for_each_thing(p, &l) { a(); break; } b();', {'ab', 'b'}),
        ('if (x ? a() : b()) c(); return d(e());', {'abcde', 'abde'}),
        ('for (i = 0; i < 2; i++) { if (x) continue; a(); break; } b();', {'ab', 'b'}),
    ],
)
def test_flow(body: str, expected: set[str]) -> None:
    found = paths(body)
    assert expected <= found if 'while (1)' in body else expected == found


def test_dominance() -> None:
    graph = flow('a(); if (x) b(); c();')
    by_name = {
        call.name: point for point in graph.points if point.node for call in calls(point.node)
    }
    assert graph.dominates(by_name['a'], by_name['c'])
    assert not graph.dominates(by_name['b'], by_name['c'])
    assert graph.dominates(by_name['c'], graph.exit)


def test_what_can_not_be_read_has_no_flow() -> None:
    broken = parse(b'int f(void)\n{\n\tif (x {{\n}\nint g(void)\n{\n\treturn 1;\n}\n')
    assert not broken.clean
    unknown = parse(b'int f(void)\n{\n\tgoto nowhere;\n}\n').functions['f']
    assert flow_of(unknown) is None


def test_what_can_be_had_of_a_broken_file() -> None:
    source = parse(b'int f(void)\n{\n\treturn 1;\n}\n)))) junk ((\nint g(void)\n{\n}\n')
    assert not source.clean
    assert 'f' in source.functions


def test_a_text_that_takes_too_many_steps_yields_nothing_and_says_so() -> None:
    source = parse(b'int f(void)\n{\n\treturn 1;\n}\n' + b'/ * ' * 3000)
    assert source.given_up
    assert not source.clean
    assert (source.definitions, source.functions) == ((), {})
    assert source.line(3) == '\treturn 1;'


def test_a_comment_that_nothing_closes_reaches_to_the_end() -> None:
    source = parse(b'int f(void)\n{\n\treturn 1;\n}\n' + b'/* ' * 30_000 + b'\nint g(void) { }\n')
    assert not source.given_up
    assert list(source.functions) == ['f']
    assert tokens(source.text) == ('int', 'f', '(', 'void', ')', '{', 'return', '1', ';', '}')


@pytest.mark.parametrize(
    'text', [b'/*/', b'/* a */ /*', b'char a[] = "/*"; /* a', b'// /*\nint a; /* b']
)
def test_an_open_comment_is_found_behind_what_only_looks_like_one(text: bytes) -> None:
    assert parse(text).clean
    assert b'/*' not in (parse(text).root.text or b'')[text.rfind(b'/*') :]


def test_deep_conditions_are_cut_off() -> None:
    text = b''.join(b'#if A%d\n' % n for n in range(100)) + b'int f(void) { }\n' + b'#endif\n' * 100
    (found,) = parse(text).definitions
    assert found.context == tuple(f'A{n}' for n in range(64))
