"""
What a harness reads at a base: found out once, by building it.

Only ever of a configured ref. `compare()` is the proof that it holds: it
builds the same in the full tree.
"""

from collections.abc import Iterator
from dataclasses import replace

from bot.diagnose import ROOT, of_failed_build
from bot.harness.builder import MARK, UNLISTED, Builder, compiler
from bot.harness.layout import WHOLE, Inputs, Layout, Memory, demanded, listed, only, read_by, wide
from bot.model import Build, BuildFailed, Comparison, CouldNotRun
from bot.sandbox import File, Ran
from bot.scratch import scratch
from bot.tree import GitSnapshot
from bot.walls import Bind

UNREAD = 'what the tests are built from could not be listed'


def inputs(builder: Builder, ground: GitSnapshot | None) -> Inputs | Build:
    """
    Return what a build reads at `ground`: remembered, or found out now.

    What is not `proven` yet wants `proof()` of the first build from it. A
    `Build` where it could not be found out on our side. Without a ground, and
    where it does not build, there is nothing to learn from.
    """
    if ground is None:
        return WHOLE
    known = _memory(builder, ground).known()
    if known is not None:
        return known
    builder.tell('learning')
    everything = wide(builder.harness, ground)
    jobs = builder.workshop.jobs
    ran = builder.run(everything, jobs, trusted=True, how='list')
    if not ran.phases or ran.phases[0].status or ran.stopped or _cut_off(ran):
        # It runs what it has built, or does not build at all.
        ran = builder.run(everything, jobs, trusted=True, how='learn')
        outcome = builder.outcome(ran)
        if isinstance(outcome, CouldNotRun):
            return builder.made(0, outcome, ran)
        if isinstance(outcome, BuildFailed):
            return WHOLE
        if UNLISTED in ran.phases[-1].output:
            return WHOLE
        if _cut_off(ran):
            return builder.made(0, CouldNotRun(UNREAD, began=True), ran)
    read = _read(builder, ran)
    paths = read_by(builder.harness, everything, read)
    for _ in range(20):
        dry = builder.run(only(everything, paths), 1, trusted=True, how='dry')
        if dry.limit or not dry.phases or _cut_off(dry):
            return builder.made(0, CouldNotRun(UNREAD, began=True), dry)
        more = demanded(builder.harness, everything, dry.phases[0].output)
        if not more - paths:
            break
        paths |= more
    there = {path for path, _, _ in everything.files}
    learnt = Inputs(frozenset(paths), read=frozenset(read & there))
    builder.note(_memory(builder, ground).keep(learnt))
    return learnt


def _cut_off(ran: Ran) -> bool:
    """Whether the last command of a run came to no end of its own, so its list is not whole."""
    if not ran.phases:
        return True
    last = ran.phases[-1]
    return last.status is None or (
        last.status > 0 and of_failed_build(last.output, last.status) is not None
    )


def proof(builder: Builder, ground: GitSnapshot, known: Inputs, ran: Ran) -> bool:
    """
    Say whether a build ('learn') from `known` alone has read just what was listed, and remember it.

    Then all that its result follows from was there.
    """
    if isinstance(builder.outcome(ran), CouldNotRun | BuildFailed):
        return False
    if UNLISTED in ran.phases[-1].output:
        return False
    if _read(builder, ran) & known.paths != known.read:
        return False
    builder.note(_memory(builder, ground).keep(replace(known, proven=True)))
    return True


def _memory(builder: Builder, ground: GitSnapshot) -> Memory:
    return Memory(builder.workshop.cache, builder.harness, ground, compiler())


def _read(builder: Builder, ran: Ran) -> set[str]:
    """Return the paths that a build said it read, those that are not of the tree among them."""
    if not ran.phases:
        return set()  # a limit, or what our side lacks, ended it before its first command
    return set(listed(ran.phases[-1].output.partition(MARK)[2], builder.harness.dir))


def compare(builder: Builder, ground: GitSnapshot) -> Comparison:
    """Build `ground` in the full tree, in a folder on disk, and as it is laid out otherwise."""
    tree: set[str] = set()

    def everything() -> Iterator[File]:
        for path, mode, _ in ground.files(''):
            tree.add(path)
            yield path, mode, ground.read(path) or b''

    harness, jobs = builder.harness, builder.workshop.jobs
    with scratch() as folder:
        room = Bind(folder, ROOT.rstrip('/'), writable=True)
        layout = Layout(everything(), wide=True)
        full = builder.run(layout, jobs, trusted=True, how='learn', room=room)
    outcome = builder.outcome(full)
    learnt = inputs(builder, ground)
    if isinstance(learnt, Build):
        return Comparison(outcome, learnt.outcome, (len(tree), 0))
    folders = wide(harness, ground)
    reduced = folders if learnt.whole else only(folders, set(learnt.paths))
    ran = builder.run(reduced, jobs, trusted=True, how='learn')
    if not (learnt.proven or learnt.whole):
        proof(builder, ground, learnt, ran)
    read = tree & _read(builder, full)
    there = {path for path, _, _ in reduced.files}
    return Comparison(
        outcome,
        builder.outcome(ran),
        (len(tree), len(there)),
        tuple(sorted(read - there)),
        learnt.whole,
    )
