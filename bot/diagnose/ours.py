"""
What an output and an exit status say of the machine rather than of the code. Pure.

Answers whether a command that failed was killed, or stopped since memory,
space, a file or a tool failed it: that is never the author's fault. Leaves to
the sandbox what is known from outside (its limits, its own kill), and to
`builds` and `runs` what the code did.

All of this is words, which a series can print: they decide that a build *could
not run*, never that it passed. The reasons are sentences of the bot's; no word
of the output is in them.
"""

import errno
import re
from dataclasses import dataclass
from typing import Literal

from bot.diagnose.lines import lines_of
from bot.model import Diagnostic

Kind = Literal['killed', 'crashed', 'memory', 'space', 'cpu', 'io', 'tool', 'object']
EMPTY = 'vma-bot: an object file is empty'
"""Printed after a failed build that has left one: GNU ld takes it for a file without symbols."""

SIGNALS = {1: 'SIGHUP', 2: 'SIGINT', 9: 'SIGKILL', 15: 'SIGTERM'}
"""What comes from outside: the OOM killer, a service that is stopped. No bug raises them."""


@dataclass(frozen=True)
class Fault:
    """Why a command did not come to a result, in words of the bot's."""

    kind: Kind
    text: str


NO_MEMORY = Fault('memory', 'there was no memory left, or no room for another process')
NO_SPACE = Fault('space', 'there was no space left on a file system')
NO_TIME = Fault('cpu', 'a process used up its cpu time')
CRASHED = Fault('crashed', 'the compiler or the linker crashed')
IO = Fault('io', 'a file could not be read or written')
TOOL = Fault('tool', 'a tool or a library is not there, or did not start')
OBJECT = Fault('object', 'an object file was empty or cut off')
SANITIZER = Fault('memory', 'a sanitizer could not get the memory that it needs')
BY_GROUP = {'memory': NO_MEMORY, 'space': NO_SPACE, 'io': IO}


def killed(number: int) -> Fault:
    """Return the fault of a process that a signal from outside has ended."""
    return Fault('killed', f'killed by signal {number} ({SIGNALS[number]})')


MEMORY_WORDS = (
    'virtual memory exhausted|[Mm]emory exhausted|[Oo]ut of memory|Cannot allocate memory'
    '|Resource temporarily unavailable|Cannot fork'
)
SPACE_WORDS = 'No space left on device|Disk quota exceeded|File too large'
READ_ONLY = 'Read-only file system'
"""Most of the sandbox is: what a command of a makefile writes there is its own doing."""
IO_WORDS = (
    f'Input/output error|I/O error|{READ_ONLY}|Too many open files(?: in system)?'
    '|Stale file handle|Bus error|Structure needs cleaning|Transport endpoint is not connected'
    '|Remote I/O error|Text file busy'
)
ERRNO = re.compile(
    rf"(?:^|[:(] ?['\"]?)(?:(?P<memory>{MEMORY_WORDS})|(?P<space>{SPACE_WORDS})|(?P<io>{IO_WORDS}))"
)
# Programs by name, so that a makefile's slip of the pen stays what it is.
COMPILERS = (
    r'(?:[\w.]+-){0,4}(?:gcc|g\+\+|cc|c\+\+|clang|cc1|cc1plus|collect2|lto1|as|cpp|c99)(?:-\d+)?'
)
LINKERS = r'(?:[\w.]+-){0,4}(?:ld(?:[.-](?:bfd|gold|lld))?|lld|mold)(?:-\d+)?'
BINARIES = r'(?:[\w.]+-){0,4}(?:ar|ranlib|nm|objcopy|objdump|strip|readelf)(?:-\d+)?'
SHELL = (
    r'(?:ba|da)?sh|awk|cat|chmod|cmp|cp|cut|dd|diff|echo|env|find|flex|bison|git|grep|head|install'
    r'|ln|ls|m4|mkdir|mktemp|mv|perl|pkg-config|printf|python3?|realpath|rm|sed|sort|tail|tee'
    r'|touch|tr|uniq|wc|xargs|xxd'
)
TOOLS = rf'(?:{COMPILERS}|{LINKERS}|{BINARIES}|{SHELL}|g?make|tar|ccache|bwrap)'
# `make[2]: `, `/usr/bin/ld: `, `/bin/sh: 1: `, `make: *** `.
SAID = re.compile(
    rf'^(?:\S*/)?(?:(?P<any>{SHELL})|{TOOLS})(?:\[\d{{1,4}}\])?: (?:\*\*\* )?(?P<text>.*)$'
)
# as and gcc: a file's name stands where the tool's would.
ABOUT = re.compile(
    r'^(?:\{standard input\}|[^\s:]+)(?::\d+){0,2}: [Ff]atal error: (?!#)(?P<text>.*)$'
)
MAKES = re.compile(r'^g?make(?:\[\d{1,4}\])?: \*\*\* \[[^\]]+\] (?P<text>\S.*)$')
WORDS = {
    'Killed': killed(9),
    'Terminated': killed(15),
    'Hangup': killed(1),
    'Interrupt': killed(2),
    'Error 137': killed(9),
    'Error 143': killed(15),
    'Error 129': killed(1),
    'Error 130': killed(2),
    'Bus error': IO,
    'Error 135': IO,
    'CPU time limit exceeded': NO_TIME,
    'Error 152': NO_TIME,
    'File size limit exceeded': NO_SPACE,
    'Error 153': NO_SPACE,
}
"""How make says that a command of a recipe ended, or that the shell of it saw one end so."""

