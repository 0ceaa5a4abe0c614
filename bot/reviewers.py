"""
Who looks after the files of a patch: the kernel's own script, on the kernel's own list.

Both are taken from the base, never from what a series makes of them, and run
in the cage. Files that the script wants to see are there, empty.
"""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence

from bot.errors import SandboxError
from bot.model import Snapshot
from bot.sandbox import Cage, File

SCRIPT, LIST = 'scripts/get_maintainer.pl', 'MAINTAINERS'
# What the script takes for the top of a kernel tree.
TOP = ('COPYING', 'CREDITS', 'Kbuild', 'Makefile', 'README')
FOLDERS = (
    'Documentation',
    'arch',
    'include',
    'drivers',
    'fs',
    'init',
    'ipc',
    'kernel',
    'lib',
    'scripts',
)
WORDS = (
    'perl', SCRIPT, '--no-git', '--no-git-fallback', '--no-git-blame', '--no-keywords', '--no-l',
    '--no-rolestats', '--no-roles', '--no-fixes', '-f',
)  # fmt: skip
SAFE = re.compile(r'[\w.+,@=/~-]{1,400}')
ADDRESS = re.compile(r'([^<>\s]+@[^<>\s]+?)>?\Z')
MOST = 200
"""Files of one patch that are asked about."""


def people(
    cage: Cage, ground: Snapshot, paths: Mapping[int, Sequence[str]]
) -> dict[int, frozenset[str]]:
    """
    Return the addresses (lower case) of those who look after each patch's files.

    `paths` are the files of each patch, by its number. Empty for all where the
    tree has no MAINTAINERS or no script. Raises `SandboxError` where the
    script can't be run.
    """
    script, listed = ground.read(SCRIPT), ground.read(LIST)
    if script is None or listed is None or not paths:
        return {n: frozenset() for n in paths}
    asked = {n: [one for one in every if SAFE.fullmatch(one)][:MOST] for n, every in paths.items()}
    ran = cage.run(_files(script, listed, asked), '', [('ask', _command(asked))])
    phase = ran.phases[0] if ran.phases else None
    if phase is None or phase.status != 0:
        said = phase.output.strip().split('\n')[-1] if phase is not None else ran.complaint
        raise SandboxError(f'{SCRIPT}: {said or ran.stopped or "did not run"}')
    return _read(phase.output, paths)


def _files(script: bytes, listed: bytes, asked: Mapping[int, Sequence[str]]) -> Iterator[File]:
    yield SCRIPT, 0o100755, script
    yield LIST, 0o100644, listed
    yield from ((name, 0o100644, b'') for name in TOP)
    yield from ((f'{name}/.there', 0o100644, b'') for name in FOLDERS)
    there = {SCRIPT, LIST, *TOP}
    for path in dict.fromkeys(path for every in asked.values() for path in every):
        if path not in there and not path.startswith(('/', '../')) and '/../' not in path:
            yield path, 0o100644, b''


def _command(asked: Mapping[int, Sequence[str]]) -> str:
    lines = []
    for n, paths in asked.items():
        lines.append(f'echo "== {n}"')
        if paths:
            lines.append(f'{shlex.join(WORDS)} -- {shlex.join(paths)} || exit 1')
    return '\n'.join(lines)


def _read(output: str, paths: Mapping[int, Sequence[str]]) -> dict[int, frozenset[str]]:
    found: dict[int, set[str]] = {n: set() for n in paths}
    n = 0
    for line in output.split('\n'):
        if line.startswith('== ') and line[3:].isdecimal():
            n = int(line[3:])
        elif n in found and (address := ADDRESS.search(line.strip())):
            found[n].add(address[1].lower())
    return {number: frozenset(some) for number, some in found.items()}
