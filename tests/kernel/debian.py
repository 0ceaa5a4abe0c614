"""
`make kernel`: a real kernel tree from Debian's source package, in a cache.

    python -m tests.kernel.debian [VERSION | --newest N]

Finds linux-source-7.x in the suites that have it, through a private apt
configuration that takes the mirror's address from the machine's own sources;
the package is streamed into `git fast-import`, never unpacked to disk. The
result is a bare repository with one commit, `linux-source-VERSION.git`, in
$XDG_CACHE_HOME/vma-review-bot. What is there already is not fetched again; an
interrupted run starts anew behind the download, which apt resumes.
"""

import argparse
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

SUITES = ('sid', 'trixie-backports')
PACKAGE = re.compile(r'linux-source-(7\.\d+)')


class KernelError(Exception):
    """Why there is no kernel: one line."""


def cache() -> Path:
    """The folder that kernels are kept in."""
    base = os.environ.get('VMA_BOT_KERNELS') or os.environ.get('XDG_CACHE_HOME')
    return Path(base or Path.home() / '.cache') / 'vma-review-bot'


def cached() -> list[tuple[str, Path]]:
    """(version, repository) of the kernels in the cache, newest first."""
    found = [
        (match[1], path)
        for path in cache().glob('linux-source-*.git')
        if (match := re.fullmatch(r'linux-source-(7\.\d+)\.git', path.name))
    ]
    return sorted(found, key=lambda one: _number(one[0]), reverse=True)


def fetch(version: str | None, newest: int = 1) -> list[Path]:
    """Make sure that `version`, or the `newest` series on offer, are in the cache."""
    folder = cache()
    folder.mkdir(parents=True, exist_ok=True)
    if version is not None and (folder / f'linux-source-{version}.git').is_dir():
        return [folder / f'linux-source-{version}.git']
    with _apt(folder) as options:
        wanted = [version] if version else _offered(options)[:newest]
        return [_one(folder, options, one) for one in wanted]


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split('.'))


@contextlib.contextmanager
def _apt(folder: Path) -> Iterator[list[str]]:
    if shutil.which('apt-get') is None:
        raise KernelError('no apt on this machine: name a clone with KERNEL=/path/to/linux')
    mirror = _mirror()
    private = folder / 'apt'
    for name in ('lists/partial', 'cache/archives/partial'):
        (private / name).mkdir(parents=True, exist_ok=True)
    sources = private / 'sources.list'
    sources.write_text(''.join(f'deb {mirror} {suite} main\n' for suite in SUITES))
    options = []
    for setting in (
        f'Dir::Etc::sourcelist={sources}',
        'Dir::Etc::sourceparts=-',
        f'Dir::State::Lists={private}/lists',
        f'Dir::Cache={private}/cache',
        'APT::Sandbox::User=root',
        'Acquire::Languages=none',
    ):
        options += ['-o', setting]
    _run(['apt-get', *options, '-q', 'update'])
    yield options


def _mirror() -> str:
    """The Debian mirror of the machine's own configuration."""
    listed = _run(['apt-get', 'indextargets', '--format', '$(SITE) $(RELEASE) $(COMPONENT)'])
    text = '\n'.join(
        path.read_text(errors='replace')
        for pattern in ('sources.list', 'sources.list.d/*.list', 'sources.list.d/*.sources')
        for path in Path('/etc/apt').glob(pattern)
    )
    found = re.findall(r'^(?:URIs:|deb(?:\s+\[[^\]]*\])?)\s+(\S+/debian)/?(?:\s|$)', text, re.M)
    if not found:
        found = re.findall(r'^(\S+/debian)/? ', listed, re.M)
    if not found:
        raise KernelError('no Debian mirror among apt sources: name a clone with KERNEL=/path')
    return str(found[0])


def _offered(options: list[str]) -> list[str]:
    said = _run(['apt-cache', *options, 'search', '--names-only', '^linux-source-7'])
    versions = sorted(set(PACKAGE.findall(said)), key=_number, reverse=True)
    if not versions:
        raise KernelError(f'no linux-source-7.x in {", ".join(SUITES)}')
    return versions


