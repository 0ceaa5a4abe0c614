"""The mail server from git's own settings, as git send-email and b4 read them."""

import subprocess
from pathlib import Path

import pytest

from bot.errors import ConfigError
from bot.outgoing import Smtp
from bot.sendemail import from_git

pytestmark = pytest.mark.slow


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's git configuration."""
    path = tmp_path / 'gitconfig'
    monkeypatch.setenv('GIT_CONFIG_GLOBAL', str(path))
    return path


PLAIN = '[sendemail]\nsmtpServer = mx.example.org\n'


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        (PLAIN, Smtp('mx.example.org', 25)),
        (PLAIN + 'smtpEncryption = tls\n', Smtp('mx.example.org', 25, 'tls')),
        (PLAIN + 'smtpencryption = STARTTLS\n', Smtp('mx.example.org', 25, 'tls')),
        (PLAIN + 'smtpencryption = ssl\n', Smtp('mx.example.org', 465, 'ssl')),
        (PLAIN + 'smtpencryption = smtps\n', Smtp('mx.example.org', 465, 'ssl')),
        (PLAIN + 'smtpencryption =\n', Smtp('mx.example.org', 25)),
        (PLAIN + 'smtpserverport = 587\n', Smtp('mx.example.org', 587)),
        (PLAIN + 'smtpserverport = smtp\n', Smtp('mx.example.org', 25)),
        (PLAIN + 'smtpserver = mx2.example.org:2525\n', Smtp('mx2.example.org', 2525)),
        (PLAIN + 'smtpserver = ::1\n', Smtp('::1', 25)),
        (
            PLAIN + 'smtpuser = bot\nsmtppass = horse\n',
            Smtp('mx.example.org', 25, user='bot', password='horse'),
        ),
        (
            PLAIN + 'smtpuser = bot\n',
            Smtp('mx.example.org', 25, user='bot', git_credentials=True),
        ),
        (
            PLAIN + 'smtpuser = bot\nsmtpauth = PLAIN login\n',
            Smtp('mx.example.org', 25, user='bot', git_credentials=True),
        ),
        (PLAIN + 'smtpuser = bot\nsmtppass = x\nsmtpauth = none\n', Smtp('mx.example.org', 25)),
        (
            PLAIN + 'smtpsslcertpath = /etc/ssl/own.pem\n',
            Smtp('mx.example.org', 25, ca_file='/etc/ssl/own.pem'),
        ),
        (PLAIN + 'envelopesender = auto\n', Smtp('mx.example.org', 25)),
        (
            PLAIN + 'envelopesender = Bounces <b@example.org>\n',
            Smtp('mx.example.org', 25, envelope='b@example.org'),
        ),
        (
            PLAIN + 'smtpdomain = relay.example.org\n',
            Smtp('mx.example.org', 25, hello='relay.example.org'),
        ),
    ],
)
def test_settings(text: str, expected: Smtp, settings: Path) -> None:
    settings.write_text(text)
    assert from_git(None) == (expected, None)


