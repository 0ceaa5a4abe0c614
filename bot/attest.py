"""
Who signed a mail: DKIM (by the sender's domain) and patatt (by a developer's key).

Answers pass, fail, or not checked. What our side lacks (a name server that
answers, a key) is *not checked*, never a failure. Both libraries are those
that b4 uses.
"""

import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import dkim
import dns.exception
import dns.resolver
import patatt

from bot.model import NO_KEY, Attestation, Mail

SIGNATURE = re.compile(rb'^x-developer-signature:[^;]*;(?:[^;]*;)*?\s*a=([\w-]+)', re.I | re.M)
Look = Callable[[str, float], bytes | None]
"""(name, seconds) to its TXT record, None where there is none; raises `NoAnswerError`."""


class NoAnswerError(Exception):
    """The name servers did not answer."""


class Attester:
    """
    Checks signatures; names are looked up once.

    `seconds` bounds all look-ups together; behind it nothing more is checked.
    `keyrings` are folders of keys in patatt's layout.
    """

    def __init__(self, seconds: float, keyrings: Sequence[Path] = (), look: Look | None = None):
        self._deadline = time.monotonic() + seconds
        self._keyrings = [str(path) for path in keyrings]
        self._look = look or _resolve
        self._known: dict[str, bytes | None] = {}
        self._silent = self._keyless = False

    def check(self, mail: Mail) -> tuple[Attestation, ...]:
        """Return what the signatures of a mail say; nothing where it has none."""
        return (*self._dkim(mail), *self._patatt(mail))

    def _dkim(self, mail: Mail) -> list[Attestation]:
        try:
            signed = dkim.DKIM(mail.raw)
        except dkim.DKIMException:
            return []  # what it can't read as a mail has no signature that counts
        found = []
        names = [name.lower() for name, _ in signed.headers]
        for index in range(min(names.count(b'dkim-signature'), 4)):
            self._silent = self._keyless = False
            try:
                good = signed.verify(index, dnsfunc=self._txt)
                reason = ''
            except dkim.DKIMException as error:
                good, reason = False, str(error)
            domain = (signed.domain or b'').decode('ascii', 'replace')
            if self._silent:
                found.append(Attestation('dkim', domain, 'not-checked', 'no answer from DNS'))
            elif self._keyless:
                # Keys are rotated: an old mail's may be gone, and says nothing.
                found.append(Attestation('dkim', domain, 'not-checked', NO_KEY))
            elif good:
                found.append(Attestation('dkim', domain, 'pass'))
            else:
                found.append(Attestation('dkim', domain, 'fail', reason))
        return found

    def _patatt(self, mail: Mail) -> list[Attestation]:
        signatures = SIGNATURE.findall(mail.raw[: 1 << 16])
        if not signatures:
            return []
        if any(not algorithm.startswith(b'ed25519') for algorithm in signatures):
            # Others run gpg or ssh-keygen on a stranger's bytes.
            return [Attestation('patatt', 'openpgp or openssh', 'not-checked', 'no ed25519 key')]
        found = []
        results = patatt.validate_message(mail.raw, self._keyrings)
        for result, identity, _, _, algorithm, errors in results:
            name = f'{algorithm}/{identity}' if algorithm else str(identity)
            if result == patatt.RES_VALID:
                found.append(Attestation('patatt', name, 'pass'))
            elif result == patatt.RES_NOKEY:
                found.append(Attestation('patatt', name, 'not-checked', 'no key at hand'))
            elif result == patatt.RES_BADSIG:
                found.append(Attestation('patatt', name, 'fail', '; '.join(errors[:1])))
            elif result == patatt.RES_ERROR:
                found.append(Attestation('patatt', name, 'not-checked', '; '.join(errors[:1])))
        return found

    def _txt(self, name: bytes | str, timeout: float = 5) -> bytes | None:
        text = name.decode('ascii', 'replace') if isinstance(name, bytes) else name
        if text not in self._known:
            left = self._deadline - time.monotonic()
            if left <= 0:
                self._silent = True
                return None
            try:
                self._known[text] = self._look(text, min(timeout, left))
            except NoAnswerError:
                self._silent = True
                return None
        self._keyless = self._known[text] is None
        return self._known[text]


def _resolve(name: str, seconds: float) -> bytes | None:
    try:
        answer = dns.resolver.resolve(name, 'TXT', lifetime=seconds, raise_on_no_answer=False)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return None
    except (dns.exception.DNSException, OSError) as error:
        raise NoAnswerError(str(error)) from error
    for record in answer.rrset or ():
        return b''.join(record.strings)
    return None
