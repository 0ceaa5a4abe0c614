"""Sending: every end that a dialogue with a mail server can have."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bot.smtp
from bot.errors import MailError
from bot.mail import Mailer
from bot.outgoing import Accepted, Delivery, Refused, Smtp, TryLater, Unsure
from bot.smtp import loopback
from tests.mailserver import (
    DROP,
    HANG,
    RESET,
    Certificate,
    Received,
    Scripted,
    Step,
    certificate,
    raw,
)
from tests.services.publicinbox import free_port

BOT = 'bot@example.org'
A, B, C = 'a@example.org', 'b@example.org', 'list@example.org'
MAIL = b'From: Bot <bot@example.org>\nSubject: Re: [PATCH] mm: x\n\nA line.\n.\n..two\n\nLast.\n'
WIRE = MAIL.replace(b'\n', b'\r\n')
GONE = 'lost the connection: Connection reset by peer'
NOBODY = 'MX takes none of the recipients'
SHORT = 1.0  # seconds, where a time-out is meant to be reached


@dataclass
class Claim:
    """Counts how often it is asked."""

    answer: bool = True
    wait: threading.Event | None = None
    asked: list[bool] = field(default_factory=list)

    def __call__(self) -> bool:
        self.asked.append(self.answer)
        assert self.wait is None or self.wait.wait(10)
        return self.answer


@pytest.fixture
def served() -> Iterator[Callable[..., Scripted]]:
    servers: list[Scripted] = []

    def start(script: dict[str, Step] | None = None, **words: Any) -> Scripted:
        servers.append(Scripted(script or {}, **words))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope='module')
def good(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp('good'), 'DNS:localhost,IP:127.0.0.1')


@pytest.fixture(scope='module')
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """One for another server."""
    return certificate(tmp_path_factory.mktemp('foreign'), 'DNS:elsewhere.example.org')


def smtp(port: int, **words: Any) -> Smtp:
    return replace(Smtp('127.0.0.1', port, timeout=10), **words)


def send(
    to: Smtp, claim: Claim, recipients: tuple[str, ...] = (A, B), mail: bytes = MAIL
) -> Delivery:
    """Send; the port in reasons is made the same for all."""
    return plain(Mailer(to).send(BOT, recipients, mail, claim), to.port)


def plain(delivery: Delivery, port: int) -> Delivery:
    if isinstance(delivery, Accepted):
        return delivery
    return replace(delivery, reason=delivery.reason.replace(f'127.0.0.1:{port}', 'MX'))


def test_a_mail_goes_as_it_is(served: Callable[..., Scripted]) -> None:
    server, claim = served(), Claim()
    assert send(smtp(server.port), claim) == Accepted()
    assert claim.asked == [True]
    assert server.received == [Received(BOT, (A, B), WIRE)]
    assert server.said == [
        'EHLO example.org', f'MAIL FROM:<{BOT}> SIZE=87', f'RCPT TO:<{A}>', f'RCPT TO:<{B}>',
        'DATA',
    ]  # fmt: skip


def unusable(reason: str) -> TryLater:
    return TryLater(reason, unusable=True)


BEFORE = [
    pytest.param(script, outcome, id=name)
    for name, script, outcome in [
        ('connect-554', {'connect': '554 no'}, unusable('MX answers 554 no to the connection')),
        ('connect-421', {'connect': '421 busy'}, unusable('MX answers 421 busy to the connection')),
        ('connect-drop', {'connect': DROP}, unusable('MX closed the connection')),
        ('EHLO-450', {'EHLO': '450 later'}, unusable('MX answers 450 later to EHLO')),
        ('EHLO-drop', {'EHLO': DROP}, unusable('MX closed the connection')),
        ('MAIL-450', {'MAIL': '450 4.2.0 later'}, TryLater('MX answers 450 4.2.0 later to MAIL')),
        (
            'MAIL-550',
            {'MAIL': '550 5.7.1 not from you'},
            Refused('MX answers 550 5.7.1 not from you to MAIL'),
        ),
        ('MAIL-530', {'MAIL': '530 5.7.0 log in'}, unusable('MX answers 530 5.7.0 log in to MAIL')),
        ('MAIL-421', {'MAIL': '421 bye'}, unusable('MX answers 421 bye to MAIL')),
        ('MAIL-drop', {'MAIL': DROP}, TryLater('MX closed the connection')),
        (
            'MAIL-multi',
            {'MAIL': '550-one\r\n550-two\r\n550 three'},
            Refused('MX answers 550 one two three to MAIL'),
        ),
        ('RCPT-450', {'RCPT': '450 full'}, TryLater(f'{NOBODY}: {A}: 450 full; {B}: 450 full')),
        (
            'RCPT-550',
            {'RCPT': '550 who'},
            Refused(f'{NOBODY}: {A}: 550 who; {B}: 550 who', {A: '550 who', B: '550 who'}),
        ),
        (
            'RCPT-both',
            {f'RCPT {A}': '550 who', f'RCPT {B}': '450 full'},
            TryLater(f'{NOBODY}: {A}: 550 who; {B}: 450 full'),
        ),
        (
            'RCPT-552',
            {'RCPT': '552 too many'},
            TryLater(f'{NOBODY}: {A}: 552 too many; {B}: 552 too many'),
        ),
        ('RCPT-421', {f'RCPT {B}': '421 bye'}, unusable('MX answers 421 bye to RCPT')),
        ('RCPT-drop', {f'RCPT {B}': DROP}, TryLater('MX closed the connection')),
        ('DATA-450', {'DATA': '451 4.3.0 later'}, TryLater('MX answers 451 4.3.0 later to DATA')),
        ('DATA-550', {'DATA': '554 5.7.1 no'}, Refused('MX answers 554 5.7.1 no to DATA')),
        ('DATA-250', {'DATA': '250 what'}, TryLater('MX answers 250 what to DATA')),
        ('DATA-421', {'DATA': '421 bye'}, unusable('MX answers 421 bye to DATA')),
        ('DATA-drop', {'DATA': DROP}, TryLater('MX closed the connection')),
    ]
]


@pytest.mark.parametrize(('script', 'outcome'), BEFORE)
def test_what_fails_before_the_mail_goes_out(
    script: dict[str, Step], outcome: Delivery, served: Callable[..., Scripted]
) -> None:
    server, claim = served(script), Claim()
    assert send(smtp(server.port), claim) == outcome
    assert claim.asked == []
    assert server.received == []


AFTER = [
    pytest.param(script, outcome, id=name)
    for name, script, outcome in [
        (
            '450',
            {'end': '450 4.7.1 greylisted'},
            TryLater('MX answers 450 4.7.1 greylisted to the mail'),
        ),
        ('550', {'end': '550 5.7.1 spam'}, Refused('MX answers 550 5.7.1 spam to the mail')),
        (
            '421',
            {'end': '421 4.3.2 going down'},
            unusable('MX answers 421 4.3.2 going down to the mail'),
        ),
        ('354', {'end': '354 what'}, Unsure('MX answers 354 what to the mail')),
        ('drop', {'end': DROP}, Unsure('MX closed the connection, after the mail was whole')),
        ('reset', {'end': RESET}, Unsure(f'MX {GONE}, after the mail was whole')),
        ('250-drop', {'end': ('250 taken', DROP)}, Accepted()),
        ('250-reset', {'end': ('250 taken', RESET)}, Accepted()),
        ('250-hang', {'end': ('250 taken', HANG)}, Accepted()),
        (
            'garbage',
            {'end': 'taken!'},
            Unsure('MX does not speak SMTP: taken!, after the mail was whole'),
        ),
    ]
]


@pytest.mark.parametrize(('script', 'outcome'), AFTER)
def test_the_answer_to_the_mail(
    script: dict[str, Step], outcome: Delivery, served: Callable[..., Scripted]
) -> None:
    server, claim = served(script), Claim()
    assert send(smtp(server.port), claim) == outcome
    assert claim.asked == [True]
    assert server.received == [Received(BOT, (A, B), WIRE)]


def test_a_server_that_goes_before_the_mail_is_whole(served: Callable[..., Scripted]) -> None:
    server = served({'DATA': ('354 go on', RESET)})
    claim = Claim(wait=server.ended)
    delivery = send(smtp(server.port), claim)
    assert isinstance(delivery, TryLater)
    assert delivery.reason.startswith('MX lost the connection: ')
    assert delivery.reason.endswith(', before the mail was whole')
    assert claim.asked == [True]
    assert server.received == []


@pytest.mark.parametrize(
    ('early', 'outcome'),
    [
        ('552 5.3.4 too big', Refused('MX answers 552 5.3.4 too big to the mail')),
        ('451 4.3.0 full', TryLater('MX answers 451 4.3.0 full to the mail')),
        ('421 bye', TryLater('MX answers 421 bye to the mail', unusable=True)),
        ('250 taken', Unsure('MX answers before the mail ends: 250 taken')),
        (
            'what',
            TryLater('MX does not speak SMTP: what, before the mail was whole'),
        ),
    ],
)
def test_an_answer_before_the_mail_is_whole(
    early: str, outcome: Delivery, served: Callable[..., Scripted]
) -> None:
    server = served({'DATA': ('354 go on', early, DROP)})
    claim = Claim(wait=server.ended)
    assert send(smtp(server.port), claim) == outcome
    assert claim.asked == [True]
    assert server.received == []


def interrupted() -> bool:
    raise KeyboardInterrupt


@pytest.mark.parametrize('claim', [lambda: False, interrupted], ids=['no', 'interrupted'])
def test_nothing_goes_without_a_claim(claim: Callable[[], bool]) -> None:
    with raw(b'220 hi\r\n', *[b'250 ok\r\n'] * 3, b'354 go\r\n', b'250 taken\r\n') as server:
        mailer = Mailer(smtp(server.port))
        if claim is interrupted:
            with pytest.raises(KeyboardInterrupt):
                mailer.send(BOT, [A], MAIL, claim)
        else:
            assert mailer.send(BOT, [A], MAIL, claim) == TryLater('no longer wanted')
    assert server.told == [
        b'ehlo example.org\r\n', b'MAIL FROM:<bot@example.org>\r\n',
        b'RCPT TO:<a@example.org>\r\n', b'DATA\r\n', b'',
    ]  # fmt: skip


@pytest.mark.parametrize('stage', ['connect', 'EHLO', 'STARTTLS', 'AUTH', 'MAIL', 'RCPT', 'DATA'])
def test_a_server_that_hangs(
    stage: str, served: Callable[..., Scripted], good: Certificate
) -> None:
    server, claim = served({stage: HANG}, users={'bot': 'secret'}, tls=good.context), Claim()
    how = smtp(
        server.port, timeout=SHORT, user='bot', password='secret', encryption='tls',
        ca_file=str(good.path),
    )  # fmt: skip
    early = stage in ('connect', 'EHLO', 'STARTTLS', 'AUTH')
    assert send(how, claim) == TryLater('MX does not answer within 1 s', unusable=early)
    assert claim.asked == []
    assert server.received == []


def test_a_server_that_hangs_over_the_mail(
    served: Callable[..., Scripted], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bot.smtp, 'PATIENCE', 2)
    server, claim = served({'end': HANG}), Claim()
    assert send(smtp(server.port, timeout=SHORT), claim) == Unsure(
        'MX does not answer within 2 s, after the mail was whole'
    )
    assert claim.asked == [True]
    assert server.received == [Received(BOT, (A, B), WIRE)]


def test_a_server_that_reads_no_more(served: Callable[..., Scripted]) -> None:
    server, claim = served({'DATA': ('354 go on', HANG)}), Claim()
    big = MAIL + (b'x' * 70 + b'\n') * 200_000
    assert send(smtp(server.port, timeout=SHORT), claim, (A,), big) == TryLater(
        'MX takes nothing for 1 s, before the mail was whole'
    )
    assert claim.asked == [True]
    assert server.received == []


class Clock:
    """A second later whenever it is looked at."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def test_a_server_that_trickles() -> None:
    """Each part comes in time, but the answer does not end."""
    with raw(b'220-x\r\n' * 8000) as server:
        mailer = Mailer(smtp(server.port), Clock())
        delivery = plain(mailer.send(BOT, [A], MAIL, Claim()), server.port)
    assert delivery == unusable('MX does not answer within 10 s')


