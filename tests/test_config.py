"""config.toml: found, read, and refused in one line."""

import re
from pathlib import Path

import pytest
import tomli

from bot.config import VMA, Config, load
from bot.errors import ConfigError
from bot.model import Patchwork, Severity
from bot.outgoing import ListPolicy, Smtp

PATCHWORK = '[patchwork]\nurl = "https://x"\nproject = "x"\ntoken_file = "x"\n'
SAMPLE = Path(__file__).parent.parent / 'config.toml'


def read(tmp_path: Path, text: str) -> Config:
    path = tmp_path / 'config.toml'
    path.write_text(text)
    return load(path)


def test_without_any_file_the_defaults() -> None:
    config = load()
    assert config.path is None
    assert [harness.name for harness in config.harnesses] == ['vma', 'memblock']
    assert config.trees == ()


def test_the_shipped_file_is_the_defaults() -> None:
    config, defaults = load(SAMPLE), load()
    assert config.limits == defaults.limits
    assert config.harnesses == defaults.harnesses
    assert config.disabled == defaults.disabled
    assert config.mail == defaults.mail
    assert config.letterhead == defaults.letterhead
    assert (config.smtp, config.grace) == (defaults.smtp, defaults.grace)
    assert (config.processes, config.patience) == (defaults.processes, defaults.patience)
    assert config.patchwork is defaults.patchwork is None
    assert (config.log_format, config.log_level) == (defaults.log_format, defaults.log_level)
    assert (config.metrics_port, config.metrics_file) == (None, None)


def test_the_shipped_file_with_every_key_uncommented_is_valid(tmp_path: Path) -> None:
    text = re.sub(r'^#(?=\[|\w+ = |    "|\])', '', SAMPLE.read_text(), flags=re.M)
    text = text.replace('/etc/vma-review-bot/templates', str(tmp_path))
    config = read(tmp_path, text)
    assert config.trees[0].name == 'linux'
    assert config.harnesses == load().harnesses
    keys = {
        key
        for table in tomli.loads(text).values()
        for one in (table if isinstance(table, list) else [table])
        for key in one
    }
    assert {'time', 'memory', 'refs', 'within', 'packages', 'cache', 'disable'} <= keys

    assert config.metrics_port == 9464
    assert config.metrics_file == Path('/var/lib/prometheus/node-exporter/vma-bot.prom')
    assert config.smtp == Smtp(
        'mail.example.org', 587, 'tls', 'vma-bot', '/etc/vma-review-bot/password'
    )
    assert config.patchwork == Patchwork(
        'https://patchwork.example.org', 'linux-mm', '/etc/vma-review-bot/patchwork-token'
    )
    assert config.mail.by_list == (
        ListPolicy('linux-mm@kvack.org', 'hold', Severity.ERROR, 21600.0, 5),
    )


def test_an_operators_templates_take_the_place_of_ours(tmp_path: Path) -> None:
    (tmp_path / 'signature.j2').write_text('ours')
    words = f'[mail]\ntemplates = "{tmp_path}"\n'
    config = read(tmp_path, words)
    assert config.letterhead.templates['signature'] == 'ours'
    assert config.letterhead.templates['patch'] == load().letterhead.templates['patch']
    (tmp_path / 'signature.j2').write_text('\n{% if %}')
    with pytest.raises(ConfigError, match=r'templates: template signature \(line 2\)'):
        read(tmp_path, words)
    with pytest.raises(ConfigError, match='is no folder'):
        read(tmp_path, '[mail]\ntemplates = "/nowhere"\n')


def test_found_in_the_users_folder_but_never_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'config.toml').write_text('[rules]\ndisable = ["x"]\n')
    assert load().disabled == ()
    folder = tmp_path / 'xdg' / 'vma-review-bot'
    folder.mkdir(parents=True)
    (folder / 'config.toml').write_text('[rules]\ndisable = ["y"]\n')
    monkeypatch.setenv('XDG_CONFIG_HOME', str(tmp_path / 'xdg'))
    assert load().disabled == ('y',)
    monkeypatch.setenv('VMA_BOT_CONFIG', str(tmp_path / 'config.toml'))
    assert load().disabled == ('x',)


def test_a_table_of_a_known_harness_changes_only_its_keys(tmp_path: Path) -> None:
    config = read(tmp_path, '[[harness]]\nname = "vma"\nmake = ["X=1"]\n')
    harness, _ = config.harnesses
    assert harness.make == ('X=1',)
    assert (harness.dir, harness.run) == (VMA.dir, VMA.run)
    assert not any('{' in folder for folder in harness.within)


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('[sandbox\n', 'not TOML'),
        ('[nosuch]\n', 'unknown key "nosuch"'),
        ('[sandbox]\ntimes = "1m"\n', 'unknown key "sandbox.times"'),
        ('[sandbox]\ntime = 5\n', '"sandbox.time" must be a duration such as "90s", "2m", "6h"'),
        ('[sandbox]\nmemory = "4 GB"\n', '"sandbox.memory" must be a size such as'),
        ('[sandbox]\nprocesses = "many"\n', '"sandbox.processes": input should be a valid integer'),
        ('[sandbox]\nprocesses = 1\n', '"sandbox.processes": input should be greater than'),
        ('[log]\nformat = "xml"\n', '"log.format": input should be'),
        ('[metrics]\nport = 99999\n', '"metrics.port": input should be less'),
        ('[rules]\ndisable = "x"\n', '"rules.disable": input should be a valid list'),
        ('[patchwork]\nurl = "https://x"\n', '"patchwork.project": field required'),
        (PATCHWORK + 'context = "a b"\n', '"patchwork.context": string should match pattern'),
        (PATCHWORK.replace('https:', 'file:'), '"patchwork.url": string should match pattern'),
        ('[[tree]]\nname = "x"\n', '"tree[0].path": field required'),
        ('[[harness]]\nname = "x"\n', '[[harness]] "x" needs the key "dir"'),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        read(tmp_path, text)
    assert str(error.value).startswith(f'{tmp_path}/config.toml: ')
    assert said in str(error.value)
    assert '\n' not in str(error.value)
