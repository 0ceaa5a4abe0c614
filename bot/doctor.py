"""
`bot doctor`: whether each part that the bot relies on works here, and what mends it.

The parts themselves are tried, not only looked for: a cage is built and a
program with sanitizers runs in it, b4 puts a series together, the archive is
asked, the mail server is logged in to. Nothing is sent, and nothing is changed.
Each part is looked at on its own: one that fails hides no other.
"""

import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.metadata import version as version_of
from pathlib import Path

import pygit2
from sqlalchemy.engine import make_url

from bot import files
from bot.b4 import B4
from bot.brake import pulled
from bot.cautions import cautions
from bot.cgroup import made
from bot.config import Config
from bot.errors import BotError, ConfigError, MailError, SandboxError, StoreError, TreeError
from bot.harness.builder import CCACHE
from bot.limits import EACH, keeps_processes
from bot.mail import Mailer
from bot.mirror import Mirror
from bot.model import Incomplete, Tree
from bot.outgoing import Smtp
from bot.output.doctor import Part
from bot.password import password
from bot.sandbox import Cage
from bot.sendemail import from_git
from bot.series import parse_mail
from bot.session import KERNEL_HAS, all_rules
from bot.shown import bare, shown
from bot.store import Store
from bot.store.database import named, opened, transaction, version
from bot.tree import Quarantine

PATIENCE = 10.0
"""Seconds that a server may take to answer here."""
LATE = 10
"""Polls that may be missing before that is worth a word."""
ASTRAY = 60.0
"""Seconds that the clock may be off the archive's."""
ROOM = {'cache': 1 << 30, 'state': 1 << 30, 'temporary folder': 512 << 20}
"""Bytes that should be free."""
LEAST = 64 << 20
KEPT = ('threads', 'words', 'results', 'inputs', 'ccache')
"""Folders of the cache."""
HANDED = re.compile(r'/run/credentials/([^/]+)/')
"""Where systemd puts what it hands to one service alone."""
OWN_LIMITS = {
    'open files': rf'^Max open files +{EACH["nofile"]} ',
    'queued messages': rf'^Max msgqueue size +{EACH["msgqueue"]} ',
    'pending signals': rf'^Max pending signals +{EACH["sigpending"]} ',
    'locked memory': rf'^Max locked memory +{EACH["memlock"]} ',
    'size of a file': r'^Max file size +\d',
    'core files': r'^Max core file size +0 ',
}
"""What is limited for each process, and how /proc shows that."""
PACKAGES = 'apt install gcc libc6-dev make libasan8 libubsan1'
# A program that the sanitizers find nothing in, and one that they have to complain of.
SANITIZED = b"""#include <stdlib.h>
int main(int argc, char **argv) {
	char *room = malloc(4);
	room[argc > 1 ? 4 : 0] = argv[0][0];
	free(room);
	return 0;
}
"""
URCU = b'#include <urcu.h>\nint main(void) { rcu_register_thread(); return 0; }\n'
MAIL = b"""From: A Developer <dev@example.org>
Subject: [PATCH] mm: doctor
Message-ID: <doctor@example.org>
Date: Fri, 20 Mar 2026 10:00:00 +0000

Because.

Signed-off-by: A Developer <dev@example.org>
---
diff --git a/mm/x.c b/mm/x.c
index 5626abf..f719efd 100644
--- a/mm/x.c
+++ b/mm/x.c
@@ -1 +1 @@
-one
+two
"""

Parts = Iterator[Part]
Check = Callable[[Config], Parts]


def examine(config: Config) -> list[Part]:
    """Look at all parts."""
    with ThreadPoolExecutor(len(CHECKS)) as pool:
        found = [pool.submit(_alone, name, check, config) for name, check in CHECKS.items()]
        parts = [part for one in found for part in one.result()]
    return [replace(one, text=shown(one.text), mend=shown(one.mend)) for one in parts]


def _alone(name: str, check: Check, config: Config) -> list[Part]:
    parts = []
    try:
        for part in check(config):
            parts.append(part)  # noqa: PERF402  # what was found before an error stays
    except BotError as error:
        parts.append(Part(name, 'error', str(error)))
    except Exception as error:  # noqa: BLE001  # one part must not hide the others
        parts.append(Part(name, 'error', f'{type(error).__name__}: {error}'))
    return parts


