"""
Reading a diff and placing its hunks, as git does: pure.

Answers: which files a patch touches and how, and what a file's bytes are after
its hunks. unidiff reads the hunks (as latin-1, so that every byte survives);
git's own lines around them are read here, strictly: whatever is not plainly
understood is left to git, by `PatchError` for the whole patch or
`FileDiff.declined` for one file. The rule is that the fast path never produces
a tree that `git apply --cached` would not.

Placing follows the search of git's apply.c: the position that the hunk names,
then one line further, one back, two further, and so on; no fuzz; a line that
an earlier hunk wrote can't match.
"""

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from unidiff.errors import UnidiffParseError
from unidiff.patch import PatchedFile, PatchSet

from bot.errors import PatchError
from bot.model import FileDiff, Hunk

NO_NEWLINE = '\\ No newline at end of file\n'
DEV_NULL = '/dev/null'
REGULAR = (0o100644, 0o100755)
SYMLINK = 0o120000

HEADER = re.compile(
    r'(?P<key>old mode|new mode|deleted file mode|new file mode|rename from|rename to'
    r'|copy from|copy to|similarity index|dissimilarity index|index|GIT binary patch'
    r'|Binary files)(?: (?P<value>.*))?\n'
)
# What git would read as the start of another patch, were it outside a hunk.
DIFFISH = re.compile(r'diff |--- |\+\+\+ |@@ |Index: |GIT binary|Binary files')
BINARY = {'GIT binary patch', 'Binary files'}
ESCAPES = {'a': 7, 'b': 8, 't': 9, 'n': 10, 'v': 11, 'f': 12, 'r': 13, '"': 34, '\\': 92}
# Components that some file system might take for `.git`; git has the last word on these.
SUSPICIOUS = re.compile(r'^\.git(?!ignore$|attributes$|keep$|hub$|_)|^\.{1,2}$|^$|[\\:~\0]', re.I)


@dataclass(frozen=True)
class Placed:
    """A file after its hunks, and the hunks with the line numbers they really have."""

    content: bytes
    hunks: tuple[Hunk, ...]
    exact: bool


def parse(diff: bytes) -> tuple[FileDiff, ...]:
    """
    Read a patch's diff.

    Raises `PatchError` where the text is not plainly one git diff after the
    other: git itself must judge it then.
    """
    text = diff.decode('latin-1')
    try:
        read = PatchSet(io.StringIO(text))
    except (UnidiffParseError, ValueError) as error:
        raise PatchError(f'not a plain diff: {str(error).strip()[:120]}') from error
    return tuple(_sections(text.split('\n'), read))


def place(content: bytes, hunks: Sequence[Hunk]) -> Placed:
    """
    Apply `hunks` to `content`.

    Raises `PatchError` with the hunk's line in the diff where one does not match.
    """
    image = split_lines(content)
    patched = bytearray(len(image))
    done: list[Hunk] = []
    exact = True
    shift = 0  # how much longer the file got through the hunks so far
    for number, hunk in enumerate(hunks, 1):
        old, new = hunk.old, hunk.new
        start = _find(image, patched, hunk, old)
        if start is None:
            raise PatchError(
                f'hunk {number} ({describe(hunk)}) does not match', None, hunk.line, hunk.old_start
            )
        _check_ends(image, start, len(old), new)
        exact = exact and start == max(hunk.new_start - 1, 0)
        image[start : start + len(old)] = new
        patched[start : start + len(old)] = b'\1' * len(new)
        done.append(
            replace(
                hunk,
                old_start=start - shift + (1 if old else 0),
                new_start=start + (1 if new else 0),
            )
        )
        shift += len(new) - len(old)
    return Placed(b''.join(image), tuple(done), exact)


def _check_ends(image: list[bytes], start: int, count: int, new: list[bytes]) -> None:
    """Only a file's last line can be without a line end: git judges what is not so."""
    before = image[start - 1 : start] if new else []
    inside = new if start + count < len(image) else new[:-1]
    if any(not line.endswith(b'\n') for line in (*before, *inside)):
        raise PatchError('a line without newline in the middle of the file')


def names_in(text: str) -> set[str]:
    """
    Return what paths the text behind `--- `, `diff --git ` or `rename from ` may name.

    With and without the first component, as one name and as two: more than it
    means, never less (except for what is not UTF-8).
    """
    texts = {text, *(text[:i] for i in _spaces(text)), *(text[i + 1 :] for i in _spaces(text))}
    found: set[str] = set()
    for one in texts:
        try:
            name = named(one)
        except PatchError:
            continue
        found.update((name, name.partition('/')[2]))
    return found


def _spaces(text: str) -> list[int]:
    return [match.start() for match in re.finditer(' ', text[:4000])][:64]


def describe(hunk: Hunk) -> str:
    """Return the hunk's header, as the patch has it."""
    return f'@@ -{hunk.old_start},{hunk.old_count} +{hunk.new_start},{hunk.new_count} @@'