def test_a_dialogue_that_takes_too_long(served: Callable[..., Scripted]) -> None:
    server, claim = served(), Claim()
    many = [f'{n}@example.org' for n in range(100)]
    delivery = Mailer(smtp(server.port), Clock()).send(BOT, many, MAIL, claim)
    assert plain(delivery, server.port) == TryLater('MX was not done within 100 s')
    assert claim.asked == []
    assert server.received == []


HI, OK = b'220 hi\r\n', b'250 ok\r\n'
LONG = f'550 {("long " * 40)[:199]}…'


@pytest.mark.parametrize(
    ('portions', 'outcome'),
    [
        ((b'220-x\r\n' * 20_000,), unusable('MX answers without an end')),
        ((b'220 ' + b'x' * 100_000,), unusable('MX answers without an end')),
        (
            (b'HTTP/1.1 400 Bad Request\r\n',),
            unusable('MX does not speak SMTP: HTTP/1.1 400 Bad Request'),
        ),
        ((b'\0\xff\x1b[2J\r\n',), unusable('MX does not speak SMTP: \ufffd')),
        ((b'\r\n',), unusable('MX does not speak SMTP: ')),
        ((b'999 x\r\n',), unusable('MX does not speak SMTP: 999 x')),
        (
            (HI, OK, b'250\r\n', b'550 \x1b[31mred\x07 \xe2\x80\xaegnitirw\rX-Evil: 1\r\n'),
            Refused(f'{NOBODY}: {A}: 550 red gnitirw X-Evil: 1', {A: '550 red gnitirw X-Evil: 1'}),
        ),
        (
            (HI, OK, OK, b'550 ' + b'long ' * 1000 + b'\r\n'),
            Refused(f'{NOBODY}: {A}: {LONG}', {A: LONG}),
        ),
        (
            (HI, b'250-mx\r\n250-SIZE ' + b'9' * 5000 + b'\r\n250 AUTH\r\n', b'550 no\r\n'),
            Refused('MX answers 550 no to MAIL'),
        ),
        # An answer in reserve is never taken for one that comes later.
        (
            (HI, OK, OK, OK + b'354 go\r\n', b'550 no\r\n'),
            TryLater('MX says more than it was asked: 354 go'),
        ),
    ],
)
def test_answers_that_are_none(portions: tuple[bytes, ...], outcome: Delivery) -> None:
    claim = Claim()
    with raw(*portions) as server:
        assert send(smtp(server.port), claim, (A,)) == outcome
    assert claim.asked == []