def _configuration(config: Config) -> Parts:
    if config.path is None:
        yield Part('configuration', 'ok', 'none; the defaults')
        return
    try:
        mode = config.path.stat().st_mode
    except OSError as error:
        yield Part('configuration', 'error', f'{config.path}: {error.strerror}')
        return
    if mode & 0o022:
        yield Part(
            'configuration', 'warning',
            f'{config.path}: others may write to it, and it names code to run',
            f'chmod go-w {config.path}',
        )  # fmt: skip
    else:
        yield Part('configuration', 'ok', str(config.path))


def _rules(config: Config) -> Parts:
    known = [rule.id for rule in all_rules(config)]
    named = [*config.disabled, *(one.rule for one in config.ignores)]
    for name in named:
        if name not in known:
            mend = 'bot rules list'
            yield Part('rules', 'error', f'[rules] and [[ignore]]: there is no rule "{name}"', mend)
            return
    yield Part('rules', 'ok', f'{len(known)}, {len(config.disabled)} of them disabled')


def _trees(config: Config) -> Parts:
    if not config.trees:
        yield Part('trees', 'off', 'no [[tree]]: bot work needs one; bot check takes --tree')
    for one in config.trees:
        yield from _tree(one)


def _tree(one: Tree) -> Parts:
    name = f'tree {one.name}'
    try:
        with Quarantine(Path(one.path)) as quarantine:
            found = [(ref, quarantine.source.matching(ref)) for ref in one.refs]
            missing = [ref for ref, commits in found if not commits]
            there = [commits[0] for _, commits in found if commits]
            mend = f'git -C {one.path} fetch, or name others in refs'
            if not there:
                said = f'{one.path}: none of its refs is there: {", ".join(one.refs)}'
                yield Part(name, 'error', said, mend)
                return
            tree = quarantine.repo[there[0][1]].peel(pygit2.Tree)
            if not all(part in tree for part in KERNEL_HAS):
                said = f'{one.path}: {there[0][0]} is no kernel (no mm/, include/, …)'
                yield Part(name, 'error', said, '[[tree]] path has to be a clone of Linux')
                return
            quarantine.repo[tree['MAINTAINERS'].id].read_raw()
            heads = ', '.join(f'{ref} {commit[:12]}' for ref, commit in there[:4])
            if missing:
                said = f'{one.path}: {heads}; not there: {", ".join(missing)}'
                yield Part(name, 'warning', said, mend)
            else:
                yield Part(name, 'ok', f'{one.path}: {heads}')
    except (TreeError, KeyError, ValueError, pygit2.GitError, OSError) as error:
        mend = f'{one.path} has to be a whole clone that this user may read'
        yield Part(name, 'error', f'{one.path}: {_words(error)}', mend)


def _builds(config: Config) -> Parts:
    try:
        cage = Cage(replace(config.limits, time=60.0, disk=64 << 20))
    except SandboxError as error:
        mend = 'apt install bubblewrap; docs/harness.md says what it needs of the machine'
        yield Part('bubblewrap', 'error', str(error), mend)
        return
    walls = cage.run((), '', (('true', 'true'),))
    if not walls.phases or walls.phases[0].status != 0:
        said = walls.complaint or 'a cage comes to no end'
        yield Part('bubblewrap', 'error', said, 'see docs/harness.md')
        return
    yield Part('bubblewrap', 'ok', f'{cage.version}; a cage works')
    yield _limits(config, cage)
    flags = '-g -fsanitize=address,undefined'
    steps = (
        ('compiler', f'cc {flags} -o x x.c', 'does not compile with sanitizers'),
        ('sanitizers', './x', 'a program with sanitizers does not run in a cage'),
        ('sanitizers', '! ./x 1', 'AddressSanitizer does not notice a write past the end'),
    )
    ran = cage.run(
        (('x.c', 0o100644, SANITIZED),), '',
        [(f'step{number}', command) for number, (_, command, _) in enumerate(steps)],
    )  # fmt: skip
    for number, (name, _, wrong) in enumerate(steps):
        phase = next((one for one in ran.phases if one.name == f'step{number}'), None)
        if phase is None or phase.status != 0:
            said = phase.output.strip().split('\n')[-1] if phase else ran.complaint
            yield Part(name, 'error', f'{wrong}: {said or "no word why"}', PACKAGES)
            return
    yield Part('compiler', 'ok', 'cc compiles in a cage, with sanitizers')
    yield Part('sanitizers', 'ok', 'AddressSanitizer works in a cage')
    ran = cage.run((('y.c', 0o100644, URCU),), '', (('urcu', 'cc -o y y.c -lurcu && ./y'),))
    if ran.phases and ran.phases[0].status == 0:
        yield Part('liburcu', 'ok', 'is there')
    else:
        said = 'is not there: the VMA tests can not be built'
        yield Part('liburcu', 'error', said, 'apt install liburcu-dev')


