"""
Addresses as they may be shown: without the passwords in them. Pure.

Whoever shows an address, or what a library says of one, shows what comes back
from here; errors (`errors.py`), logs (`events.py`) and `bot doctor` do so for
all that they say, whoever said it.
"""

import re
from urllib.parse import unquote, urlsplit

# What is before the host. It ends with the authority: a later @ is a message-id's, say.
USER = re.compile(r'://[^\s/?#]*@')
NAMED = re.compile(
    r"""([?&;][\w.-]*(?:token|passw|secret|key|auth|signature)[\w.-]*=)[^\s&;#'"]*""", re.I
)
DSN = re.compile(r"""(\b(?:ssl)?pass(?:word|wd)\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s&;'"]+)""", re.I)

HOST = re.compile(r'(?:\[[^\]@]*\]|[^:\[\]@]*)(?::\d*)?')


def shown(text: str) -> str:
    """Return a text, an address itself or one with addresses in it, without their passwords."""
    if '://' in text:
        text = USER.sub('://…@', text)
    if '=' in text:
        text = DSN.sub(r'\1…', NAMED.sub(r'\1…', text))
    return text


def host_of(url: str) -> str:
    """Return host and port of an address, for errors."""
    return urlsplit(url).netloc.rpartition('@')[2]


def bare(url: str) -> tuple[str, tuple[str, str] | None]:
    """Part an address from user and password, in clear, where it has them."""
    found = urlsplit(url)
    before, at, host = found.netloc.rpartition('@')
    user, _, password = before.partition(':')
    without = found._replace(netloc=host).geturl()
    return without, (unquote(user), unquote(password)) if at else None


def is_clear(url: str) -> bool:
    """
    Whether everybody reads the same out of an address: where its password ends, and its host.

    Not where a password has a `/`, `?`, `#`, `@` or a space that is not
    percent-encoded: each library would find another host, and name that in errors.
    """
    authority, *rest = re.split(r'[/?#]', url.partition('://')[2], maxsplit=1)
    before, at, hosts = authority.rpartition('@')
    if re.search(r'\s', authority) or (at and '@' in before):
        return False
    if at and '@' in ''.join(rest):
        return False  # the host may be behind that, and what is before it the password
    return all(HOST.fullmatch(one) for one in hosts.split(','))