ANSWERS = st.sampled_from(
    [b'220 hi', b'250 ok', b'354 go', b'421 bye', b'450 later', b'550 no', b'999 x', b'?']
)


@given(st.sets(st.integers(0, 5), max_size=2), st.lists(ANSWERS, min_size=6, max_size=6))
def test_whatever_a_server_answers(changed: set[int], answers: list[bytes]) -> None:
    """A claim just before the mail, a mail only after a claim; its outcome is the last answer's."""
    right = [b'220 hi', b'250 ok', b'250 ok', b'250 ok', b'354 go', b'250 ok']
    said = [answers[n] if n in changed else right[n] for n in range(6)]
    claim = Claim()
    with raw(*(answer + b'\r\n' for answer in said)) as server:
        delivery = send(smtp(server.port), claim, (A,))
    told = b''.join(server.told)
    opened = [said[0] == b'220 hi', said[1] == b'250 ok', said[2][:1] == b'2', said[3][:1] == b'2']
    reached = all(opened) and said[4] == b'354 go'
    assert claim.asked == [True] * reached
    assert (b'Subject: ' in told) is reached
    if not reached:
        assert isinstance(delivery, TryLater | Refused)
        return
    expected = {b'2': Accepted, b'4': TryLater, b'5': Refused}.get(said[5][:1], Unsure)
    assert type(delivery) is expected


