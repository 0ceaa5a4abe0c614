"""
The mail server, from git's own settings: `sendemail.*`.

What works for `git send-email` and for b4 works here, identities included; the
defaults are git's. Only the user's and the system's settings count: git is run
without a repository, since a clone's settings are not to say where mail goes.
(`git config --global` would leave out included files.)

What git allows and a bot should not do is an error: an unknown encryption
(git takes it for none), unchecked certificates, a program instead of a server,
whose exit code does not tell whether a mail went.
"""

import os
import re
import socket
import subprocess
from email.utils import parseaddr
from pathlib import Path
from typing import Literal

from bot.errors import ConfigError
from bot.outgoing import Smtp

KEPT = ('GIT_CONFIG_GLOBAL', 'GIT_CONFIG_SYSTEM', 'GIT_CONFIG_NOSYSTEM')
SCOPES = ('system', 'global')
ENCRYPTIONS: dict[str, Literal['none', 'tls', 'ssl']] = {
    '': 'none', 'none': 'none', 'tls': 'tls', 'starttls': 'tls', 'ssl': 'ssl', 'smtps': 'ssl',
}  # fmt: skip
PORTS = {'none': 25, 'tls': 25, 'ssl': 465}
KNOWN_AUTH = {'PLAIN', 'LOGIN', 'CRAM-MD5'}
INSTEAD = 'name a server: host in [smtp], or sendemail.smtpserver'


def from_git(identity: str | None = None) -> tuple[Smtp, str | None]:
    """
    Read the server, and `sendemail.from` (None: not set).

    `identity` is that of `[sendemail "IDENTITY"]`; None for the one that
    `b4.sendemail-identity` or `sendemail.identity` names. Raises ConfigError.
    """
    read = _settings()
    identity = identity or read.get('b4.sendemail-identity') or read.get('sendemail.identity')
    said = _of(read, 'sendemail')
    if identity:
        own = _of(read, f'sendemail.{identity}')
        if not own:
            raise ConfigError(f'git\'s configuration has no [sendemail "{identity}"]')
        said |= own
    host, port = _server(said)
    encryption = ENCRYPTIONS.get(said.get('smtpencryption', '').lower())
    if encryption is None:
        raise ConfigError(
            f'sendemail.smtpencryption = {said["smtpencryption"]}: expected "tls" or "ssl"'
        )
    user = said.get('smtpuser', '')
    mechanisms = {word.upper() for word in said.get('smtpauth', '').split()}
    if mechanisms == {'NONE'}:
        user = ''
    elif mechanisms and not mechanisms & KNOWN_AUTH:
        raise ConfigError(
            f'sendemail.smtpauth = {said["smtpauth"]}: only PLAIN, LOGIN and CRAM-MD5 are known'
        )
    secret = said.get('smtppass', '')
    sender = said.get('from')
    envelope = said.get('envelopesender', '')
    return Smtp(
        host=host,
        port=port or PORTS[encryption],
        encryption=encryption,
        user=user,
        password=secret if user else '',
        git_credentials=bool(user) and not secret,
        ca_file=_authorities(said),
        envelope='' if envelope == 'auto' else parseaddr(envelope)[1],
        hello=said.get('smtpdomain', ''),
    ), sender


def _server(said: dict[str, str]) -> tuple[str, int]:
    """Host and port; port 0: not said."""
    host = said.get('smtpserver', '')
    if 'sendmailcmd' in said:
        raise ConfigError(f'sendemail.sendmailcmd is a program: {INSTEAD}')
    if not host:
        raise ConfigError(f"git's configuration has no sendemail.smtpserver: {INSTEAD}")
    if host.startswith(('/', '~')):
        raise ConfigError(f'sendemail.smtpserver = {host} is a program: {INSTEAD}')
    port = said.get('smtpserverport', '')
    if not port and (named := re.fullmatch(r'([^:]+):(\w+)', host)):
        host, port = named[1], named[2]
    if not port:
        return host, 0
    try:
        number = int(port) if port.isdecimal() else socket.getservbyname(port, 'tcp')
    except OSError:
        number = 0
    if not 0 < number < 65536:
        raise ConfigError(f'sendemail.smtpserverport = {port}: no port')
    return host, number


def _authorities(said: dict[str, str]) -> str:
    path = said.get('smtpsslcertpath')
    if path == '':
        raise ConfigError(
            'sendemail.smtpsslcertpath is empty, which checks no certificate: '
            'name the file of its authority, or unset it'
        )
    try:
        return str(Path(path).expanduser()) if path else ''
    except RuntimeError:
        raise ConfigError(f'sendemail.smtpsslcertpath = {path}: no such home') from None


def _of(read: dict[str, str], section: str) -> dict[str, str]:
    """Take the variables of one section, its subsections left out."""
    found = {}
    for key, value in read.items():
        where, _, name = key.rpartition('.')
        if where == section:
            found[name] = value
    return found


def _settings() -> dict[str, str]:
    """Read what the user and the system say; the last value of each key wins."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith('GIT_') or k in KEPT}
    environment['GIT_DIR'] = os.devnull  # there is no repository
    words = ['git', 'config', '--show-scope', '-z', '--get-regexp', r'^(sendemail\.|b4\.sendemail)']
    try:
        done = subprocess.run(
            words, env=environment, capture_output=True, cwd='/', timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f'git config: {error}') from error
    if done.returncode not in (0, 1):  # 1: nothing found
        last = done.stderr.decode('utf-8', 'replace').strip().rpartition('\n')[2]
        raise ConfigError(f'git config: {last}')
    words = done.stdout.decode('utf-8', 'replace').split('\0')
    found = {}
    for scope, entry in zip(words[0::2], words[1::2], strict=False):
        if scope in SCOPES:
            key, _, value = entry.partition('\n')
            found[key] = value
    return found
