"""
SMTP: one mail to one server, and what became of it.

Answers what every end of a dialogue means (`Delivery`); leaves to others which mails
go, when they are tried again, and what is kept of them.

The dialogue is our own, over smtplib's parts, so that it is always known how
far it got. Until the server has answered 354 nothing can have gone: whatever
fails there is `TryLater` or `Refused`. Then `claim()` is called, which makes
known that the mail may be on its way; if it says no, the connection is closed
and nothing goes. The bytes go out, and at last, by themselves, the dot that
ends them: a connection lost before the dot is still `TryLater`, since no
server takes half a mail. Only from the dot to the answer is it `Unsure`; for
that answer the server gets ten times as long as for any other, as RFC 5321
asks, because giving up early is what makes mails come twice. After the answer
nothing else is waited for, not even that to QUIT: until the caller has written
down the outcome, every moment counts.

What fails before MAIL (no connection, a bad certificate, a wrong password) is
never this mail's fault: it is `TryLater(unusable=True)`, so that no mail is
given up for a wrong setting. The same goes for 421 and for "log in first".

EHLO names the sender's domain, never this machine.
"""

import contextlib
import quopri
import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from bot.errors import MailError
from bot.outgoing import Accepted, Delivery, Refused, Smtp, TryLater, Unsure
from bot.password import password
from bot.plain import one_line
from bot.smtp import Connection, LostError, answered, reason_of

ADDRESS = re.compile(r'[^\s<>"(),:;\\@\x00-\x1f\x7f]+@[^\s<>"(),;\\@\x00-\x1f\x7f]+')
EIGHT = re.compile(rb'^(Content-Transfer-Encoding:[ \t]*)8bit[ \t]*$', re.M | re.I)
LONGEST = 998
"""Bytes of a line of a mail, as RFC 5322 says."""
CHUNK = 1 << 16
LOG_IN_FIRST = (530, 534, 535, 538)


class Mailer:
    """
    Sends mails by the server of `smtp`; each over a connection of its own.

    `clock` is monotonic, in seconds; time-outs are counted by it.
    """

    def __init__(self, smtp: Smtp, clock: Callable[[], float] = time.monotonic) -> None:
        self._smtp = smtp
        self._clock = clock

    def check(self) -> None:
        """Connect, log in, and leave without sending. Raises MailError."""
        with _opened(self._smtp, self._smtp.envelope, self._clock):
            pass

    def send(
        self, sender: str, recipients: Sequence[str], raw: bytes, claim: Callable[[], bool]
    ) -> Delivery:
        """
        Hand over a mail (`raw`, with line feeds) for `recipients`, all of the envelope.

        `claim` is called once at most, just before the mail's own bytes go out;
        what it raises comes through, and nothing has gone then.
        """
        reason = unfit(raw) if recipients else 'nobody to send it to'
        if reason is not None:
            return Refused(reason)
        sender = self._smtp.envelope or sender
        with contextlib.ExitStack() as stack:
            try:
                connection = stack.enter_context(_opened(self._smtp, sender, self._clock))
            except MailError as error:
                return TryLater(str(error), unusable=True)
            text = _crlf(raw if connection.has_extn('8bitmime') else quoted(raw))
            try:
                refused = _envelope(connection, sender, recipients, text)
            except LostError as lost:
                connection.close()
                return TryLater(f'{connection.where} {lost}')
            if isinstance(refused, TryLater | Refused):
                return refused
            if not claim():
                connection.close()
                return TryLater('no longer wanted')
            return _content(connection, _dotted(text), refused)


def unfit(raw: bytes, head: int = 0) -> str | None:
    """
    Say why SMTP can't carry a mail as it is; None where it can.

    `head` lines are not counted in what it says, for one who sees the body alone.
    """
    of = 'it' if head else 'the mail'
    for n, line in enumerate(raw.replace(b'\r\n', b'\n').split(b'\n'), 1 - head):
        if b'\r' in line or b'\0' in line:
            return f'line {n} of {of} has a carriage return or a NUL: encode its body'
        if len(line) > LONGEST:
            return f'line {n} of {of} has more than {LONGEST} bytes: encode its body'
    return None


def quoted(raw: bytes) -> bytes:
    """
    Return a mail with its body in quoted-printable, for a server without 8BITMIME.

    As it is where its body is ASCII, or is not one text that is sent as 8bit.
    """
    head, gap, body = raw.partition(b'\n\n')
    if body.isascii() or not EIGHT.search(head):
        return raw
    head = EIGHT.sub(rb'\1quoted-printable', head)
    return head + gap + quopri.encodestring(body)


def _crlf(raw: bytes) -> bytes:
    lines = raw.replace(b'\r\n', b'\n').removesuffix(b'\n')
    return lines.replace(b'\n', b'\r\n') + b'\r\n'


def _dotted(text: bytes) -> bytes:
    return re.sub(rb'(?m)^\.', b'..', text)


# --- the dialogue ---------------------------------------------------------------


@contextlib.contextmanager
def _opened(smtp: Smtp, sender: str, clock: Callable[[], float]) -> Iterator[Connection]:
    """Connect, encrypt and log in; whatever fails is a MailError."""
    if not smtp.host:
        raise MailError("no mail server: set host in [smtp], or git's sendemail.smtpserver")
    secret = password(smtp) if smtp.user else ''
    context = None if smtp.encryption == 'none' else _context(smtp.ca_file)
    connection = Connection(smtp, smtp.hello or _hello(sender), clock)
    try:
        try:
            connection.open(context)
            if smtp.user:
                connection.log_in(secret)
        except LostError as lost:
            raise MailError(f'{connection.where} {lost}') from lost
        yield connection
        connection.leave()
    finally:
        connection.close()


