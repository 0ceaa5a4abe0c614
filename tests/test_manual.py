"""bot(1): up to date, whole, and good troff."""

import os
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from bot.cli import bot
from bot.manual import page

MANUAL = Path(__file__).parent.parent / 'docs/bot.1'


def test_the_page_is_up_to_date() -> None:
    assert MANUAL.read_text() == page(), 'make docs mends it'


def rendered(path: Path) -> tuple[str, str]:
    """What man shows, and what it complains of."""
    if shutil.which('man') is None or shutil.which('groff') is None:
        pytest.skip('no man: apt install man-db groff')
    environment = {**os.environ, 'MANWIDTH': '200', 'LC_ALL': 'C.UTF-8', 'MANROFFSEQ': ''}
    done = subprocess.run(
        ['man', '--warnings', '-E', 'UTF-8', '-l', str(path)],
        capture_output=True, text=True, check=True, env=environment,
    )  # fmt: skip
    return done.stdout, done.stderr


def test_man_shows_it_without_a_warning() -> None:
    shown, complaints = rendered(MANUAL)
    assert complaints == ''
    assert 'bot - review kernel patch series that touch the VMA code' in shown


def test_man_warns_of_what_is_wrong(tmp_path: Path) -> None:
    broken = tmp_path / 'broken.1'
    broken.write_text(MANUAL.read_text() + '.XX no such macro\n')
    assert 'XX' in rendered(broken)[1]


def commands(command: click.Command, name: str) -> dict[str, click.Command]:
    found = {name: command}
    if isinstance(command, click.Group):
        context = click.Context(command)
        for inner in command.list_commands(context):
            other = command.get_command(context, inner)
            assert other is not None
            found |= commands(other, f'{name} {inner}')
    return found


@pytest.mark.parametrize(('name', 'command'), commands(bot, 'bot').items())
def test_every_command_and_option_is_there(name: str, command: click.Command) -> None:
    shown, _ = rendered(MANUAL)
    words = ' '.join(shown.split())
    assert f'{name} [OPTIONS]' in words
    for one in command.params:
        if isinstance(one, click.Option) and not one.hidden:
            assert max(one.opts, key=len) in words