def _one(folder: Path, options: list[str], version: str) -> Path:
    done = folder / f'linux-source-{version}.git'
    if done.is_dir():
        return done
    package = f'linux-source-{version}'
    print(f'{package}: downloading about 164 MB, once', file=sys.stderr)
    downloads = folder / 'apt' / 'cache'
    _run(['apt-get', *options, '-q', 'download', package], cwd=downloads)
    deb = max(downloads.glob(f'{package}_*.deb'), key=lambda path: path.stat().st_mtime)
    print(f'{package}: writing it to {done}', file=sys.stderr)
    started = time.monotonic()
    making = folder / f'.making-{version}-{os.getpid()}'
    for left in folder.glob(f'.making-{version}-*'):
        shutil.rmtree(left, ignore_errors=True)
    try:
        _import(deb, version, making)
        making.rename(done)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    for downloaded in downloads.glob(f'{package}_*.deb'):
        downloaded.unlink()
    print(f'{package}: {time.monotonic() - started:.0f} s', file=sys.stderr)
    return done


def _import(deb: Path, version: str, repository: Path) -> None:
    _run(['git', 'init', '-q', '--bare', '-b', 'master', str(repository)])
    _run(['git', '-C', str(repository), 'config', 'core.compression', '1'])
    with contextlib.ExitStack() as stack:
        stream: IO[bytes] | None = None
        children = []
        for words in (
            ['dpkg-deb', '--fsys-tarfile', str(deb)],
            ['tar', '-xOf', '-', f'./usr/src/linux-source-{version}.tar.xz'],
            ['xz', '-dc', '-T0'],
        ):
            child = subprocess.Popen(words, stdin=stream, stdout=subprocess.PIPE)
            if stream is not None:
                stream.close()
            stream = child.stdout
            children.append(stack.enter_context(child))
        git = stack.enter_context(
            subprocess.Popen(
                ['git', '-C', str(repository), 'fast-import', '--quiet', '--depth=0'],
                stdin=subprocess.PIPE,
            )
        )
        assert stream is not None
        assert git.stdin is not None
        _write(stream, git.stdin, version)
        git.stdin.close()
        if any(child.wait() for child in (*children, git)):
            raise KernelError(f'{deb.name} could not be unpacked: run it again')


def _write(packed: IO[bytes], out: IO[bytes], version: str) -> None:
    """Write a tar of a tree as one commit in git's fast-import language."""
    message = f'Linux {version}, as Debian packages it\n'.encode()
    out.write(b'commit refs/heads/master\n')
    out.write(b'committer Debian <debian-kernel@lists.debian.org> 1767225600 +0000\n')
    out.write(b'data %d\n%s\n' % (len(message), message))
    with tarfile.open(fileobj=packed, mode='r|') as tree:
        for count, member in enumerate(tree):
            _, _, path = member.name.removeprefix('./').partition('/')
            if member.issym():
                mode, content = b'120000', member.linkname.encode()
            elif member.isreg():
                file = tree.extractfile(member)
                assert file is not None
                mode, content = (b'100755' if member.mode & 0o100 else b'100644'), file.read()
            else:
                continue
            out.write(b'M %s inline %s\n' % (mode, _quoted(path)))
            out.write(b'data %d\n%s\n' % (len(content), content))
            if count % 20_000 == 0 and count:
                print(f'  {count} files', file=sys.stderr)


def _quoted(path: str) -> bytes:
    escaped = path.replace('\\', '\\\\').replace('"', '\\"').replace('\n', '\\n')
    return f'"{escaped}"'.encode()


def _run(words: list[str], cwd: Path | None = None) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=cwd)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ['no reason given'])[-1]
        raise KernelError(f'{words[0]} {words[-1]} fails: {last}')
    return done.stdout


def main() -> int:
    """Fetch what the command line asks for."""
    parser = argparse.ArgumentParser(prog='make kernel')
    parser.add_argument('version', nargs='?')
    parser.add_argument('--newest', type=int, default=1)
    options = parser.parse_args()
    try:
        for path in fetch(options.version or None, options.newest):
            print(path)
    except KernelError as error:
        print(f'kernel: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
