"""
The password of the mail server, from wherever its operator keeps it.

A file, the first line that a command prints, or git's credential helpers. It
is read each time that it is needed and kept nowhere: never in the words or the
environment of a child, and never in a message of ours.

A file that others may read is an error. One that its group may read is none:
systemd gives a service its credentials by an access list, which shows as the
group's permission.
"""

import os
import shlex
import stat
import subprocess

from bot.errors import MailError
from bot.outgoing import Smtp

LARGEST = 4096
PATIENCE = 30.0
"""How long a command or a helper may take (gpg asks a card, a vault a network), seconds."""


def password(smtp: Smtp) -> str:
    """Read the password. Raises MailError: there is none, or none that can be used."""
    if smtp.password:
        found, where = smtp.password, 'sendemail.smtppass'
    elif smtp.password_file:
        found, where = secret(smtp.password_file), smtp.password_file
    elif smtp.password_command:
        found, where = _command(smtp.password_command), 'what password_command prints'
    elif smtp.git_credentials:
        found, where = _credential(smtp), "git's credential"
    else:
        raise MailError(f'{smtp.host}: no password for {smtp.user}: set password_file')
    if not found:
        raise MailError(f'{where}: no password there')
    if not found.isascii() or not found.isprintable():
        raise MailError(f'{where}: not a password: one line of ASCII is expected')
    return found


def secret(name: str, what: str = 'password') -> str:
    """Read what a file keeps. Raises MailError: it can not be read, or others may read it."""
    try:
        file = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise MailError(f'{name}: {error.strerror}') from error
    try:
        mode = os.fstat(file).st_mode
        if not stat.S_ISREG(mode):
            raise MailError(f'{name}: not a file')
        if mode & stat.S_IRWXO:
            raise MailError(f'{name}: others may read the {what}: chmod 600 {name}')
        return os.read(file, LARGEST).decode('utf-8', 'replace').rstrip('\r\n')
    except OSError as error:
        raise MailError(f'{name}: {error.strerror}') from error
    finally:
        os.close(file)


def _command(command: str) -> str:
    """Run it without a shell: its words are split as a shell would, and nothing is expanded."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise MailError(f'password_command: {error}') from None
    if not words:
        raise MailError('password_command: no command there')
    return _first_line(words, f'password_command ({words[0]})')


def _credential(smtp: Smtp) -> str:
    """Ask as git send-email does, but never a human."""
    asked = f'protocol=smtp\nhost={smtp.host}:{smtp.port}\nusername={smtp.user}\n\n'
    kept = ('GIT_CONFIG_GLOBAL', 'GIT_CONFIG_SYSTEM', 'GIT_CONFIG_NOSYSTEM')
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith('GIT_') or k in kept},
        'GIT_DIR': os.devnull,  # no repository's settings
        'GIT_ASKPASS': '',
        'SSH_ASKPASS': '',
        'GIT_TERMINAL_PROMPT': '0',
    }
    words = ['git', '-c', 'core.askPass=', 'credential', 'fill']
    said = _run(words, "git's credential helpers", asked, environment)
    return next(
        (line.removeprefix('password=') for line in said.split('\n') if line[:9] == 'password='), ''
    )


def _first_line(words: list[str], what: str) -> str:
    return _run(words, what, '', None).partition('\n')[0].rstrip('\r')


def _run(words: list[str], what: str, stdin: str, environment: dict[str, str] | None) -> str:
    # What a command writes on standard error is dropped: it may hold the secret.
    try:
        done = subprocess.run(
            words, input=stdin.encode(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            timeout=PATIENCE, check=False, cwd='/', env=environment,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise MailError(f'{what} gave no password within {PATIENCE:g} s') from None
    except OSError as error:
        raise MailError(f'{what}: {error.strerror}') from error
    if done.returncode != 0:
        raise MailError(f'{what} ended with {done.returncode}: run it by hand to see why')
    return done.stdout[:LARGEST].decode('utf-8', 'replace')