# --- recipients -----------------------------------------------------------------


def test_some_recipients_are_refused(served: Callable[..., Scripted]) -> None:
    script = {f'RCPT {A}': '550 5.1.1 who', f'RCPT {C}': '450 4.2.1 full'}
    server, claim = served(script), Claim()
    assert send(smtp(server.port), claim, (A, B, C)) == Accepted(
        {A: '550 5.1.1 who', C: '450 4.2.1 full'}
    )
    assert claim.asked == [True]
    assert server.received == [Received(BOT, (B,), WIRE)]


def test_a_recipient_is_named_once(served: Callable[..., Scripted]) -> None:
    server = served()
    assert send(smtp(server.port), Claim(), (A, B, A)) == Accepted()
    assert server.received == [Received(BOT, (A, B), WIRE)]


@pytest.mark.parametrize(
    'address',
    [
        'a@example.org>\r\nDATA',
        'a@example.org\nRSET',
        '<a@example.org',
        'a b@example.org',
        'a',
        '',
        'a@',
        '@b',
        'a@b@c',
        f'{"x" * 300}@example.org',
        'a\ud800@example.org',
        'a\u202e@example.org',
        'a\x00@example.org',
        'a,b@example.org',
    ],
)
def test_what_is_no_address(address: str, served: Callable[..., Scripted]) -> None:
    server, claim = served(), Claim()
    why = {address: 'not an address that mail can go to'}
    assert send(smtp(server.port), claim, (address, B)) == Accepted(why)
    assert server.received == [Received(BOT, (B,), WIRE)]
    assert server.said[2:] == [f'RCPT TO:<{B}>', 'DATA']


