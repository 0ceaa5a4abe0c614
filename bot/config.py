"""
`config.toml`: from TOML to frozen values of `model.py`.

Found at --config, $VMA_BOT_CONFIG, $XDG_CONFIG_HOME/vma-review-bot/config.toml,
/etc/vma-review-bot/config.toml, in that order; without any, the defaults.
Never taken from the working directory or a kernel tree: it names code to run.
An unknown key or a wrong type is a `ConfigError` that names file, key and what
was expected.
"""

import os
import platform
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tomli
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from bot.errors import ConfigError, ReplyError
from bot.events import Level as LogLevel
from bot.model import (
    ChildLimits,
    Harness,
    Ignore,
    Limits,
    Lore,
    Parser,
    Patchwork,
    Scope,
    Severity,
    Tree,
)
from bot.outgoing import Letterhead, ListPolicy, Mode, Policy, Smtp
from bot.reply import TEMPLATES, check_templates
from bot.shown import is_clear, shown

NAME = 'vma-review-bot'
SHIPPED_TEMPLATES = Path(__file__).parent / 'templates'
ARCHES = {
    'x86_64': 'x86', 'i686': 'x86', 'aarch64': 'arm64', 'ppc64le': 'powerpc', 'ppc64': 'powerpc',
    's390x': 's390', 'riscv64': 'riscv', 'loongarch64': 'loongarch', 'armv7l': 'arm',
}  # fmt: skip
UNCLEAR = (
    'where its host begins is not clear: write / ? # @ and spaces of a password as '
    '%2F %3F %23 %40 %20'
)
UNITS = {'s': 1.0, 'm': 60.0, 'h': 3600.0, 'd': 86400.0}
MOST_PROCESSES = 4
"""Of `bot work`, unless more are asked for: each wants memory for its builds."""
SIZES = {'': 0, 'K': 10, 'M': 20, 'G': 30}

VMA = Harness(
    name='vma',
    dir='tools/testing/vma',
    run='./vma',
    # Debug information enough for line numbers: gcc needs a quarter of the time.
    make=('EXTRA_CFLAGS=-g1',),
    within=(
        'include/asm-generic', 'include/linux', 'include/uapi', 'include/vdso', 'lib', 'mm',
        'tools/arch', 'tools/build', 'tools/include', 'tools/lib', 'tools/scripts',
        'tools/testing/radix-tree', 'tools/testing/shared',
    ),
    packages=('gcc', 'make', 'liburcu-dev', 'libasan8'),
)  # fmt: skip

MEMBLOCK = Harness(
    name='memblock',
    dir='tools/testing/memblock',
    run='./main -v',
    parser='ktap',
    within=(
        'include/linux', 'lib', 'mm', 'tools/arch', 'tools/include', 'tools/lib',
        'tools/testing/radix-tree', 'tools/testing/selftests/kselftest.h', 'tools/testing/shared',
    ),
    packages=('gcc', 'make', 'liburcu-dev', 'libasan8'),
)  # fmt: skip
SHIPPED = (VMA, MEMBLOCK)


@dataclass(frozen=True)
class Config:
    """What the rest of the program needs to know. `path` is None for the defaults."""

    path: Path | None
    lore: Lore
    b4: ChildLimits
    attest: bool
    keyrings: tuple[Path, ...]
    name_servers: tuple[str, ...]
    trees: tuple[Tree, ...]
    harnesses: tuple[Harness, ...]
    limits: Limits
    disabled: tuple[str, ...]
    rule_paths: tuple[Path, ...]
    ignores: tuple[Ignore, ...]
    cache: Path
    cache_size: int
    scope: Scope
    url: str
    keep: float
    poll: float
    settle: float
    since: float
    mirror: Path
    mail: Policy
    letterhead: Letterhead
    smtp: Smtp | None
    identity: str | None
    grace: float
    stop_file: Path
    processes: int
    patience: float
    gate_reviews: int
    gate_closed: bool
    gate_most: int
    patchwork: Patchwork | None
    log_format: Literal['auto', 'text', 'json']
    log_level: LogLevel
    metrics_port: int | None
    metrics_file: Path | None


def load(named: Path | None = None) -> Config:
    """Find and read the configuration."""
    path = _find(named)
    if path is None:
        return _made(_File(), None)
    try:
        with path.open('rb') as file:
            read = tomli.load(file)
    except OSError as error:
        raise ConfigError(f'{path}: {error.strerror}') from error
    except (tomli.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f'{path}: not TOML: {error}') from error
    try:
        return _made(_File.model_validate(read), path)
    except ValidationError as error:
        raise ConfigError(f'{path}: {_first(error)}') from error