def _limits(config: Config, cage: Cage) -> Part:
    """Say which of the limits on builds the kernel keeps here, and which the bot counts itself."""
    group = made(config.limits)
    kept = sorted(name.replace('cpu', 'cpu time') for name in group.holds) if group else []
    by = f'control group v{group.version}' if group else ''
    if group is not None:
        group.close()
    ran = cage.run((), '', (('limits', 'cat /proc/self/limits'),))
    shown = ran.phases[0].output if ran.phases else ''
    own = [name for name, line in OWN_LIMITS.items() if re.search(line, shown, re.M)]
    if 'processes' not in kept and keeps_processes(config.limits, shown):
        kept, by = [*kept, 'processes'], ' and '.join(filter(None, (by, 'rlimit')))
    counted = [one for one in ('memory', 'processes', 'cpu time') if one not in kept]
    said = [f'{", ".join(kept)} (by {by})'] if kept else []
    if own:
        said.append(f'of each process {", ".join(own)} (by rlimit)')
    here = ', '.join([*counted, 'disk', 'output', 'time'])
    kept_here = '; '.join(said) or 'none'
    text = f'the kernel keeps {kept_here}; the bot counts {here}, ten times a second'
    return Part('limits', 'ok', text)


def _ccache(_: Config) -> Parts:
    if shutil.which('ccache') is None or not Path(CCACHE).is_dir():
        said = f'not there ({CCACHE}): each build compiles all its files'
        yield Part('ccache', 'warning', said, 'apt install ccache')
    else:
        yield Part('ccache', 'ok', 'is there')


def _git(_: Config) -> Parts:
    if shutil.which('git') is None:
        yield Part('git', 'error', 'is not there', 'apt install git')
    else:
        yield Part('git', 'ok', 'is there')


def _b4(config: Config) -> Parts:
    name = f'b4 {version_of("b4")}'
    mail = parse_mail(MAIL)
    series = B4(config.b4).series((mail,), mail.msgid)
    if isinstance(series, Incomplete):
        mend = 'b4 comes with the bot: install it anew; [b4] has its limits'
        yield Part('b4', 'error', f'{name}: {series.reason}', mend)
    else:
        yield Part('b4', 'ok', f'{name} puts a series together')


def _archive(config: Config) -> Parts:
    lore = config.lore
    if not lore.lists:
        yield Part('archive', 'off', 'no [lore] lists: nothing is watched')
        return
    dated: list[float] = []
    for name in lore.lists:
        mirror = Mirror(lore.urls[0], name, config.mirror, min(lore.timeout, PATIENCE))
        try:
            offered = mirror.epochs()
        except BotError as error:
            mend = '[lore] url and lists; is there a network, a proxy?'
            yield Part(f'archive {name}', 'error', str(error), mend)
        else:
            said = f'{mirror.url}: epochs {min(offered)} to {max(offered)}'
            yield Part(f'archive {name}', 'ok', said)
            if mirror.dated is not None:
                dated.append(time.time() - mirror.dated)
    off = min(dated, key=abs, default=None)
    if off is None:
        yield Part('clock', 'off', 'not compared: no archive says what time it is')
    elif abs(off) > ASTRAY:
        how = 'ahead of' if off > 0 else 'behind'
        said = f'{abs(off):.0f} s {how} the archive: mails are judged by their age'
        yield Part('clock', 'warning', said, 'timedatectl set-ntp true')
    else:
        yield Part('clock', 'ok', 'as the archive has it')


