"""Headers of any content are read, and never an error."""

from hypothesis import given
from hypothesis import strategies as st

from bot import headers
from bot.envelope import envelope
from bot.model import Author
from bot.orders import orders_of
from bot.series import parse_mail

PIECES = st.sampled_from(
    [
        b'=?utf-8?q?=0A?=', b'=?utf-8?b?!!?=', b'=?x-unknown?q?=FF?=', b'<', b'>', b'@', b'"', b',',
        b'(', b')', b';', b':', b'\n ', b'\r\n\t', b'\r', b'\0', b'\xff\xfe', b'\xc3\xa4',
        b'a@b.ex',
        b'<a@b.ex>', b'=?', b'?=', b'[', b']', b'\\', b'Re:', b'1', b'Fri,', b'=', b'undisclosed:;',
    ]
)  # fmt: skip
VALUES = st.lists(st.one_of(PIECES, st.binary(max_size=6)), max_size=12).map(b''.join)
NAMES = (b'From', b'To', b'Cc', b'Subject', b'Date', b'Message-ID', b'In-Reply-To', b'References',
         b'Auto-Submitted', b'Precedence', b'Return-Path', b'X-Original-From',
         b'Content-Type', b'Content-Transfer-Encoding', b'MIME-Version')  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=8), VALUES)
def test_no_mail_is_an_error(heads: list[tuple[bytes, bytes]], body: bytes) -> None:
    raw = b''.join(b'%s: %s\n' % head for head in heads) + b'\nvma-bot: stop\n' + body
    mail = parse_mail(raw)
    assert '\n' not in mail.subject + mail.author.name + mail.date
    read = envelope(mail)
    for one in (*read.to, *read.cc):
        assert '\n' not in one.name + one.email
    orders_of(mail)


def test_a_line_end_in_an_encoded_name() -> None:
    mail = parse_mail(b'From: =?utf-8?q?A=0ABcc=3A_all=40x?= <a@example.org>\n\n')
    assert mail.author == Author('A Bcc: all@x', 'a@example.org')


def test_an_encoded_name_hides_no_address() -> None:
    read = headers.header_only(b'To: =?utf-8?q?a=40x.ex=2C_b?= <c@y.ex>, =?utf-8?q?d=40z.ex?=\n\n')
    assert headers.people(read, 'To') == (Author('a@x.ex, b', 'c@y.ex'),)


def test_latin_1_in_a_header() -> None:
    read = headers.header_only(
        b'From: J\xf6rg <j@example.org>\nTo: K\xc3\xb6ln <k@example.org>\n\n'
    )
    assert headers.author(read) == Author('J\ufffdrg', 'j@example.org')
    assert headers.people(read, 'To') == (Author('Köln', 'k@example.org'),)