def _find(named: Path | None) -> Path | None:
    if named is not None:
        return named
    if said := os.environ.get('VMA_BOT_CONFIG'):
        return Path(said)
    for folder in (_home('XDG_CONFIG_HOME', '.config'), Path('/etc')):
        path = folder / NAME / 'config.toml'
        if path.exists():
            return path
    return None


def _home(variable: str, default: str) -> Path:
    said = os.environ.get(variable)
    return Path(said) if said else Path.home() / default


# --- the file's own shape -----------------------------------------------------


def _seconds(value: object) -> object:
    """Read `"90s"`, `"2m"`, `"6h"`, `"3d"`."""
    found = re.fullmatch(r'(\d+(?:\.\d+)?)([smhd])', value) if isinstance(value, str) else None
    if found is None:
        raise ValueError('a duration such as "90s", "2m", "6h"')
    return float(found[1]) * UNITS[found[2]]


def _bytes(value: object) -> object:
    """Read `"64M"`, `"4G"`."""
    found = re.fullmatch(r'(\d+)([KMG]?)', value) if isinstance(value, str) else None
    if found is None:
        raise ValueError('a size such as "512K", "64M", "4G"')
    return int(found[1]) << SIZES[found[2]]


Duration = Annotated[float, BeforeValidator(_seconds)]
Size = Annotated[int, BeforeValidator(_bytes)]


class _Table(BaseModel):
    model_config = ConfigDict(extra='forbid', strict=True, frozen=True)


class _Lore(_Table):
    url: list[str] | str = list(Lore.urls)
    lists: list[str] = list(Lore.lists)
    timeout: Duration = Lore.timeout
    largest: Size = Lore.largest
    expiry: Duration = Lore.expiry
    poll: Duration = 120.0
    settle: Duration = 3600.0
    since: Duration = 14 * 86400.0


class _Scope(_Table):
    paths: list[str] = list(Scope.paths)
    symbols: list[str] = list(Scope.symbols)
    subjects: list[str] = list(Scope.subjects)


class _B4(_Table):
    time: Duration = ChildLimits.time
    memory: Size = ChildLimits.memory


_NameServer = Annotated[
    str,
    Field(
        pattern=r'^(\d{1,3}(\.\d{1,3}){3}(:\d{1,5})?|[0-9a-fA-F:]+|\[[0-9a-fA-F:]+\](:\d{1,5})?)$'
    ),
]


class _Attestation(_Table):
    check: bool = True
    keyrings: list[str] = []
    name_servers: list[_NameServer] = []


class _Tree(_Table):
    name: str = Field(min_length=1)
    path: str
    refs: list[str] = Field(default=['HEAD'], min_length=1)
    fetch: bool = False


class _Harness(_Table):
    name: str = Field(pattern=r'^[a-z0-9][a-z0-9_-]*$')
    dir: str | None = None
    run: str | None = None
    make: list[str] | None = None
    within: list[str] | None = None
    packages: list[str] | None = None
    target: list[str] | None = None
    parser: Parser | None = None


class _Sandbox(_Table):
    time: Duration = Limits.time
    cpu: Duration = Limits.cpu
    memory: Size = Limits.memory
    processes: int = Field(default=Limits.processes, ge=16)
    disk: Size = Limits.disk
    output: Size = Limits.output
    series: Duration = Limits.series


class _Rules(_Table):
    disable: list[str] = []
    paths: list[str] = []


class _Ignore(_Table):
    rule: str
    reason: str = Field(min_length=1)
    path: str | None = None
    symbol: str | None = None


class _State(_Table):
    url: str | None = None
    keep: Duration = 365 * 86400.0
    cache: str | None = None
    cache_size: Size = 2 << 30


Level = Literal['error', 'warning', 'note']
Address = Annotated[str, Field(pattern=r'^[^\s<>@,]+@[^\s<>@,]+$')]


class _Policy(_Table):
    list: str
    mode: Mode | None = None
    severity: Level | None = None
    embargo: Duration | None = None
    per_list: int | None = Field(default=None, ge=0)


class _Mail(_Table):
    mode: Mode = Policy.mode
    address: Address | None = Field(default=None, alias='from')
    name: str = Letterhead.name
    reply_to: Address | None = None
    documentation: str = ''
    contact: str = ''
    lists: list[Address] = []
    recipients: Literal['author', 'thread'] = Policy.recipients
    severity: Level = 'warning'
    embargo: Duration = Policy.embargo
    max_age: Duration = Policy.max_age
    per_list: int = Field(default=Policy.per_list, ge=0)
    per_author: int = Field(default=Policy.per_author, ge=0)
    opt_out: list[str] = []
    bots: list[str] = []
    templates: str | None = None
    grace: Duration = 2 * 3600.0
    stop_file: str | None = None
    identity: str | None = None
    policy: list[_Policy] = []


