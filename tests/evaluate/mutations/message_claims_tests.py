"""
Messages that speak of the VMA tests, on changes of mm/ that do not touch them.

Each way to say it on another file of mm/, which gets a comment at its end;
some as the second patch of two.
"""

from collections.abc import Iterator

from bot.model import Snapshot
from bot.rule import Edit
from tests.evaluate.planting import Plant, text

SAYS = (
    'Finally, update the VMA userland tests to reflect the changes.',
    'Also update VMA tests code to reflect current compatibility layer state.',
    'Also update the VMA tests to reflect this change.',
    'We update the documentation to describe it.  Finally,\nwe update the VMA tests.',
    'Finally, we update the VMA tests accordingly to reflect the changes.',
    'Additionally, this updates the VMA userland tests.',
    'While here, adjust the userland VMA tests.',
    'This patch also updates tools/testing/vma/include/dup.h.',
    'Update the copy in tools/testing/vma accordingly.',
    'The VMA tests are updated accordingly.',
    'Remove the old helper, and update the VMA tests.',
    'Update all callers and the VMA tests as needed.',
    '- add the new helper\n- update the VMA tests\n- no functional change',
    'Convert the callers, adjusting the VMA unit tests as well.',
    'No functional change intended.\n\nFix up the VMA tests too.',
    'The stubs in tools/testing/vma are adjusted to match.',
    'Updated the VMA tests to match.',
    'We add VMA tests to assert that it does.',
    'I also extended the VMA tests to cover this.',
    'Add tests to tools/testing/vma that cover it.',
    'Propagate the changes to the VMA tests.',
    'Mirror this in the VMA tests.',
    'This renames it and updates its copy in tools/testing/vma/include/dup.h.',
    'Everything that calls it is converted; the userland VMA tests have been updated.',
    'We sync the userland VMA tests with this.',
)
SUBJECTS = ('tools/testing/vma: sync the copies', 'mm: clean up, update the VMA tests')


def plants(tree: Snapshot) -> Iterator[Plant]:
    """One a way to say it."""
    paths = [path for path in tree.list('mm') if path.endswith('.c') and 'test' not in path]
    told = [f'mm: describe the end\n\nA comment says that it is the end.\n\n{one}' for one in SAYS]
    told += [f'{subject}\n\nA comment says that it is the end.' for subject in SUBJECTS]
    for n, message in enumerate(told):
        path, other = paths[n % len(paths)], paths[(n + 1) % len(paths)]
        edit = Edit({path: text(tree, path) + '\n/* The end. */\n'}, message)
        first = Edit({other: text(tree, other) + '\n/* The end. */\n'}, 'mm: a comment\n\nOne.')
        yield Plant(
            f'{path}: {message.rpartition(chr(10))[2]}', (first, edit) if n % 4 == 0 else (edit,)
        )