def split_lines(content: bytes) -> list[bytes]:
    """Split at `\\n` only, ends kept."""
    lines = content.split(b'\n')
    last = lines.pop()
    return [line + b'\n' for line in lines] + ([last] if last else [])


def _find(image: list[bytes], patched: bytearray, hunk: Hunk, old: list[bytes]) -> int | None:
    # git: a hunk at line 0 or 1 must match at the beginning, one that ends in
    # a change must match at the end.
    at_start = hunk.old_start <= 1
    at_end = hunk.lines[-1][:1] != b' '
    room = len(image) - len(old)
    if room < 0:
        return None

    def matches(start: int) -> bool:
        return (
            0 <= start <= room
            and (not at_start or start == 0)
            and (not at_end or start == room)
            and image[start : start + len(old)] == old
            and not any(patched[start : start + len(old)])
        )

    if at_start:
        return 0 if matches(0) else None
    if at_end:
        return room if matches(room) else None
    wanted = min(max(hunk.new_start - 1, 0), len(image))
    for distance in range(len(image) + 1):
        for start in (wanted + distance, wanted - distance):
            if matches(start):
                return start
    return None


# --- git's own lines ----------------------------------------------------------


def _sections(lines: list[str], read: PatchSet) -> Iterator[FileDiff]:
    starts = [
        file.diff_line_no
        for file in read
        if file.diff_line_no and lines[file.diff_line_no - 1].startswith('diff --git ')
    ]
    if not read or len(starts) != len(read):
        raise PatchError('no git diff in it' if not read else 'not in git format')
    if any(line.strip() for line in lines[: starts[0] - 1]):
        raise PatchError('text before the first diff')
    seen: set[str] = set()
    ends = [*[start - 1 for start in starts[1:]], len(lines)]
    for file, start, end in zip(read, starts, ends, strict=True):
        section = _section(lines[start - 1 : end], start, file, last=end == len(lines))
        for path in {section.old_path, section.new_path} - {None}:
            if path in seen:
                raise PatchError('a file is there twice', path)
            seen.add(str(path))
        yield section


def _section(lines: list[str], start: int, file: PatchedFile, *, last: bool) -> FileDiff:
    """`lines` from `diff --git` to the next one; `start` is the number of the first."""
    hunks, inside = _hunks(file)
    headers: dict[str, str] = {}
    names: dict[str, str] = {}
    hunk_headers = 0
    tail = False  # behind the last hunk git skips text until something looks like a diff
    for number, line in enumerate(lines[1:], start + 1):
        if number in inside or (line + '\n' == NO_NEWLINE and hunk_headers and not tail):
            continue
        header = HEADER.fullmatch(line + '\n')
        if line.startswith('@@ -') and not tail:
            hunk_headers += 1
        elif tail or hunk_headers:
            tail = True
            if DIFFISH.match(line) or (line and not last):
                raise PatchError('text among the diffs', line=number)
        elif header and not names:
            if header['key'] in headers:
                raise PatchError('a header is there twice', line=number)
            headers[header['key']] = header['value'] or ''
        elif line.startswith(('--- ', '+++ ')) and line[:3] not in names:
            names[line[:3]] = line[4:]
        elif BINARY & headers.keys():
            continue
        elif DIFFISH.match(line) or (line and not last):
            raise PatchError('a line that is not understood', line=number)
        else:
            tail = True
    if hunk_headers != len(hunks):
        raise PatchError('a hunk that is not understood', line=start)
    return _file_diff(lines[0], headers, names, hunks)


def _hunks(file: PatchedFile) -> tuple[tuple[Hunk, ...], set[int]]:
    """Turn unidiff's hunks into ours, and return the numbers of the lines they take."""
    hunks, inside = [], set()
    for hunk in file:
        lines: list[bytes] = []
        for line in hunk:
            if line.diff_line_no is not None:
                inside.add(line.diff_line_no)
            if line.line_type == '\\':
                if not lines:
                    raise PatchError('no line before "\\ No newline"', line=line.diff_line_no)
                lines[-1] = lines[-1].removesuffix(b'\n')
                continue
            if line.line_type == '':  # an empty line behind the hunk, not of it
                continue
            lines.append((line.line_type + line.value).encode('latin-1'))
        if all(line[:1] == b' ' for line in lines):
            raise PatchError('a hunk without a change')
        hunks.append(
            Hunk(
                hunk.source_start,
                hunk.source_length,
                hunk.target_start,
                hunk.target_length,
                tuple(lines),
                next((one.diff_line_no - 1 for one in hunk if one.diff_line_no), 0),
            )
        )
    return tuple(hunks), inside


