"""
The rules: one file each, named after its id.

`ALL` holds them in sorted order. A rule that does not load stops the program,
with its file's name and the reason (`RuleLoadError`). Files that begin with
`_` are shared knowledge, not rules.
"""

import importlib
import pkgutil
import traceback
from dataclasses import replace
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from types import ModuleType

from bot.errors import RuleLoadError
from bot.rule import Rule


def module_path(name: str) -> str:
    """Return the path of a shipped rule's file."""
    return f'{__path__[0]}/{name}.py'


def _load(name: str) -> Rule:
    try:
        module = importlib.import_module(f'{__name__}.{name}')
    except Exception as error:
        path = module_path(name)
        raise RuleLoadError(f'{path}:{_line(error, path)}: does not load: {error!r}') from error
    return _rule(name, module, 'rules')


def _rule(name: str, module: ModuleType, folder: str) -> Rule:
    rule = getattr(module, 'RULE', None)
    if not isinstance(rule, Rule):
        raise RuleLoadError(f'{folder}/{name}.py: has no RULE')
    if rule.id != name.replace('_', '-'):
        raise RuleLoadError(f'{folder}/{name}.py: calls its rule {rule.id!r}')
    if not module.__doc__:
        raise RuleLoadError(f'{folder}/{name}.py: has no docstring: it is the documentation')
    return replace(rule, doc=module.__doc__)


def load_folder(folder: str) -> tuple[Rule, ...]:
    """
    Load the rule files of a folder of one's own, as `ALL` is loaded.

    Files that begin with `_` are not rules; a rule can't import them, since
    its folder is no package.
    """
    return tuple(
        _rule(found.name, _file(f'{folder}/{found.name}.py', found.name), folder)
        for found in sorted(pkgutil.iter_modules([folder]), key=lambda found: found.name)
        if not found.name.startswith('_') and not found.ispkg
    )


def _file(path: str, name: str) -> ModuleType:
    loader = SourceFileLoader(f'own_rules.{name}', path)
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    try:
        loader.exec_module(module)
    except Exception as error:
        raise RuleLoadError(f'{path}:{_line(error, path)}: does not load: {error!r}') from error
    return module


def _line(error: Exception, path: str) -> int:
    """Return the line of `path` that an error came from."""
    if isinstance(error, SyntaxError) and error.filename == path:
        return error.lineno or 1
    frames = [one for one in traceback.extract_tb(error.__traceback__) if one.filename == path]
    return (frames[-1].lineno or 1) if frames else 1


ALL: tuple[Rule, ...] = tuple(
    _load(found.name)
    for found in sorted(pkgutil.iter_modules(__path__), key=lambda found: found.name)
    if not found.name.startswith('_')
)
"""Every rule, by id."""
