"""
The values that pass between the stages, and the `Snapshot` protocol.

Frozen dataclasses with tuple fields, and nothing that does any work: a derived
question is a property. An outcome is its own type, to be matched on. Absence
is `None`, and the docstring says what it means.

Text that came from a mail is `str` (decoded, bad bytes replaced); what is
applied is `bytes`, as the archive has them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal, Protocol

Side = Literal['new', 'old', 'message']
"""Where a line is counted: post-image, pre-image, or commit message."""


class Severity(IntEnum):
    """SARIF's three levels, in order."""

    NOTE = 1
    WARNING = 2
    ERROR = 3

    @property
    def label(self) -> str:
        """Lower-case name, as shown to people and written to JSON."""
        return self.name.lower()


# --- mails and series ---------------------------------------------------------


@dataclass(frozen=True)
class Author:
    """Who a mail or commit is from."""

    name: str
    email: str

    def __str__(self) -> str:
        return f'{self.name} <{self.email}>' if self.name else self.email


@dataclass(frozen=True)
class Mail:
    """
    One message: the headers that threading needs, its decoded body, its raw bytes.

    `base_commit` and `prerequisites` are what `git format-patch --base`, b4 or
    a `Depends-on:` say in the body. `body` are the bytes that were sent, in
    `charset` ('': the mail does not say). `unread` says why there is no body,
    where it could not be read. `before` are the lines of its file before it: the
    `From ` line of an mbox that is this mail alone.
    """

    msgid: str | None
    subject: str
    author: Author
    date: str
    in_reply_to: str | None
    references: tuple[str, ...]
    body: bytes
    raw: bytes
    base_commit: str | None = None
    prerequisites: tuple['Prerequisite', ...] = ()
    unread: str | None = None
    charset: str = ''
    before: int = 0


@dataclass(frozen=True)
class Prerequisite:
    """
    What a series says that it needs below it.

    `value` is a patch-id (`git patch-id --stable`), a message-id, or a b4
    change-id with `:vN`.
    """

    kind: Literal['patch-id', 'message-id', 'change-id']
    value: str

    def __str__(self) -> str:
        return f'{self.kind} {self.value}'


NO_KEY = 'no key in DNS'
"""Why a signature was not checked whose key is not, or no longer, published."""


@dataclass(frozen=True)
class Attestation:
    """
    What a signature of a mail says of it.

    `identity` is the signing domain (dkim) or key (patatt). `not-checked`
    covers all that is our side's lack: no DNS, no key.
    """

    kind: Literal['dkim', 'patatt']
    identity: str
    result: Literal['pass', 'fail', 'not-checked']
    reason: str = ''