def _file_diff(
    first: str, headers: dict[str, str], names: dict[str, str], hunks: tuple[Hunk, ...]
) -> FileDiff:
    if BINARY & headers.keys():
        old, new = _names_of_git_line(first)
        return FileDiff(old, new, declined='binary')
    created, deleted = 'new file mode' in headers, 'deleted file mode' in headers
    if created + deleted + ('old mode' in headers) > 1 or (
        ('old mode' in headers) != ('new mode' in headers)
    ):
        raise PatchError('the modes of a diff contradict each other')
    old_path: str | None
    new_path: str | None
    if 'rename from' in headers or 'copy from' in headers:
        key = 'rename' if 'rename from' in headers else 'copy'
        if f'{key} to' not in headers:
            raise PatchError(f'"{key} from" without "{key} to"')
        old_path, new_path = named(headers[f'{key} from']), named(headers[f'{key} to'])
    else:
        old_path, new_path = _names_of_git_line(first)
        if old_path != new_path:
            raise PatchError('two names, and no rename', new_path)
    copied = 'copy from' in headers
    if created:
        old_path = None
    if deleted:
        new_path = None
    if hunks and set(names) != {'---', '+++'}:
        raise PatchError('a diff without "---" or "+++"', new_path or old_path)
    if names:
        stated = (_side(names['---']), _side(names['+++'])) if len(names) == 2 else None
        if stated != (old_path, new_path):
            raise PatchError('the names of a diff contradict each other', new_path or old_path)
    old_mode = headers.get('deleted file mode') or headers.get('old mode') or _index_mode(headers)
    diff = FileDiff(
        old_path,
        new_path,
        old_mode=_mode(old_mode),
        new_mode=_mode(headers.get('new file mode') or headers.get('new mode')),
        hunks=hunks,
    )
    return replace(diff, declined=_declined(diff, copied=copied))


def _declined(diff: FileDiff, *, copied: bool) -> str | None:
    if copied:
        return 'copy'
    for path in (diff.old_path, diff.new_path):
        if path is not None and any(SUSPICIOUS.search(part) for part in path.split('/')):
            return f'odd path {path}'
    for mode in (diff.old_mode, diff.new_mode):
        if mode is not None and mode not in (*REGULAR, SYMLINK):
            return f'mode {mode:o}'
    if diff.old_path == diff.new_path and not diff.hunks and diff.new_mode is None:
        return 'nothing changes'
    if diff.old_path is None and (
        diff.new_mode is None or any(line[:1] != b'+' for hunk in diff.hunks for line in hunk.lines)
    ):
        return 'a new file with old lines'
    return None


def _index_mode(headers: dict[str, str]) -> str | None:
    words = headers.get('index', '').split()
    return words[1] if len(words) == 2 else None


def _mode(text: str | None) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(r'[0-7]{6}', text):
        raise PatchError(f'mode {text!r}')
    return int(text, 8)


def _names_of_git_line(line: str) -> tuple[str, str]:
    """Read `diff --git a/X b/X`: unquoted names can be told apart only when equal."""
    rest = line.removeprefix('diff --git ')
    if rest.startswith('"'):
        end = _closing_quote(rest)
        old, new = rest[: end + 1], rest[end + 2 :]
    elif rest.endswith('"'):
        old, _, new = rest.partition(' "')
        new = '"' + new
    else:
        half = (len(rest) - 1) // 2
        old, new = rest[:half], rest[half + 1 :]
        if rest[half : half + 1] != ' ' or old.partition('/')[2] != new.partition('/')[2]:
            # Two names: only the extended headers can say which.
            found = re.fullmatch(r'a/(\S+) b/(\S+)', rest)
            if found is None:
                raise PatchError(f'names not understood: {line[:120]}')
            old, new = 'a/' + found[1], 'b/' + found[2]
    return _strip(named(old)), _strip(named(new))


def _side(value: str) -> str | None:
    name = named(value.removesuffix('\t'))
    return None if name == DEV_NULL else _strip(name)


def _strip(name: str) -> str:
    first, slash, rest = name.partition('/')
    if not slash or not rest or not first:
        raise PatchError(f'no a/ or b/ before the name: {name[:120]}')
    return rest


def named(text: str) -> str:
    """Undo git's C quoting; the result is the path's text, read as UTF-8."""
    if text.startswith('"'):
        if _closing_quote(text) != len(text) - 1:
            raise PatchError(f'bad quoting: {text[:120]}')
        raw = _unquote(text[1:-1])
    else:
        raw = text.encode('latin-1')
    try:
        return raw.decode('utf-8')
    except UnicodeDecodeError as error:
        raise PatchError(f'a name that is not UTF-8: {text[:120]}') from error


def _closing_quote(text: str) -> int:
    position = 1
    while position < len(text) and text[position] != '"':
        position += 2 if text[position] == '\\' else 1
    if position >= len(text):
        raise PatchError(f'bad quoting: {text[:120]}')
    return position


def _unquote(text: str) -> bytes:
    out = bytearray()
    position = 0
    while position < len(text):
        char = text[position]
        if char != '\\':
            out += char.encode('latin-1')
            position += 1
        elif octal := re.match(r'[0-3][0-7]{2}', text[position + 1 :]):
            out.append(int(octal[0], 8))
            position += 4
        elif text[position + 1 : position + 2] in ESCAPES:
            out.append(ESCAPES[text[position + 1]])
            position += 2
        else:
            raise PatchError(f'bad quoting: {text[:120]}')
    return bytes(out)