def test_no_recipients(served: Callable[..., Scripted]) -> None:
    server, claim = served(), Claim()
    assert send(smtp(server.port), claim, ()) == Refused('nobody to send it to')
    assert (claim.asked, server.said) == ([], [])


@pytest.mark.parametrize('sender', ['', 'bot', 'bot@x>\r\nRSET', 'b t@example.org'])
def test_a_sender_that_is_none(sender: str, served: Callable[..., Scripted]) -> None:
    server, claim = served(), Claim()
    delivery = Mailer(smtp(server.port)).send(sender, [A], MAIL, claim)
    assert isinstance(delivery, TryLater)
    assert delivery.unusable
    assert delivery.reason.endswith('is no address to send from')
    assert len(server.said) == 1


def test_addresses_beyond_ascii(served: Callable[..., Scripted]) -> None:
    server = served()
    assert send(smtp(server.port), Claim(), ('jörg@example.org', A)) == Accepted()
    assert server.received == [Received(BOT, ('jörg@example.org', A), WIRE)]
    assert server.said[1] == f'MAIL FROM:<{BOT}> SIZE=87 SMTPUTF8'


def test_addresses_beyond_ascii_where_the_server_takes_none(
    served: Callable[..., Scripted],
) -> None:
    server = served(international=False)
    why = {'jörg@example.org': 'the server takes no addresses beyond ASCII (SMTPUTF8)'}
    assert send(smtp(server.port), Claim(), ('jörg@example.org', A)) == Accepted(why)
    assert server.received == [Received(BOT, (A,), WIRE)]
    assert server.said[1] == f'MAIL FROM:<{BOT}> SIZE=87'
    delivery = Mailer(smtp(server.port)).send('bøt@example.org', [A], MAIL, Claim())
    assert plain(delivery, server.port) == unusable('MX sends from ASCII addresses alone')


def test_the_envelope_has_a_sender_of_its_own(served: Callable[..., Scripted]) -> None:
    server = served()
    how = smtp(server.port, envelope='bounces@lists.example.org')
    assert send(how, Claim()) == Accepted()
    assert server.said[0] == 'EHLO lists.example.org'
    assert server.received == [Received('bounces@lists.example.org', (A, B), WIRE)]


# --- the mail's own bytes -------------------------------------------------------


EIGHT = b'Subject: x\n\nfa\xc3\xa7ade, \xff\n'


def test_eight_bits(served: Callable[..., Scripted]) -> None:
    server = served()
    assert send(smtp(server.port), Claim(), (A,), EIGHT) == Accepted()
    assert server.received == [Received(BOT, (A,), EIGHT.replace(b'\n', b'\r\n'))]
    assert server.said[1] == f'MAIL FROM:<{BOT}> SIZE=26 BODY=8BITMIME'


SEVEN = {'EHLO': '250-mx.test\r\n250 SIZE 1000'}


@pytest.mark.parametrize(
    ('mail', 'reason'),
    [
        (EIGHT, 'MX takes ASCII mails alone: encode the body'),
        ('Subject: ä\n\nx\n'.encode(), 'MX takes ASCII headers alone: encode them'),
        (b'Subject: x\n\n' + b'x\n' * 400, 'the mail has 1214 bytes, and MX takes 1000'),
    ],
)
def test_a_server_that_takes_less(
    mail: bytes, reason: str, served: Callable[..., Scripted]
) -> None:
    server, claim = served(SEVEN), Claim()
    assert send(smtp(server.port), claim, (A,), mail) == Refused(reason)
    assert claim.asked == []
    assert server.said == ['EHLO example.org']


CONTROL = 'has a carriage return or a NUL: encode its body'