def test_home_in_a_path(settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.write_text(PLAIN + 'smtpsslcertpath = ~/own.pem\n')
    monkeypatch.setenv('HOME', '/home/bot')
    assert from_git(None)[0].ca_file == '/home/bot/own.pem'


def test_the_sender(settings: Path) -> None:
    settings.write_text(PLAIN + 'from = A Bot <bot@example.org>\n')
    assert from_git(None)[1] == 'A Bot <bot@example.org>'


IDENTITIES = """
[sendemail]
    smtpserver = mx.example.org
    smtpencryption = tls
    from = me@example.org
    smtpuser = me
[sendemail "Work.Mail"]
    smtpserver = work.example.org
    smtpuser = bot
[sendemail "home"]
    smtpserverport = 2525
"""


def test_identities(settings: Path) -> None:
    work = Smtp('work.example.org', 25, 'tls', user='bot', git_credentials=True)
    home = Smtp('mx.example.org', 2525, 'tls', user='me', git_credentials=True)
    settings.write_text(IDENTITIES)
    assert from_git('Work.Mail') == (work, 'me@example.org')
    assert from_git('home') == (home, 'me@example.org')
    assert from_git(None)[0] == Smtp('mx.example.org', 25, 'tls', user='me', git_credentials=True)
    settings.write_text(IDENTITIES + '[sendemail]\nidentity = home\n')
    assert from_git(None)[0] == home
    assert from_git('Work.Mail')[0] == work
    settings.write_text(
        IDENTITIES + '[sendemail]\nidentity = home\n[b4]\nsendemail-identity = Work.Mail\n'
    )
    assert from_git(None)[0] == work


def test_included_files_count(settings: Path, tmp_path: Path) -> None:
    (tmp_path / 'mail').write_text(PLAIN)
    settings.write_text(f'[include]\npath = {tmp_path / "mail"}\n')
    assert from_git(None)[0] == Smtp('mx.example.org', 25)


def test_the_last_one_wins(settings: Path) -> None:
    settings.write_text(PLAIN + 'smtpserver = later.example.org\n')
    assert from_git(None)[0].host == 'later.example.org'


def test_no_repository_has_a_say(
    settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.write_text(PLAIN)
    clone = tmp_path / 'clone'
    subprocess.run(['git', 'init', '-q', clone], check=True)
    subprocess.run(
        ['git', '-C', clone, 'config', 'sendemail.smtpserver', 'evil.example.org'], check=True
    )
    monkeypatch.chdir(clone)
    assert from_git(None)[0].host == 'mx.example.org'
    monkeypatch.setenv('GIT_DIR', str(clone / '.git'))
    monkeypatch.setenv('GIT_CONFIG_COUNT', '1')
    monkeypatch.setenv('GIT_CONFIG_KEY_0', 'sendemail.smtpserver')
    monkeypatch.setenv('GIT_CONFIG_VALUE_0', 'evil.example.org')
    assert from_git(None)[0].host == 'mx.example.org'


UNCHECKED = (
    'sendemail.smtpsslcertpath is empty, which checks no certificate: '
    'name the file of its authority, or unset it'
)
INSTEAD = 'name a server: host in [smtp], or sendemail.smtpserver'


@pytest.mark.parametrize(
    ('text', 'reason'),
    [
        ('', f"git's configuration has no sendemail.smtpserver: {INSTEAD}"),
        (
            '[sendemail]\nsmtpserver = /usr/bin/msmtp\n',
            f'sendemail.smtpserver = /usr/bin/msmtp is a program: {INSTEAD}',
        ),
        (
            PLAIN + 'sendmailcmd = msmtp -a work\n',
            f'sendemail.sendmailcmd is a program: {INSTEAD}',
        ),
        (
            PLAIN + 'smtpencryption = yes\n',
            'sendemail.smtpencryption = yes: expected "tls" or "ssl"',
        ),
        (PLAIN + 'smtpserverport = no-such\n', 'sendemail.smtpserverport = no-such: no port'),
        (PLAIN + 'smtpserverport = 65536\n', 'sendemail.smtpserverport = 65536: no port'),
        (
            PLAIN + 'smtpauth = XOAUTH2\n',
            'sendemail.smtpauth = XOAUTH2: only PLAIN, LOGIN and CRAM-MD5 are known',
        ),
        (
            PLAIN + 'smtpsslcertpath =\n',
            UNCHECKED,
        ),
        (
            PLAIN + 'smtpsslcertpath = ~no-such-user/x\n',
            'sendemail.smtpsslcertpath = ~no-such-user/x: no such home',
        ),
        (
            PLAIN + 'identity = typo\n',
            'git\'s configuration has no [sendemail "typo"]',
        ),
    ],
)
def test_what_will_not_do(text: str, reason: str, settings: Path) -> None:
    settings.write_text(text)
    with pytest.raises(ConfigError) as raised:
        from_git(None)
    assert str(raised.value) == reason


def test_a_broken_configuration(settings: Path) -> None:
    settings.write_text('[sendemail\n')
    with pytest.raises(ConfigError, match=r'^git config: fatal: bad config line 1 in file '):
        from_git(None)