class _Smtp(_Table):
    host: str
    port: int | None = Field(default=None, ge=1, le=65535)
    encryption: Literal['none', 'tls', 'ssl'] = 'tls'
    user: str = ''
    password_file: str = ''
    password_command: str = ''
    ca_file: str = ''
    timeout: Duration = Smtp.timeout
    envelope: str = ''


class _Patchwork(_Table):
    url: str = Field(pattern=r'^https?://[^\s/]')
    project: str = Field(min_length=1)
    token_file: str = Field(min_length=1)
    user: str = ''
    context: str = Field(default=Patchwork.context, pattern=r'^[-a-zA-Z0-9_]{1,255}$')
    target_url: str = Field(default='', pattern=r'^$|^https?://[^\s/]')
    timeout: Duration = Patchwork.timeout


class _Work(_Table):
    processes: int | None = Field(default=None, ge=1)
    patience: Duration = 86400.0


class _Gate(_Table):
    reviews: int = Field(default=0, ge=0)
    on_error: Literal['open', 'closed'] = 'closed'
    most: int = Field(default=200, ge=1)


class _Log(_Table):
    format: Literal['auto', 'text', 'json'] = 'auto'
    level: LogLevel = 'info'


class _Metrics(_Table):
    port: int | None = Field(default=None, ge=1, le=65532)
    file: str | None = None


class _File(_Table):
    lore: _Lore = _Lore()
    scope: _Scope = _Scope()
    b4: _B4 = _B4()
    attestation: _Attestation = _Attestation()
    tree: list[_Tree] = []
    harness: list[_Harness] = []
    sandbox: _Sandbox = _Sandbox()
    rules: _Rules = _Rules()
    ignore: list[_Ignore] = []
    state: _State = _State()
    mail: _Mail = _Mail()
    smtp: _Smtp | None = None
    work: _Work = _Work()
    gate: _Gate = _Gate()
    patchwork: _Patchwork | None = None
    log: _Log = _Log()
    metrics: _Metrics = _Metrics()


def _made(file: _File, path: Path | None) -> Config:
    harnesses = {one.name: one for one in SHIPPED}
    for table in file.harness:
        harnesses[table.name] = _harness(table, harnesses.get(table.name), path)
    cache = Path(file.state.cache).expanduser() if file.state.cache else None
    box = file.sandbox
    lore = file.lore
    scope = file.scope
    state = _home('XDG_STATE_HOME', '.local/state') / NAME
    for pattern in scope.subjects:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ConfigError(f'{path}: "scope.subjects": {pattern!r}: {error}') from error
    urls = (lore.url,) if isinstance(lore.url, str) else tuple(lore.url)
    for url in urls:
        if not url.startswith(('http://', 'https://')):
            raise ConfigError(f'{path}: "lore.url": {shown(url)!r} is no http(s) address')
    patchwork = file.patchwork.url if file.patchwork is not None else ''
    given = [('lore.url', url) for url in urls]
    given += [('state.url', file.state.url or ''), ('patchwork.url', patchwork)]
    for key, url in given:
        if not url.startswith('sqlite') and not is_clear(url):
            raise ConfigError(f'{path}: "{key}": {UNCLEAR}')
    return Config(
        path,
        Lore(urls, tuple(lore.lists), lore.timeout, lore.largest, lore.expiry),
        ChildLimits(file.b4.time, file.b4.memory),
        file.attestation.check,
        tuple(Path(one).expanduser() for one in file.attestation.keyrings),
        tuple(file.attestation.name_servers),
        tuple(
            Tree(one.name, str(Path(one.path).expanduser()), tuple(one.refs), one.fetch)
            for one in file.tree
        ),
        tuple(_on_this_machine(harness) for harness in harnesses.values()),
        Limits(box.time, box.cpu, box.memory, box.processes, box.disk, box.output, box.series),
        tuple(file.rules.disable),
        tuple(Path(one).expanduser() for one in file.rules.paths),
        tuple(Ignore(one.rule, one.reason, one.path, one.symbol) for one in file.ignore),
        cache or _home('XDG_CACHE_HOME', '.cache') / NAME,
        file.state.cache_size,
        Scope(*(tuple(one) for one in (scope.paths, scope.symbols, scope.subjects))),
        file.state.url or f'sqlite:///{state / "state.db"}',
        file.state.keep,
        lore.poll,
        lore.settle,
        lore.since,
        state / 'mirror',
        _policy(file.mail),
        _letterhead(file.mail, path),
        _smtp(file.smtp) if file.smtp is not None else None,
        file.mail.identity,
        file.mail.grace,
        Path(file.mail.stop_file or state / 'STOP').expanduser(),
        file.work.processes or min(len(os.sched_getaffinity(0)), MOST_PROCESSES),
        file.work.patience,
        file.gate.reviews,
        file.gate.on_error == 'closed',
        file.gate.most,
        Patchwork(**file.patchwork.model_dump()) if file.patchwork is not None else None,
        file.log.format,
        file.log.level,
        file.metrics.port,
        Path(file.metrics.file).expanduser() if file.metrics.file else None,
    )


