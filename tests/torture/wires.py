"""What mailers do to a mail on its way: encodings, parts, charsets, line ends, subjects. Pure."""

import base64
import quopri
import re
from collections.abc import Callable
from random import Random

KEPT = re.compile(rb'^(?:Content-[\w-]+|MIME-Version):.*\n(?:[ \t].*\n)*', re.M | re.I)
NUMBER = re.compile(rb'\[PATCH( v\d+)? (\d+)/(\d+)\]')


def parted(raw: bytes) -> tuple[bytes, bytes]:
    """Part header and body."""
    head, _, body = raw.partition(b'\n\n')
    return head + b'\n', body


def plain(raw: bytes) -> bool:
    """Whether a mail has one part, as it is."""
    head = parted(raw)[0].lower()
    return b'multipart/' not in head and b'quoted-printable' not in head and b'base64' not in head


def headed(raw: bytes, kind: bytes, encoding: bytes, body: bytes) -> bytes:
    """Return a mail with another body."""
    head = KEPT.sub(b'', parted(raw)[0])
    return (
        head + b'MIME-Version: 1.0\nContent-Type: ' + kind
        + b'\nContent-Transfer-Encoding: ' + encoding + b'\n\n' + body
    )  # fmt: skip


UTF8 = b'text/plain; charset=UTF-8'


def quoted_printable(raw: bytes) -> bytes:
    """Write the body as quoted-printable."""
    return headed(raw, UTF8, b'quoted-printable', quopri.encodestring(parted(raw)[1]))


def in_base64(raw: bytes) -> bytes:
    """Write the body as base64."""
    return headed(raw, UTF8, b'base64', base64.encodebytes(parted(raw)[1]))


def crlf_base64(raw: bytes) -> bytes:
    """Write the body as base64, its lines ended as in mails."""
    body = parted(raw)[1].replace(b'\n', b'\r\n')
    return headed(raw, UTF8, b'base64', base64.encodebytes(body))


def crlf(raw: bytes) -> bytes:
    """End every line as in mails."""
    return raw.replace(b'\n', b'\r\n')


def flowed(raw: bytes) -> bytes:
    """Write format=flowed, as a mailer that does it right."""
    body = re.sub(rb'(?m)^(?=[ >]|From )', b' ', parted(raw)[1])
    return headed(raw, UTF8 + b'; format=flowed', b'8bit', body)


def latin1(raw: bytes) -> bytes:
    """Write the body in Latin-1, where that has its characters."""
    head, body = parted(raw)
    try:
        said = body.decode().encode('latin-1')
    except UnicodeError:
        return raw
    return headed(head + b'\n', b'text/plain; charset=iso-8859-1', b'8bit', said)


def latin1_qp(raw: bytes) -> bytes:
    """Write the body in Latin-1 as quoted-printable."""
    said = latin1(raw)
    if said == raw:
        return raw
    body = quopri.encodestring(parted(said)[1])
    return headed(raw, b'text/plain; charset=iso-8859-1', b'quoted-printable', body)


def utf16(raw: bytes) -> bytes:
    """Write the body in UTF-16."""
    try:
        said = parted(raw)[1].decode().encode('utf-16')
    except UnicodeError:
        return raw
    return headed(raw, b'text/plain; charset=utf-16', b'base64', base64.encodebytes(said))


def attached(raw: bytes) -> bytes:
    """Send the message as text and the patch as a file of octets."""
    body = parted(raw)[1]
    message, found, diff = body.partition(b'\n---\n')
    if not found:
        return raw
    parts = (
        b'--=-b\nContent-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit\n\n'
        + message + b'\n---\n'
        + b'--=-b\nContent-Type: application/octet-stream; name="0001.patch"\n'
        b'Content-Disposition: attachment; filename="0001.patch"\n'
        b'Content-Transfer-Encoding: base64\n\n' + base64.encodebytes(diff) + b'--=-b--\n'
    )  # fmt: skip
    return headed(raw, b'multipart/mixed; boundary="=-b"', b'8bit', parts)


def footer(raw: bytes) -> bytes:
    """Add what a list adds."""
    return raw.rstrip(b'\n') + b'\n_______________\nlist mailing list\nlist@example.org\n'


def inbody(raw: bytes) -> bytes:
    """Say in the body who wrote it."""
    head, body = parted(raw)
    if re.match(rb'(?:From|Subject):', body):
        return raw
    return head + b'\nFrom: Bea Other <bea@example.org>\n\n' + body


def scissors(raw: bytes) -> bytes:
    """Talk first, and cut."""
    head, body = parted(raw)
    return head + b'\nHello,\n\nas promised.\n\n-- >8 --\n' + body


def blank_context(raw: bytes) -> bytes:
    """Cut blanks at the ends of lines, as some mailers do."""
    head, body = parted(raw)
    return head + b'\n' + re.sub(rb'(?m)^ $', b'', body)


SUBJECTS: tuple[tuple[str, bytes], ...] = (
    ('patchwork', rb'[\1,\2/\3]'), ('comma', rb'[PATCH\1,\2/\3]'), ('glued', rb'[PATCH\1 \2/\3 ]'),
    ('words', rb'[PATCH\1 \2 of \3]'), ('bare', rb'PATCH\1 \2/\3:'), ('rfc', rb'[RFC\1 \2/\3]'),
    ('resend', rb'[RESEND,PATCH\1 \2/\3]'), ('blanks', rb'[PATCH\1   \2/\3]'),
    ('tree', rb'[mm-unstable,PATCH\1,\2/\3]'),
)  # fmt: skip


def subjects(choose: Random) -> tuple[str, Callable[[bytes], bytes]]:
    """Return another way to write `[PATCH 1/2]`."""
    name, form = choose.choice(SUBJECTS)

    def written(raw: bytes) -> bytes:
        def said(found: re.Match[bytes]) -> bytes:
            version = (found[1] or b'').strip() if name == 'patchwork' else found[1] or b''
            if name == 'patchwork' and not version:
                return found[0]
            return form.replace(rb'\1', version).replace(rb'\2', found[2]).replace(rb'\3', found[3])

        head, body = parted(raw)
        return NUMBER.sub(said, head, count=1) + b'\n' + body

    return f'subject-{name}', written


WIRES: dict[str, Callable[[bytes], bytes]] = {
    'quoted-printable': quoted_printable, 'base64': in_base64, 'base64-crlf': crlf_base64,
    'crlf': crlf, 'flowed': flowed, 'latin1': latin1, 'latin1-qp': latin1_qp, 'utf16': utf16,
    'octets': attached, 'footer': footer, 'in-body': inbody, 'scissors': scissors,
    'blank-context': blank_context,
}  # fmt: skip