def _database(config: Config) -> Parts:
    parsed = make_url(config.url)
    where = named(parsed)
    url = config.url
    if parsed.get_backend_name() == 'postgresql':
        late = parsed.update_query_dict({'connect_timeout': str(int(PATIENCE))})
        url = late.render_as_string(hide_password=False)
    elif not parsed.database or not _has_content(Path(parsed.database)):
        yield Part('database', 'off', f'{where}: not there yet; the first start makes it')
        return
    engine = opened(url, migrate=False)
    try:
        with transaction(engine):
            pass
        mine, latest = version(engine)
        if mine != latest:
            said = f'{where}: at revision {mine}, and this program at {latest}'
            yield Part(
                'database', 'warning', said,
                'bot watch and bot work bring an older one up to date; a later one needs a later '
                'bot',
            )  # fmt: skip
            return
        yield Part('database', 'ok', f'{where}: at revision {mine}')
        yield from _watched(config, Store(engine, time.time))
    except StoreError as error:
        mend = '[state] url; does its server run, and may this user use it?'
        yield Part('database', 'error', str(error), mend)
    finally:
        engine.dispose()


def _watched(config: Config, store: Store) -> Parts:
    """How far the lists were read, and when."""
    standing = store.figures.standing()
    for name in config.lore.lists:
        cursors = store.cursors(name)
        polled = standing.polls.get(name)
        if polled is None:
            yield Part(f'list {name}', 'warning', 'was never read', 'start bot watch')
            continue
        age = max(time.time() - polled, 0)
        walked = [one for one in cursors.values() if one.commit]
        last = max(walked, key=lambda one: one.epoch, default=None)
        if last is not None:
            day = time.strftime('%Y-%m-%d %H:%M', time.gmtime(last.date))
            said = f'epoch {last.epoch} read up to {day} UTC, {age / 60:.0f} min ago'
        else:
            said = f'read {age / 60:.0f} min ago: no mail'
        if age > LATE * config.poll:
            mend = 'does bot watch run? its log says why a poll fails'
            yield Part(f'list {name}', 'warning', said, mend)
        else:
            yield Part(f'list {name}', 'ok', said)
    parked = standing.series.get('parked', 0)
    if parked:
        said = f'{parked} series are parked: they failed three times on our side'
        yield Part('series', 'warning', said, 'bot status says why; then bot work --parked')


def _readers(config: Config) -> Parts:
    """Whether other users of the machine may read what the bot keeps."""
    kept = [config.mirror, *(config.cache / one for one in KEPT)]
    parsed = make_url(config.url)
    if parsed.get_backend_name() == 'sqlite' and parsed.database:
        kept += [Path(f'{parsed.database}{end}') for end in ('', '-wal', '-shm')]
    with_password = config.path is not None and any(
        bare(url)[1] for url in (*config.lore.urls, config.url)
    )
    if with_password and config.path is not None:
        kept.append(config.path)
    wide = [str(one) for one in kept if files.is_open(one)]
    if wide:
        said = f'other users of this machine may read {", ".join(wide)}'
        yield Part('privacy', 'warning', said, f'chmod go-rwx {" ".join(wide)}')
    else:
        yield Part('privacy', 'ok', 'database, mirrors and cache are closed to other users')


def _disk(config: Config) -> Parts:
    parsed = make_url(config.url)
    folders = {'cache': config.cache, 'temporary folder': Path(tempfile.gettempdir())}
    if parsed.get_backend_name() == 'sqlite' and parsed.database:
        folders['state'] = Path(parsed.database).absolute().parent
    if config.metrics_file is not None:
        folders['metrics'] = config.metrics_file.absolute().parent
    for name, folder in folders.items():
        there = next(one for one in (folder, *folder.absolute().parents) if one.exists())
        free = shutil.disk_usage(there).free
        said = f'{folder}: {free / (1 << 30):.1f} GB free'
        if not os.access(there, os.W_OK | os.X_OK):
            said = f'{folder}: this user can not write to {there}'
            yield Part(name, 'error', said, f'chown it, or run as the user that owns {there}')
        elif free < LEAST:
            yield Part(name, 'error', said, 'make room; bot prune tells what it could take away')
        elif free < ROOM.get(name, 0):
            yield Part(name, 'warning', said, 'make room; [state] cache_size bounds the cache')
        else:
            yield Part(name, 'ok', said)