def _policy(mail: _Mail) -> Policy:
    return Policy(
        mail.mode,
        mail.address or '',
        tuple(one.lower() for one in mail.lists),
        mail.recipients,
        Severity[mail.severity.upper()],
        mail.embargo,
        mail.max_age,
        mail.per_list,
        mail.per_author,
        tuple(mail.opt_out),
        tuple(mail.bots),
        tuple(
            ListPolicy(
                one.list, one.mode, Severity[one.severity.upper()] if one.severity else None,
                one.embargo, one.per_list,
            )
            for one in mail.policy
        ),
    )  # fmt: skip


def _letterhead(mail: _Mail, path: Path | None) -> Letterhead:
    """Read the templates: the shipped ones, and an operator's in their place."""
    texts = {name: (SHIPPED_TEMPLATES / f'{name}.j2').read_text() for name in TEMPLATES}
    if mail.templates is not None:
        folder = Path(mail.templates).expanduser()
        for name in TEMPLATES:
            try:
                texts[name] = (folder / f'{name}.j2').read_text()
            except FileNotFoundError:
                continue
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(
                    f'{path}: [mail] templates: {folder / name}.j2: {error}'
                ) from error
        if not folder.is_dir():
            raise ConfigError(f'{path}: [mail] templates: {folder} is no folder')
    try:
        check_templates(texts)
    except ReplyError as error:
        raise ConfigError(f'{path}: [mail] templates: {error}') from error
    address = mail.address or ''
    return Letterhead(
        address, mail.name, mail.reply_to or '', mail.documentation,
        mail.contact or mail.reply_to or '', texts,
    )  # fmt: skip


def _smtp(smtp: _Smtp) -> Smtp:
    port = smtp.port or {'none': 25, 'tls': 587, 'ssl': 465}[smtp.encryption]
    return Smtp(
        host=smtp.host, port=port, encryption=smtp.encryption, user=smtp.user,
        password_file=smtp.password_file, password_command=smtp.password_command,
        ca_file=smtp.ca_file, timeout=smtp.timeout, envelope=smtp.envelope,
    )  # fmt: skip


def _harness(table: _Harness, known: Harness | None, path: Path | None) -> Harness:
    """Complete a `[[harness]]` by the shipped one of that name."""
    for key in ('dir', 'run', 'within'):
        if known is None and getattr(table, key) is None:
            raise ConfigError(f'{path}: [[harness]] "{table.name}" needs the key "{key}"')
    base = known or Harness(table.name, '', '')
    return Harness(
        table.name,
        (table.dir or base.dir).strip('/'),
        table.run or base.run,
        tuple(table.make) if table.make is not None else base.make,
        tuple(table.within) if table.within is not None else base.within,
        tuple(table.packages) if table.packages is not None else base.packages,
        tuple(table.target) if table.target is not None else base.target,
        table.parser or base.parser,
    )


def _on_this_machine(harness: Harness) -> Harness:
    arch = ARCHES.get(platform.machine(), platform.machine())
    within = tuple(folder.replace('{arch}', arch).strip('/') for folder in harness.within)
    return replace(harness, within=within)


def _first(error: ValidationError) -> str:
    """Say the first thing that is wrong: key, and what was expected."""
    first = error.errors()[0]
    key = ''
    for part in first['loc']:
        key += f'[{part}]' if isinstance(part, int) else f'.{part}' if key else str(part)
    if first['type'] == 'extra_forbidden':
        return f'unknown key "{key}"'
    if first['type'] == 'value_error':
        return f'"{key}" must be {str(first["msg"]).removeprefix("Value error, ")}'
    return f'"{key}": {first["msg"][0].lower()}{first["msg"][1:]}'
