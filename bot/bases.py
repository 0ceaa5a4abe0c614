"""
Which commit a series is judged on, and why that one.

`--base` if it was given, else the `base-commit:` that the series names when
the tree has it, else the tree's first ref.
"""

from bot.errors import TreeError
from bot.model import Base, Series, Tree
from bot.tree import Quarantine


def choose(series: Series, tree: Tree, quarantine: Quarantine, wanted: str | None) -> Base:
    """Return the base; `TreeError` where there is no such commit."""
    if wanted is not None:
        return Base(tree.name, wanted, str(quarantine.resolve(wanted).id), '--base')
    if series.base_commit is not None:
        try:
            commit = quarantine.resolve(series.base_commit)
        except TreeError:
            pass
        else:
            return Base(tree.name, 'base-commit', str(commit.id), 'the series names it')
    ref = tree.refs[0]
    return Base(tree.name, ref, str(quarantine.resolve(ref).id), f'the first ref of {tree.name}')
