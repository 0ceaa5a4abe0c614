"""
The rules: one file each, named after its id.

`ALL` holds them in sorted order. A rule that does not load stops the program,
with its file's name and the reason (`RuleLoadError`). Files that begin with
`_` are shared knowledge, not rules.
"""

import importlib
import pkgutil
from dataclasses import replace

from bot.errors import RuleLoadError
from bot.rule import Rule


def _load(name: str) -> Rule:
    try:
        module = importlib.import_module(f'{__name__}.{name}')
    except Exception as error:
        raise RuleLoadError(f'rules/{name}.py does not load: {error!r}') from error
    rule = getattr(module, 'RULE', None)
    if not isinstance(rule, Rule):
        raise RuleLoadError(f'rules/{name}.py has no RULE')
    if rule.id != name.replace('_', '-'):
        raise RuleLoadError(f'rules/{name}.py calls its rule {rule.id!r}')
    if not module.__doc__:
        raise RuleLoadError(f'rules/{name}.py has no docstring: it is the documentation')
    return replace(rule, doc=module.__doc__)


ALL: tuple[Rule, ...] = tuple(
    _load(found.name)
    for found in sorted(pkgutil.iter_modules(__path__), key=lambda found: found.name)
    if not found.name.startswith('_')
)
"""Every rule, by id."""