@pytest.mark.parametrize(
    ('mail', 'reason'),
    [
        (b'Subject: x\rBcc: y\n\nx\n', f'line 1 of the mail {CONTROL}'),
        (b'Subject: x\n\n\0\n', f'line 3 of the mail {CONTROL}'),
        (
            b'Subject: x\n\n' + b'x' * 999 + b'\n',
            'line 3 of the mail has more than 998 bytes: encode its body',
        ),
    ],
)
def test_mails_that_smtp_can_not_carry(
    mail: bytes, reason: str, served: Callable[..., Scripted]
) -> None:
    server, claim = served(), Claim()
    assert send(smtp(server.port), claim, (A,), mail) == Refused(reason)
    assert (claim.asked, server.said) == ([], [])


@pytest.mark.parametrize(
    ('mail', 'content'),
    [
        (b'A: b\n\n.\n', b'A: b\r\n\r\n.\r\n'),
        (b'A: b\n\n.', b'A: b\r\n\r\n.\r\n'),
        (b'A: b\r\n\r\nx\r\n.\r\ny\r\n', b'A: b\r\n\r\nx\r\n.\r\ny\r\n'),
        (b'A: b\n\n' + b'x' * 998 + b'\n', b'A: b\r\n\r\n' + b'x' * 998 + b'\r\n'),
        (b'A: b\n\n..\n.x\n\n\n', b'A: b\r\n\r\n..\r\n.x\r\n\r\n\r\n'),
    ],
)
def test_lines_and_dots(mail: bytes, content: bytes, served: Callable[..., Scripted]) -> None:
    server = served()
    assert send(smtp(server.port), Claim(), (A,), mail) == Accepted()
    assert server.received == [Received(BOT, (A,), content)]


# --- encryption and log-in ------------------------------------------------------


USERS = {'bot': 'right horse'}
MISMATCH = (
    "IP address mismatch, certificate is not valid for '127.0.0.1'; "
    'host must be a name that the certificate is for'
)
WAYS = [('tls', False), ('ssl', True)]


@pytest.mark.parametrize(('encryption', 'from_the_start'), WAYS)
def test_encrypted_and_logged_in(
    encryption: str, from_the_start: bool, served: Callable[..., Scripted], good: Certificate
) -> None:
    server = served(tls=good.context, from_the_start=from_the_start, users=USERS)
    how = smtp(
        server.port, encryption=encryption, ca_file=str(good.path), user='bot',
        password='right horse',
    )  # fmt: skip
    claim = Claim()
    assert send(how, claim) == Accepted()
    assert claim.asked == [True]
    assert server.received == [Received(BOT, (A, B), WIRE)]
    Mailer(how).check()
    assert len(server.received) == 1
    assert send(replace(how, host='localhost'), Claim()) == Accepted()


@pytest.mark.parametrize(('encryption', 'from_the_start'), WAYS)
@pytest.mark.parametrize(
    ('known', 'reason'),
    [
        (False, 'self-signed certificate; ca_file names an authority to trust'),
        (True, MISMATCH),
    ],
)
def test_bad_certificates(
    encryption: str,
    from_the_start: bool,
    known: bool,
    reason: str,
    served: Callable[..., Scripted],
    foreign: Certificate,
) -> None:
    server = served(tls=foreign.context, from_the_start=from_the_start, users=USERS)
    how = smtp(
        server.port, encryption=encryption, user='bot', password='right horse',
        ca_file=str(foreign.path) if known else '',
    )  # fmt: skip
    claim = Claim()
    assert send(how, claim) == unusable(f'MX has no valid certificate: {reason}')
    assert claim.asked == []
    assert not any(said.startswith(('AUTH', 'MAIL')) for said in server.said)
    with pytest.raises(MailError, match='has no valid certificate'):
        Mailer(how).check()


def test_no_starttls_no_mail(served: Callable[..., Scripted]) -> None:
    server, claim = served(), Claim()
    assert send(smtp(server.port, encryption='tls'), claim) == unusable(
        'MX offers no STARTTLS: encryption = "ssl" is TLS from the start, usually on port 465'
    )
    assert (claim.asked, server.said) == ([], ['EHLO example.org'])


def test_starttls_refused(served: Callable[..., Scripted], good: Certificate) -> None:
    server = served({'STARTTLS': '454 4.7.0 not now'}, tls=good.context)
    assert send(smtp(server.port, encryption='tls'), Claim()) == unusable(
        'MX answers 454 4.7.0 not now to STARTTLS'
    )


def test_tls_where_there_is_none(served: Callable[..., Scripted]) -> None:
    server = served()
    assert send(smtp(server.port, encryption='ssl'), Claim()) == unusable(
        'MX does not begin TLS: wrong version number'
    )


