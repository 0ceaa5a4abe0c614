"""Where the mail server's password may be kept, and where it must not show."""

import os
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

import bot.password
from bot.errors import MailError
from bot.outgoing import Smtp
from bot.password import password

SECRET = 'correct horse'


def smtp(**words: Any) -> Smtp:
    return Smtp('mx.example.org', 587, user='bot', **words)


def kept(folder: Path, content: str = SECRET + '\n', mode: int = 0o600) -> Path:
    path = folder / 'password'
    path.write_text(content)
    path.chmod(mode)
    return path


def refusal(how: Smtp) -> str:
    with pytest.raises(MailError) as raised:
        password(how)
    assert SECRET not in str(raised.value)
    assert SECRET not in repr(how)
    return str(raised.value)


@pytest.mark.parametrize('mode', [0o400, 0o600, 0o440, 0o640])
def test_a_file(mode: int, tmp_path: Path) -> None:
    path = kept(tmp_path, mode=mode)
    assert password(smtp(password_file=str(path))) == SECRET


@pytest.mark.parametrize('content', [SECRET, SECRET + '\r\n', SECRET + '\n\n'])
def test_ends_of_line_are_no_part_of_it(content: str, tmp_path: Path) -> None:
    assert password(smtp(password_file=str(kept(tmp_path, content)))) == SECRET


@pytest.mark.parametrize('mode', [0o604, 0o644, 0o602, 0o666])
def test_a_file_that_others_may_read(mode: int, tmp_path: Path) -> None:
    path = kept(tmp_path, mode=mode)
    assert refusal(smtp(password_file=str(path))) == (
        f'{path}: others may read the password: chmod 600 {path}'
    )


@pytest.mark.parametrize('content', [f'{SECRET}\nmore\n', f'{SECRET}ä', f'{SECRET}\0', 'x\x1b' * 9])
def test_a_file_with_something_else(content: str, tmp_path: Path) -> None:
    path = kept(tmp_path, content)
    assert refusal(smtp(password_file=str(path))) == (
        f'{path}: not a password: one line of ASCII is expected'
    )


def test_files_that_are_none(tmp_path: Path) -> None:
    missing = tmp_path / 'missing'
    assert refusal(smtp(password_file=str(missing))) == f'{missing}: No such file or directory'
    assert refusal(smtp(password_file=str(tmp_path))) == f'{tmp_path}: not a file'
    pipe = tmp_path / 'pipe'
    os.mkfifo(pipe, 0o600)
    assert refusal(smtp(password_file=str(pipe))) == f'{pipe}: not a file'
    empty = kept(tmp_path, '\n')
    assert refusal(smtp(password_file=str(empty))) == f'{empty}: no password there'


def python(code: str) -> str:
    return shlex.join([sys.executable, '-c', code])


def test_a_command() -> None:
    how = smtp(password_command=python(f'print({SECRET!r}); print("login: bot")'))
    assert password(how) == SECRET


def test_a_command_is_given_to_no_shell(tmp_path: Path) -> None:
    made = tmp_path / 'made'
    assert password(smtp(password_command=f"echo '{SECRET}'; $HOME > {made}")) == (
        f'{SECRET}; $HOME > {made}'
    )
    assert not made.exists()


def test_commands_that_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f'password_command ({sys.executable})'
    leaky = python(f'import sys; sys.stderr.write({SECRET!r}); print({SECRET!r}); sys.exit(3)')
    assert refusal(Smtp('mx', user='bot', password_command='no-such-program x')) == (
        'password_command (no-such-program): No such file or directory'
    )
    assert refusal(Smtp('mx', user='bot', password_command=' ')) == (
        'password_command: no command there'
    )
    assert refusal(Smtp('mx', user='bot', password_command="echo 'x")) == (
        'password_command: No closing quotation'
    )
    with pytest.raises(MailError) as raised:
        password(smtp(password_command=leaky))
    assert str(raised.value) == f'{name} ended with 3: run it by hand to see why'
    assert refusal(smtp(password_command=python(''))) == (
        'what password_command prints: no password there'
    )
    monkeypatch.setattr(bot.password, 'PATIENCE', 0.5)
    slow = python('import signal; signal.pause()')
    assert refusal(smtp(password_command=slow)) == f'{name} gave no password within 0.5 s'


def test_git_knows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / 'store'
    store.write_text('smtp://bot:correct%20horse@mx.example.org%3a587\n')
    settings = tmp_path / 'gitconfig'
    settings.write_text(f'[credential]\n\thelper = store --file={store}\n')
    monkeypatch.setenv('GIT_CONFIG_GLOBAL', str(settings))
    assert password(smtp(git_credentials=True)) == SECRET


def test_git_does_not_know_it_and_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('GIT_ASKPASS', 'echo')
    monkeypatch.setenv('SSH_ASKPASS', 'echo')
    assert refusal(smtp(git_credentials=True)) == (
        "git's credential helpers ended with 128: run it by hand to see why"
    )


def test_git_has_it_in_its_settings() -> None:
    assert password(smtp(password=SECRET)) == SECRET
    assert SECRET not in repr(smtp(password=SECRET))


def test_none_at_all() -> None:
    assert refusal(smtp()) == 'mx.example.org: no password for bot: set password_file'