ENDED = re.compile(
    r'(?P<word>Killed|Terminated|Hangup|Interrupt) (?:signal terminated program|\(program)'
    r'|terminated with signal (?P<number>\d{1,2}) \['
    r'|unable to execute command: (?P<clang>Killed|Terminated|Hangup|Interrupt)'
)
"""gcc, collect2 and clang of a program that they started."""

CRASH = re.compile(
    r'internal compiler error: |signal terminated program \w|terminated with signal \d'
    r'|(?:clang )?frontend command failed (?:due to signal|with exit code 13\d)'
    r'|linker command failed due to signal|unable to execute command: '
    r'|internal error,? (?:aborting|in )|assertion fail(?:ed)? '
)
AT_PLACE = re.compile(r'^\S+:\d{1,9}(?::\d{1,9})?: internal compiler error: ')
OPENS = re.compile(r'^(?:PLEASE submit a bug report to |LLVM ERROR: |virtual memory exhausted: )')
CCACHE = re.compile(r'^ccache: (?:error|internal error|FATAL|[Ff]ailed)\b')
CUT_OFF = {
    'file truncated', 'file too short', 'file is empty', 'file format not recognized',
    'unknown file type',
}  # fmt: skip
OBJECTS = re.compile(r'\.(?:o|a|so)(?:\.\d+)*: ')
GONE = re.compile(
    rf'^(?:g?make(?:\[\d{{1,4}}\])?: (?:\S*/)?{TOOLS}'
    rf'|(?:/bin/)?(?:ba|da)?sh: (?:line )?(?:\d+: )?(?:\S*/)?{TOOLS})'
    r': (?:No such file or directory|(?:command )?not found|Permission denied|Exec format error)$'
)
STARTS = re.compile(
    r"(?:cannot execute|error trying to exec|cannot find) ['`](?:\S*/)?"
    rf"{TOOLS}'"
)
PYTHON = re.compile(r'^(?:OSError|BlockingIOError): \[Errno (?P<number>\d{1,3})\] ')
ERRORS = {
    **dict.fromkeys((errno.ENOMEM, errno.EAGAIN), NO_MEMORY),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), NO_SPACE),
    **dict.fromkeys((errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ESTALE), IO),
}
LINKED = re.compile(
    r'(?:undefined (?:reference|symbol)|(?:multiple definition|duplicate symbol))\b'
)
WROTE = re.compile(r'^g?make(?:\[\d{1,4}\])?: (?:\*\*\* )?write error\b')