def test_what_comes_before_tls_is_not_taken_for_what_comes_after() -> None:
    portions = (HI, b'250-mx\r\n250 STARTTLS\r\n', b'220 go\r\n250-mx\r\n250 AUTH PLAIN\r\n')
    with raw(*portions) as server:
        assert send(smtp(server.port, encryption='tls'), Claim()) == unusable(
            'MX says more than it was asked: 250-mx'
        )


def test_authorities_that_can_not_be_read(tmp_path: Path) -> None:
    nonsense = tmp_path / 'nonsense.pem'
    nonsense.write_text('x')
    for path, why in (
        (tmp_path / 'none', 'No such file or directory'),
        (nonsense, 'no certificate or crl found'),
    ):
        how = smtp(1, encryption='tls', ca_file=str(path))
        assert send(how, Claim()) == unusable(f'ca_file {path}: {why}')


@pytest.mark.parametrize(
    ('answer', 'said'),
    [
        (None, '535 5.7.8 Authentication credentials invalid'),
        ('535 5.7.8 not wrong horse\x07 either', '535 5.7.8 not … either'),
        ('454 4.7.0 later', '454 4.7.0 later'),
        ('421 bye', '421 bye'),
    ],
)
def test_a_log_in_that_is_refused(
    answer: str | None, said: str, served: Callable[..., Scripted]
) -> None:
    """It is our password that is wrong, not the mail."""
    server = served({'AUTH': answer} if answer else {}, users=USERS)
    claim = Claim()
    how = smtp(server.port, user='bot', password='wrong horse')
    assert send(how, claim) == unusable(f'MX does not log bot in: {said}')
    assert claim.asked == []
    assert server.received == []
    with pytest.raises(MailError) as raised:
        Mailer(how).check()
    assert raised.value.__cause__ is None
    assert 'wrong horse' not in f'{raised.value} {how}'


def test_no_way_to_log_in(served: Callable[..., Scripted]) -> None:
    for script in ({'EHLO': '250 mx'}, {'EHLO': '250-mx\r\n250 AUTH GSSAPI'}):
        server = served(script)
        assert send(smtp(server.port, user='bot', password='x'), Claim()) == unusable(
            'MX offers no way to log in that is known here (PLAIN, LOGIN, CRAM-MD5)'
        )


def test_no_password_goes_unencrypted_beyond_this_machine(
    served: Callable[..., Scripted], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = served(users=USERS)
    how = smtp(server.port, user='bot', password='right horse')
    assert send(how, Claim()) == Accepted()
    monkeypatch.setattr(bot.smtp, 'loopback', lambda _: False)
    server.said.clear()
    assert send(how, Claim()) == unusable(
        'MX: the password would go unencrypted: set encryption = "tls" or "ssl"'
    )
    assert server.said == ['EHLO example.org']


@pytest.mark.parametrize(
    ('address', 'is_here'),
    [
        ('127.0.0.1', True), ('127.9.9.9', True), ('::1', True), ('::ffff:127.0.0.1', True),
        ('10.0.0.1', False), ('192.0.2.1', False), ('::', False), ('::ffff:192.0.2.1', False),
        ('fe80::1%eth0', False), ('', False), ('localhost', False),
    ],
)  # fmt: skip
def test_loopback(address: str, is_here: bool) -> None:
    assert loopback(address) is is_here


# --- without a server -----------------------------------------------------------


def test_no_server() -> None:
    claim = Claim()
    closed = send(smtp(free_port()), claim)
    assert isinstance(closed, TryLater)
    assert closed.reason.endswith('can not be reached: Connection refused')
    assert send(Smtp(), claim) == unusable(
        "no mail server: set host in [smtp], or git's sendemail.smtpserver"
    )
    nowhere = send(Smtp(host='a..b'), claim)
    assert isinstance(nowhere, TryLater)
    assert nowhere.reason.startswith('a..b:25 can not be reached: ')
    assert claim.asked == []
    with pytest.raises(MailError, match='can not be reached: Connection refused'):
        Mailer(smtp(free_port())).check()


def test_check_sends_nothing(served: Callable[..., Scripted]) -> None:
    server = served()
    Mailer(smtp(server.port)).check()
    assert server.said == ['EHLO [127.0.0.1]']
    Mailer(smtp(server.port, hello='relay.example.org')).check()
    assert server.said[1:] == ['EHLO relay.example.org']