def _mail(config: Config) -> Parts:
    policy = config.mail
    wanted = policy.mode != 'off' and bool(policy.address or policy.lists)
    smtp: Smtp | None = config.smtp
    if smtp is None:
        if not wanted:
            yield Part('mail server', 'off', 'nothing is mailed: no [mail] from, no lists')
            return
        try:
            smtp, _ = from_git(config.identity)
        except ConfigError as error:
            mend = '[smtp] host, or git config --global sendemail.smtpServer'
            yield Part('mail server', 'error', str(error), mend)
            return
    smtp = replace(smtp, timeout=min(smtp.timeout, PATIENCE))
    where = f'{smtp.host}:{smtp.port}'
    logs_in = bool(smtp.user)
    handed = HANDED.search(smtp.password_file)
    if logs_in and handed and not os.access(smtp.password_file, os.R_OK):
        said = f'{handed[1]} alone is given it: as root, while that runs, bot doctor tries it'
        yield Part('password', 'off', said)
        smtp, logs_in = replace(smtp, user=''), False
    elif logs_in:
        try:
            password(smtp)
        except MailError as error:
            yield Part('password', 'error', str(error), '[smtp] password_file, of mode 600')
            smtp, logs_in = replace(smtp, user=''), False
        else:
            yield Part('password', 'ok', f'there is one for {smtp.user}')
    try:
        Mailer(smtp).check()
    except MailError as error:
        mend = '[smtp] host, port, encryption, user: as for git send-email'
        yield Part('mail server', 'error', str(error), mend)
    else:
        how = f'{smtp.user} can log in' if logs_in else 'answers; no log-in was tried'
        yield Part('mail server', 'ok', f'{where}: {how}')


def _brake(config: Config) -> Parts:
    stop = pulled(config.stop_file)
    if stop is None:
        yield Part('stop file', 'ok', f'{config.stop_file} is not there')
        return
    when = time.strftime('%Y-%m-%d %H:%M', time.gmtime(stop.since))
    why = f': {stop.reason}' if stop.reason else ''
    said = f'{config.stop_file}: nothing is sent since {when} UTC, by {stop.by}{why}'
    yield Part('stop file', 'warning', said, 'bot resume')


def _policy(config: Config) -> Parts:
    policy, letterhead = config.mail, config.letterhead
    if policy.mode == 'off' or not (policy.address or policy.lists):
        yield Part('policy', 'off', 'nothing is mailed')
        return
    envelope = config.smtp.envelope if config.smtp else ''
    wrong = list(cautions(policy, letterhead.reply_to, envelope))
    for said, mend in wrong:
        yield Part('policy', 'warning', said, mend)
    if not wrong:
        yield Part('policy', 'ok', f'mode "{policy.mode}", to {", ".join(policy.lists)}')


def _has_content(path: Path) -> bool:
    """An empty file is what the package leaves for the first start."""
    return path.exists() and path.stat().st_size > 0


def _words(error: Exception) -> str:
    said = str(getattr(error, 'strerror', None) or error).strip()
    return f'{type(error).__name__}: {said}' if isinstance(error, KeyError) else said


CHECKS: dict[str, Check] = {
    'configuration': _configuration,
    'rules': _rules,
    'git': _git,
    'trees': _trees,
    'bubblewrap': _builds,
    'ccache': _ccache,
    'b4': _b4,
    'archive': _archive,
    'database': _database,
    'privacy': _readers,
    'disk': _disk,
    'mail server': _mail,
    'stop file': _brake,
    'policy': _policy,
}


def worst(parts: Sequence[Part]) -> int:
    """Return the exit code: 1 with an error, else 0."""
    return int(any(one.level == 'error' for one in parts))
