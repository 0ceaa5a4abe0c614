"""Mails that broke something once, and their kin: what a stranger may send to a list."""

from tests.lettering import DIFF, Post

DATE = 'Fri, 20 Mar 2026 09:46:40 +0000'
BODY = 'Because.\n\nSigned-off-by: A Developer <dev@example.org>\n---\n' + DIFF.format(
    path='mm/vma.c', what='poison'
)


def mail(
    name: str,
    subject: str = '[PATCH] mm: poison',
    author: str = 'A Developer <poison@example.org>',
    body: str = BODY,
    more: str = '',
    msgid: str | None = None,
) -> Post:
    """A mail whose header is put together byte by byte."""
    msgid = f'{name}.poison@x' if msgid is None else msgid
    head = f'From: {author}\nDate: {DATE}\nMessage-ID: <{msgid}>\n{more}Subject: {subject}\n\n'
    return Post(msgid, (head + body).encode('utf-8', 'surrogateescape'))


def nested(depth: int, kind: str = 'multipart/mixed') -> tuple[str, str]:
    """A header's line, and a body of parts in parts."""
    if kind.startswith('message'):
        return f'Content-Type: {kind}\n', f'Content-Type: {kind}\n\n' * depth + BODY
    parts = ''.join(f'--b{n}\nContent-Type: {kind}; boundary="b{n + 1}"\n\n' for n in range(depth))
    return f'Content-Type: {kind}; boundary="b0"\n', parts + BODY


PATCH_TO = '<poison-root@x>'
ORDER = 'vma-bot: stop\n'
ED25519 = (
    'DKIM-Signature: v=1; a=ed25519-sha256; d=example.org; s=one; c=relaxed/relaxed;\n'
    ' h=from:subject:date; bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; b=AAAA\n'
)
PATATT = 'X-Developer-Signature: v=1; a=ed25519-sha256; t=1; i=\udcff\udcfe@example.org; b=AAAA\n'


def poisons() -> dict[str, Post]:
    """Mails by what is wrong with them."""
    found = {
        'revision': mail('revision', '[PATCH v99999999999999999999] mm: x'),
        'revision of 31 bits': mail('r31', '[PATCH v3000000000] mm: x'),
        'revision of 5000 digits': mail('r5000', f'[PATCH v{"9" * 5000}] mm: x'),
        'counters': mail('counters', '[PATCH 99999999999/99999999999999999999] mm: x'),
        'other digits': mail('digits', '[PATCH v٣ ٢/٣] mm: x'),
        'utf-7': mail('utf7', '[PATCH] mm: =?utf-7?Q?+2AA-?='),
        'utf-7 first': mail('utf7-first', '=?utf-7?Q?+2AA-?= [PATCH] mm: x'),
        'unicode_escape': mail('escape', author='=?unicode_escape?Q?=5Cud800?= <poison@x.org>'),
        'idna': mail('idna', '[PATCH] mm: =?idna?Q?a?='),
        'punycode': mail('punycode', '[PATCH] mm: =?punycode?Q?=FF?='),
        'undefined': mail('undefined', '[PATCH] mm: =?undefined?Q?a?='),
        'charset with NUL': mail('nul-charset', '[PATCH] mm: =?a\0b?Q?a?='),
        'NUL': mail('nul', '[PATCH] mm: a\0b', 'A\0B <poison\0@example.org>'),
        'surrogates': mail('surrogates', '[PATCH] mm: \udcff\udcfe', 'A \udcff <a\udcfe@x.org>'),
        'decoded twice': mail('twice', '[PATCH] mm: =?utf-8?Q?=3D=3Fidna=3FQ=3Fa=3F=3D?='),
        'comments': mail('comments', author='(' * 1200 + ' poison@example.org'),
        'groups': mail('groups', author='a:' * 3000 + ' poison@example.org'),
        'brackets': mail('brackets', '[PATCH] =? ' + '<@' * 16000),
        'words': mail('words', '[PATCH] mm: ' + '=?a?q?' * 9000),
        'charset of a part': mail('part', more='Content-Type: text/plain; charset="a\0b"\n'),
        'encoding of a part': mail('uu', more='Content-Transfer-Encoding: x-uuencode\n'),
        'in the body': mail(
            'inbody', body='From: =?utf-7?Q?+2AA-?= <x@y.org>\nSubject: =?idna?Q?a?=\n\n' + BODY
        ),
        'headers in the body': mail('inbodies', body='From: A <a@b.org>\n' * 50_000 + BODY),
        'trailers': mail('trailers', body='x: y\n' * 100_000 + BODY),
        'date': mail('date', more='Date: Fri, 99 Foo 99999999999999999999 99:99:99 +9999\n'),
        'long message-id': mail('id', msgid='é' * 900 + '@x'),
        'long address': mail('address', author=f'A <{"a" * 5000}@example.org>'),
        'parents': mail('parents', more='References: ' + f'<{"é" * 400}@x> ' * 60 + '\n'),
        'prerequisite': mail('needs', body=f'{BODY}\nDepends-on: <{"a" * 100_000}@x>\n'),
        'prerequisite of NUL': mail('needs0', body=f'{BODY}\nDepends-on: <a\0\udcff@x>\n'),
        'change-id': mail('change', body=f'Because.\n\nchange-id: {"x" * 199}\udcff\n' + BODY),
        'path': mail('path', body=BODY.replace('mm/vma.c', 'mm/vma\0\udcff.c')),
        'ed25519': mail('ed25519', 'Re: [PATCH] mm: x', body=ORDER, more=ED25519),
        'patatt': mail('patatt', 'Re: [PATCH] mm: x', body=ORDER, more=PATATT),
    }
    for kind in ('multipart/mixed', 'multipart/digest', 'message/rfc822'):
        more, body = nested(3000, kind)
        found[f'nested {kind}'] = mail(kind.replace('/', '-'), more=more, body=body)
    # What these take grew with the square, or the cube, of their length.
    found |= {
        'trailer': mail('trailer', body=f'Because.\n\nFixes: {"f" * 5000} ("x")\n{BODY}'),
        'trailer of words': mail('trailer2', body=f'Because.\n\nA: {"x " * 100_000}\n{BODY}'),
        'number': mail('number', body=f'{BODY}\n1.{"1" * 1_000_000}!\n'),
        'parameters': mail('params', more=f'Content-Type: multipart/mixed; a="{";" * 500_000}\n'),
        'subject': mail('subject', f'[PATCH] mm: {"x" * 1_100_000}'),
        'paths': mail('paths', body=BODY + '+++ b/x\n' * 500_000),
        'prerequisites': mail(
            'many', body=BODY + ''.join(f'Depends-on: <{n}@x>\n' for n in range(100_000))
        ),
    }
    parts = '--b\n\nx\n' * 30_000
    found['parts'] = mail(
        'parts', more='Content-Type: multipart/mixed; boundary="b"\n', body=parts + BODY
    )
    found['header'] = mail('header', more='Cc: a@b.org\n' * 100_000)
    return found


UNREADABLE = (
    'revision', 'revision of 31 bits', 'revision of 5000 digits', 'nested multipart/mixed',
    'nested multipart/digest', 'nested message/rfc822', 'parts', 'header', 'long message-id',
    'parameters', 'subject',
)  # fmt: skip
"""Those that nobody can have meant: they are passed over. The others are read as far as they go."""