LOADER = re.compile(r'^[^\s:]+: error while loading shared libraries: ')
START = re.compile(r'^(?:/bin/)?(?:ba|da)?sh: (?:line )?(?:\d+: )?\S+: (?P<text>.*)$')
ALLOCATOR = re.compile(
    r'^==\d+==(?:ERROR: |WARNING: )?(?:'
    r'\w+Sanitizer(?: failed to (?:allocate|deallocate) 0x'
    r'|: out of memory: allocator is trying to allocate'
    r'|: internal allocator is out of memory'
    r'|: unexpected memory mapping| has encountered a fatal error)'
    r'|ReserveShadowMemoryRange failed|Shadow memory range interleaves)'
)
NOT_OK = re.compile(r'^[ \t#]*not ok \d{1,9} .*# exit=(?P<status>\d{1,3})$')


def of_status(status: int) -> Fault | None:
    """Return the fault of a command that ended with a shell's status for such a signal."""
    if status - 128 in SIGNALS:
        return killed(status - 128)
    return {152: NO_TIME, 153: NO_SPACE}.get(status)


def of_failed_build(output: str, status: int) -> Fault | None:
    """Return what on our side made a build fail, by its output; None: nothing that is known."""
    found = of_status(status)
    for line in () if found else lines_of(output):
        if ' ' in line and (found := _tool(line)):
            break
    return found


def stands(fault: Fault, errors: tuple[Diagnostic, ...]) -> bool:
    """
    Whether a compiler's error in a file stands, though our side failed beside it.

    Killing one process makes no error in what another compiles, and an object
    that is cut off makes none but the linker's; a lack of space may cut off a
    header.
    """
    return fault.kind in ('killed', 'crashed', 'object') and any(
        (one.path or '').endswith(('.c', '.h', '.S')) and one.line and not LINKED.match(one.text)
        for one in errors
    )


def of_failed_run(output: str, status: int) -> Fault | None:
    """
    Return what on our side made a test run fail.

    Tests may print what they like: only the shell, the loader and the
    sanitizers are listened to, and what a runner says of a test that was killed.
    """
    found = of_status(status)
    for line in () if found else lines_of(output, cut=True):
        if LOADER.match(line):
            found = TOOL
        elif ALLOCATOR.match(line):
            found = SANITIZER
        elif said := START.match(line):
            found = _errno(said['text'])
        elif said := NOT_OK.match(line):
            found = of_status(int(said['status']))
        elif said := MAKES.match(line):
            found = WORDS.get(said['text'].removesuffix(' (core dumped)'))
        if found is not None:
            break
    return found


def _tool(line: str) -> Fault | None:
    """Return the fault that a line of a build tells of, by the tool that says it."""
    if line == EMPTY:
        return OBJECT
    if makes := MAKES.match(line):
        return WORDS.get(makes['text'].removesuffix(' (core dumped)'))
    if line.rpartition(': ')[2].lower() in CUT_OFF and OBJECTS.search(line):
        return OBJECT
    if AT_PLACE.match(line):
        return _ended(line) or CRASHED
    if OPENS.match(line):
        return _errno(line) or _errno(line.partition(': ')[2]) or CRASHED
    if GONE.match(line):
        return TOOL
    if CCACHE.match(line):
        return None if READ_ONLY in line else _errno(line) or IO
    if WROTE.match(line):
        return NO_SPACE
    if python := PYTHON.match(line):
        return ERRORS.get(int(python['number']))
    said = SAID.match(line) or ABOUT.match(line)
    if said is None:
        return None
    if STARTS.search(said['text']):
        return TOOL
    if said.groupdict().get('any') and READ_ONLY in line:
        return None
    crashed = CRASHED if CRASH.search(said['text']) else None
    return _ended(said['text']) or _errno(said['text']) or crashed


def _ended(text: str) -> Fault | None:
    found = ENDED.search(text)
    if found is None:
        return None
    word = found['word'] or found['clang']
    if word is not None:
        return WORDS[word]
    return killed(int(found['number'])) if int(found['number']) in SIGNALS else None


def _errno(text: str) -> Fault | None:
    found = ERRNO.search(text)
    return BY_GROUP[str(found.lastgroup)] if found else None