def _context(authorities: str) -> ssl.SSLContext:
    try:
        if authorities and Path(authorities).is_dir():
            return ssl.create_default_context(capath=authorities)
        return ssl.create_default_context(cafile=authorities or None)
    except OSError as error:  # ssl's errors are some of these
        raise MailError(f'ca_file {authorities}: {reason_of(error)}') from error


def _hello(sender: str) -> str:
    found = re.fullmatch(r'.*@([A-Za-z0-9.-]+)', sender, re.S)
    return found[1] if found else '[127.0.0.1]'


def _address(text: str) -> bool:
    return ADDRESS.fullmatch(text) is not None and len(text) <= 254 and one_line(text, 300) == text


def _envelope(
    connection: Connection, sender: str, recipients: Sequence[str], text: bytes
) -> Mapping[str, str] | TryLater | Refused:
    """
    Say all up to DATA; the refused recipients and why, once the server waits for the mail.

    Raises LostError.
    """
    parameters = _parameters(connection, sender, recipients, text)
    if not isinstance(parameters, str):
        return parameters
    code, words = connection.docmd('MAIL', f'FROM:<{sender}>{parameters}')
    if code // 100 != 2:
        return _outcome(connection, code, words, 'MAIL')
    refused: dict[str, str] = {}
    later = False
    for recipient in dict.fromkeys(recipients):
        if not _address(recipient):
            refused[recipient] = 'not an address that mail can go to'
        elif not recipient.isascii() and not connection.has_extn('smtputf8'):
            refused[recipient] = 'the server takes no addresses beyond ASCII (SMTPUTF8)'
        else:
            code, words = connection.docmd('RCPT', f'TO:<{recipient}>')
            if code in (421, *LOG_IN_FIRST):
                return _outcome(connection, code, words, 'RCPT')
            if code // 100 != 2:
                refused[recipient] = answered(code, words)
                # 552 once meant too many recipients: RFC 5321, 4.5.3.1.10.
                later = later or code // 100 != 5 or code == 552
    if len(refused) == len(dict.fromkeys(recipients)):
        named = '; '.join(f'{address}: {why}' for address, why in refused.items())
        reason = one_line(f'{connection.where} takes none of the recipients: {named}', 500)
        return TryLater(reason) if later else Refused(reason, refused)
    code, words = connection.docmd('DATA')
    return refused if code == 354 else _outcome(connection, code, words, 'DATA')


def _parameters(
    connection: Connection, sender: str, recipients: Sequence[str], text: bytes
) -> str | TryLater | Refused:
    if not _address(sender):
        return TryLater(f'{one_line(sender)!r} is no address to send from', unusable=True)
    eight = not text.isascii()
    international = not text.partition(b'\r\n\r\n')[0].isascii()
    if not sender.isascii() and not connection.has_extn('smtputf8'):
        return TryLater(f'{connection.where} sends from ASCII addresses alone', unusable=True)
    if international and not connection.has_extn('smtputf8'):
        return Refused(f'{connection.where} takes ASCII headers alone: encode them')
    if eight and not connection.has_extn('8bitmime'):
        return Refused(f'{connection.where} takes ASCII mails alone: encode the body')
    largest = connection.esmtp_features.get('size', '').strip()
    if re.fullmatch(r'[0-9]{1,18}', largest) and 0 < int(largest) < len(text):
        return Refused(f'the mail has {len(text)} bytes, and {connection.where} takes {largest}')
    international |= not all(address.isascii() for address in (sender, *recipients))
    return ''.join(
        [
            f' SIZE={len(text)}' if connection.has_extn('size') else '',
            ' BODY=8BITMIME' if eight else '',
            ' SMTPUTF8' if international and connection.has_extn('smtputf8') else '',
        ]
    )


def _content(connection: Connection, wire: bytes, refused: Mapping[str, str]) -> Delivery:
    """Send the mail itself, after 354; what became of it."""
    connection.extend()
    lost: LostError | None = None
    early: tuple[int, bytes] | None = None
    try:
        for start in range(0, len(wire), CHUNK):
            connection.send(wire[start : start + CHUNK])
    except LostError as error:
        lost = error
    try:
        early = connection.early()
    except LostError as error:
        lost = lost or error
    if lost is not None or early is not None:
        connection.close()
    if early is not None:
        code, text = early
        if code // 100 == 2:
            return Unsure(
                f'{connection.where} answers before the mail ends: {answered(code, text)}'
            )
        return _outcome(connection, code, text, 'the mail')
    if lost is not None:
        return TryLater(f'{connection.where} {lost}, before the mail was whole')
    connection.extend(answer=True)
    try:
        connection.send(b'.\r\n')
        code, text = connection.getreply()
    except LostError as error:
        return Unsure(f'{connection.where} {error}, after the mail was whole')
    if code // 100 == 2:
        return Accepted(refused)
    if code // 100 == 3:
        return Unsure(f'{connection.where} answers {answered(code, text)} to the mail')
    return _outcome(connection, code, text, 'the mail')


def _outcome(connection: Connection, code: int, text: bytes, what: str) -> TryLater | Refused:
    reason = f'{connection.where} answers {answered(code, text)} to {what}'
    if code == 421 or code in LOG_IN_FIRST:
        return TryLater(reason, unusable=True)
    return Refused(reason) if code // 100 == 5 else TryLater(reason)