@dataclass(frozen=True)
class Patch:
    """
    One patch of a series.

    `message` is the commit message without subject and trailers' duplicates:
    the text between the headers and the `---`. `notes` is what stands below
    the `---` and before the diff. `diff` are the mail's own bytes, `converted`
    the same in UTF-8 where the mail is in another charset: it is tried where
    the first does not apply. `committer` is there for a commit only; `merge`
    says that it is one of several parents. `line` is that of the mail at which
    `diff` begins, 0 where it is of none.
    """

    n: int
    of: int
    msgid: str | None
    commit: str | None
    subject: str
    author: Author
    message: str
    notes: str
    diff: bytes
    trailers: tuple[str, ...] = ()
    attestation: tuple[Attestation, ...] = ()
    committer: Author | None = None
    converted: bytes = b''
    merge: bool = False
    line: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Series:
    """
    A complete series, in order. `cover` is the cover letter's text, or None.

    `remarks` say what of its thread could not be counted.
    """

    msgid: str | None
    subject: str
    author: Author
    revision: int
    patches: tuple[Patch, ...]
    cover: str | None = None
    base_commit: str | None = None
    prerequisites: tuple[Prerequisite, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Incomplete:
    """A series that can't be judged as it is, and why. `missing` are patch numbers."""

    reason: str
    msgid: str | None = None
    subject: str | None = None
    author: Author | None = None
    revision: int | None = None
    patches: tuple[Patch, ...] = ()
    missing: tuple[int, ...] = ()


# --- diffs --------------------------------------------------------------------


@dataclass(frozen=True)
class Hunk:
    """
    One hunk.

    `lines` keep their marker (` `, `+`, `-`) and their line end; a line without
    `\\n` is the file's last, unterminated. Line numbers count from 1; `line` is
    that of the diff, 0 where it is not read from one.
    """

    old_start: int
    old_count: int
    new_start: int
    new_count: int
    lines: tuple[bytes, ...]
    line: int = field(default=0, compare=False)

    @property
    def old(self) -> list[bytes]:
        """The lines that must be there, without marker."""
        return [line[1:] for line in self.lines if line[:1] != b'+']

    @property
    def new(self) -> list[bytes]:
        """The lines that will be there, without marker."""
        return [line[1:] for line in self.lines if line[:1] != b'-']


@dataclass(frozen=True)
class FileDiff:
    """
    What a patch does to one file.

    `old_path` is None for a new file, `new_path` for a deleted one. Modes are
    git's (0o100644 …), None where the patch does not say. `declined` says why
    only git itself can apply this one (binary, copy, odd path), None otherwise.
    """

    old_path: str | None
    new_path: str | None
    old_mode: int | None = None
    new_mode: int | None = None
    hunks: tuple[Hunk, ...] = ()
    declined: str | None = None

    @property
    def path(self) -> str:
        """The name to show: the new one, else the old one."""
        return self.new_path or self.old_path or ''

    @property
    def added(self) -> tuple[tuple[int, bytes], ...]:
        """Added lines as (line number in the post-image, bytes without marker)."""
        return tuple((n, line) for n, line, marker in self._walk('new') if marker == b'+')

    @property
    def removed(self) -> tuple[tuple[int, bytes], ...]:
        """Removed lines as (line number in the pre-image, bytes without marker)."""
        return tuple((n, line) for n, line, marker in self._walk('old') if marker == b'-')

    def line_at(self, side: Literal['new', 'old'], number: int) -> bytes | None:
        """Return the diff's line (with marker) that is line `number` of that side."""
        for n, line, marker in self._walk(side):
            if n == number:
                return marker + line
        return None

    def _walk(self, side: Literal['new', 'old']) -> Iterator[tuple[int, bytes, bytes]]:
        skip = b'-' if side == 'new' else b'+'
        for hunk in self.hunks:
            number = hunk.new_start if side == 'new' else hunk.old_start
            for line in hunk.lines:
                marker = line[:1]
                if marker == skip:
                    continue
                yield number, line[1:], marker
                number += 1


# --- trees --------------------------------------------------------------------


class Snapshot(Protocol):
    """A tree at one moment, read only. Paths are relative, with `/`."""

    def read(self, path: str) -> bytes | None:
        """Return the bytes of a file, None where there is no such file."""

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the paths of all files below `prefix` (a folder, or '' for all), sorted."""

    def knows(self, word: str) -> bool:
        """
        Whether a C identifier stands anywhere in the tree, be it in code or prose.

        Written `range{`: whether `struct range {` stands somewhere indented, as
        documents show a struct.
        """

    def near(self, word: str) -> tuple[str, ...]:
        """Return the identifiers of the tree within two edits of `word`, nearest first."""


How = Literal['exact', 'offset', '3way']
"""How a patch was placed: where it says, elsewhere, or by git's 3-way merge."""


@dataclass(frozen=True)
class Step:
    """One applied patch: the trees before and after it, and its diff."""

    n: int
    pre: Snapshot
    post: Snapshot
    files: tuple[FileDiff, ...]
    tree: str = ''
    how: How = 'exact'

    def file(self, path: str) -> FileDiff | None:
        """Return the diff of `path` (new or old name), None where it is not touched."""
        for diff in self.files:
            if path in (diff.new_path, diff.old_path):
                return diff
        return None


@dataclass(frozen=True)
class Tried:
    """A base that was tried and did not fit: first patch and path that failed, and why."""

    ref: str
    commit: str
    n: int
    path: str | None
    reason: str


@dataclass(frozen=True)
class Base:
    """
    The commit that a series is applied to, and why that one.

    `on_top` names the prerequisite patches that were applied to it first.
    """

    tree: str
    ref: str
    commit: str
    why: str
    tried: tuple[Tried, ...] = ()
    on_top: tuple[str, ...] = ()


@dataclass(frozen=True)
class AppliedSeries:
    """
    A series that applies as a whole, one step a patch.

    `ground` is the tree of `base.commit` (the first step's `pre` may have
    prerequisites on top of it), None where no configured ref has that commit:
    then it may be a stranger's too.
    """

    series: Series
    base: Base
    steps: tuple[Step, ...]
    ground: Snapshot | None = None


@dataclass(frozen=True)
class DoesNotApply:
    """
    Why patch `n` does not apply.

    `path` says where, None where the patch as a whole is at fault. `steps` are
    the patches before it. `there`: the tree has the patch already, which then
    has no effect.
    """

    series: Series
    base: Base
    n: int
    reason: str
    path: str | None = None
    steps: tuple[Step, ...] = ()
    there: bool = False


# --- builds -------------------------------------------------------------------


@dataclass(frozen=True)
class Diagnostic:
    """
    One thing that a compiler, linker, test or sanitizer said.

    `path` is relative to the kernel tree; None where it named no file of it.
    `symbol` is the name that it speaks of, where it names one. `code` is the
    source line that it quoted.
    """

    kind: Literal['error', 'warning', 'assert', 'sanitizer']
    text: str
    path: str | None = None
    line: int | None = None
    symbol: str | None = None
    code: str | None = None


@dataclass(frozen=True)
class Passed:
    """
    Built, ran, said so, and no sanitizer spoke.

    `run` counts tests, None where the harness's parser can't. `flags` are the
    compiler's words that change what is built, as the build was seen to use
    them (`-D…`, `-fsanitize=…`, `-l…`), sorted.
    """

    run: int | None
    warnings: tuple[Diagnostic, ...] = ()
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class TestsFailed:
    """Built, but not all of it passed. `run` is None where there was no summary."""

    run: int | None
    failed: tuple[Diagnostic, ...]
    sanitizer: tuple[Diagnostic, ...] = ()
    warnings: tuple[Diagnostic, ...] = ()
    reason: str = ''
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class BuildFailed:
    """The harness does not build. `errors` in the order of the output."""

    errors: tuple[Diagnostic, ...]
    warnings: tuple[Diagnostic, ...] = ()
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class CouldNotRun:
    """
    Our own side failed, or a limit was hit (`limit` names it). Never the author's.

    `began`: without a limit, but code of the series may have run, so it may have
    brought this about itself (a test can kill itself, a makefile print what a
    full disk prints). It is tried again, but not for ever: then the rest of the
    review counts.
    """

    reason: str
    limit: str | None = None
    began: bool = False


OF_SERIES = 'for all builds of the series'
"""How the name of a limit ends that no patch alone has hit."""

BuildOutcome = Passed | TestsFailed | BuildFailed | CouldNotRun


@dataclass(frozen=True)
class Build:
    """
    One harness at patch `n` (0: the base); `dir` is its folder in the tree.

    `reused` means that no input differs from the patch before, so its result
    is this one's. `flags` are what we added to the build; `log` the end of the
    output, cleaned of control characters.
    """

    harness: str
    n: int
    outcome: BuildOutcome
    dir: str = ''
    reused: bool = False
    flags: tuple[str, ...] = ()
    seconds: float = 0.0
    log: str = ''


@dataclass(frozen=True)
class Comparison:
    """
    The same build in the full tree and in what was learnt.

    `files` are how many were laid out (full, reduced); `unlearnt` what the
    full one read and the reduced one does not have; `whole` that nothing
    smaller than all folders was found to do.
    """

    full: BuildOutcome
    reduced: BuildOutcome
    files: tuple[int, int]
    unlearnt: tuple[str, ...] = ()
    whole: bool = False

    @property
    def same(self) -> bool:
        """Whether the assumption holds."""
        return self.full == self.reduced and not self.unlearnt


Parser = Literal['vma', 'ktap', 'exit-code']
"""How a harness says which tests ran and failed: the VMA tests' own words, KTAP, or not at all."""


@dataclass(frozen=True)
class Harness:
    """
    A userland test harness in the kernel tree.

    `dir` is its folder, `target` what make shall make there (none: its
    default), `make` further words for make, `run` the command that runs the
    tests, `parser` who reads what that says, `within` the folders (or files)
    that its build may read from, `packages` what Debian calls the libraries it needs.
    """

    name: str
    dir: str
    run: str
    make: tuple[str, ...] = ()
    within: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    target: tuple[str, ...] = ()
    parser: Parser = 'vma'


@dataclass(frozen=True)
class Tree:
    """
    A configured kernel repository.

    `refs` are tried as a base, in order; a pattern (`next-*`) stands for all
    that fit, newest first. `fetch`: `bot tree sync` may update it.
    """

    name: str
    path: str
    refs: tuple[str, ...] = ('HEAD',)
    fetch: bool = False


@dataclass(frozen=True)
class Lore:
    """
    Where threads come from: hosts in order, lists to look in, seconds, bytes.

    `timeout` bounds one request with all its retries; `expiry` is how long a
    thread is kept in the cache.
    """

    urls: tuple[str, ...] = ('https://lore.kernel.org',)
    lists: tuple[str, ...] = ('linux-mm',)
    timeout: float = 30.0
    largest: int = 64 << 20
    expiry: float = 600.0


@dataclass(frozen=True)
class Patchwork:
    """
    Where checks are posted: a server's address, a project's link name.

    `token_file` keeps the API token of an account that may add checks, `user`
    is that account's name ('' : any account's checks of `context` count as
    ours). `target_url` is what a check links to, with `{msgid}` for the
    patch's message-id, '' for no link. `timeout` is for each answer, seconds.
    """

    url: str
    project: str
    token_file: str
    user: str = ''
    context: str = 'vma-review-bot'
    target_url: str = ''
    timeout: float = 30.0


CheckState = Literal['success', 'warning', 'fail', 'pending']


@dataclass(frozen=True)
class PatchCheck:
    """What Patchwork is told of one patch."""

    msgid: str
    state: CheckState
    description: str


@dataclass(frozen=True)
class Scope:
    """
    Which series are judged: globs of the paths that a patch touches, words in its added and
    removed lines, regular expressions over its subject. One of them is enough.
    """

    paths: tuple[str, ...] = (
        'mm/vma*', 'mm/mmap.c', 'mm/util.c', 'mm/mremap.c', 'mm/mprotect.c', 'mm/nommu.c',
        'include/linux/mm_types.h', 'include/linux/mmap_lock.h', 'tools/testing/vma/*',
        'Documentation/filesystems/mmap_prepare.rst',
    )  # fmt: skip
    symbols: tuple[str, ...] = (
        'vm_area_desc', 'mmap_prepare', 'mmap_action', 'vm_operations_struct', 'vma_merge_struct',
        'compat_vma_mmap', '__compat_vma_mmap', 'compat_set_desc_from_vma',
    )  # fmt: skip
    subjects: tuple[str, ...] = (r'\bvma\b', r'\bmmap_prepare\b')


@dataclass(frozen=True)
class ChildLimits:
    """What b4 may use for one thread: seconds, bytes of address space."""

    time: float = 60.0
    memory: int = 2 << 30


@dataclass(frozen=True)
class Limits:
    """
    What one build in the cage may use: seconds, bytes, processes with their threads.

    `time` is by the clock, `cpu` by the processors for all processes together;
    `disk` bounds its file systems together, and each file; what is in them, and
    what the kernel holds for the build, counts as `memory` as well. `series` is
    by the clock for all builds of a series together.
    """

    time: float = 600.0
    cpu: float = 1200.0
    memory: int = 4 << 30
    processes: int = 256
    disk: int = 1 << 30
    output: int = 16 << 20
    series: float = 3600.0


# --- findings -----------------------------------------------------------------


@dataclass(frozen=True)
class Evidence:
    """Another place that shows the finding: the stale copy, the failing assertion."""

    path: str
    line: int
    text: str


@dataclass(frozen=True)
class Hit:
    """
    What a rule yields.

    `n` is the patch (0: cover letter or the whole series); `path` and `line`
    the place in its diff that a reply would quote, None where there is none.
    `message` and `advice` are our own sentences, with others' names in them at
    most; `said` are lines that somebody else wrote (a compiler, a message),
    which are shown as theirs. `severity` None means the rule's own. `key`
    stands for `message` in the fingerprint, where there is no `symbol`.
    """

    n: int
    path: str | None
    line: int | None
    message: str
    advice: str | None = None
    side: Side = 'new'
    symbol: str | None = None
    evidence: tuple[Evidence, ...] = ()
    severity: Severity | None = None
    flow: tuple[Evidence, ...] = ()
    said: tuple[str, ...] = ()
    key: str | None = None


@dataclass(frozen=True)
class Finding:
    """A hit with its rule's id, its severity, and a fingerprint stable from v1 to v2."""

    rule: str
    severity: Severity
    fingerprint: str
    hit: Hit


@dataclass(frozen=True)
class Ignore:
    """What somebody asked not to count: `path` is a glob, `symbol` a name, None for any."""

    rule: str
    reason: str
    path: str | None = None
    symbol: str | None = None


@dataclass(frozen=True)
class Suppressed:
    """A finding that is not counted, and the reason that was given."""

    finding: Finding
    reason: str


@dataclass(frozen=True)
class Failure:
    """Something of ours that went wrong. `what` is a rule id, a harness or a stage."""

    what: str
    error: str
    n: int | None = None


@dataclass(frozen=True)
class NotNeeded:
    """
    A harness that was asked for, and of which nothing was built: why not.

    `files` is how many files of the tree its tests read, None where nobody has looked.
    """

    harness: str
    reason: str
    files: int | None = None


@dataclass(frozen=True)
class Facts:
    """
    What only the rules of the gate ask of the tree and its configuration.

    `commits` are the subjects of the commits that the ids in Fixes: tags stand
    for, none where there is no such commit; `whole`: the history has no end
    but its beginning. `people` are the addresses (lower case) that MAINTAINERS
    of the base names for the files of each patch, by its number.
    """

    commits: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    whole: bool = True
    reviews: int = 0
    people: Mapping[int, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Subject:
    """What a rule is handed. `facts` are there in the gate only."""

    series: Series
    applied: AppliedSeries | DoesNotApply
    builds: tuple[Build, ...] = ()
    facts: Facts | None = None

    @property
    def steps(self) -> tuple[Step, ...]:
        """The patches that apply, in order."""
        return self.applied.steps


@dataclass(frozen=True)
class Review:
    """
    Everything that was found out about one series.

    `remarks` are about what the series asks of the bot, and can't have, and what of
    its thread did not count.
    `thread` are the mails that it came from, none for commits. `untested` are
    harnesses that say nothing of the series, since its base fails with them.
    `rules` are the ids of those that were run.
    """

    series: Series | Incomplete | None
    applied: AppliedSeries | DoesNotApply | None = None
    findings: tuple[Finding, ...] = ()
    suppressed: tuple[Suppressed, ...] = ()
    builds: tuple[Build, ...] = ()
    failures: tuple[Failure, ...] = ()
    remarks: tuple[str, ...] = ()
    thread: tuple[Mail, ...] = ()
    not_needed: tuple[NotNeeded, ...] = ()
    untested: tuple[Failure, ...] = ()
    rules: tuple[str, ...] = ()

    @property
    def verdict(self) -> Literal['clean', 'findings', 'could-not-check']:
        """The one word at the end. What could not be checked outweighs findings."""
        if not isinstance(self.applied, AppliedSeries) or self.failures or self.untested:
            return 'could-not-check'
        if any(isinstance(build.outcome, CouldNotRun) for build in self.builds):
            return 'could-not-check'
        return 'findings' if self.findings else 'clean'
