"""
Who signed a mail: DKIM (by the sender's domain) and patatt (by a developer's key).

Two questions. `check()`, for reports: what does each signature say? Pass, fail,
or not checked; what our side lacks (a name server that answers, a key) is *not
checked*, never a failure. `own()`, for what follows from a mail: does the
author's own domain vouch for it? What is malformed is unsigned; where the name
servers do not answer, the answer is pending, and to be asked for again.

Both libraries are those that b4 uses. A stranger wrote what they read, and they
raise whatever their parts do: each signature has a guard of its own.
"""

import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import dkim
import dns.exception
import dns.nameserver
import dns.resolver
import patatt

from bot.model import NO_KEY, Attestation, Mail
from bot.signatures import LONGEST_SIGNATURE, MOST_SIGNATURES, Worth, can_be_looked_up, claims

SIGNATURE = re.compile(rb'^x-developer-signature:[^;]*;(?:[^;]*;)*?\s*a=([\w-]+)', re.I | re.M)
Look = Callable[[str, float], bytes | None]
"""(name, seconds) to its TXT record, None where there is none; raises `NoAnswerError`."""


OWN_SECONDS = 5.0
"""For the key of one signature of the author's own domain; nobody else's uses it up."""
MOST_OWN = 4
"""Signatures of the author's own domain that are checked; further ones do not count."""
MOST_OTHERS = 4
KNOWN_FOR = 3600.0
"""Seconds that what the name servers said is remembered, found or not."""
SILENT_FOR = 60.0
"""Seconds that a name which brought no answer is not asked for again."""
MOST_KNOWN = 2000
LONGEST_KEY = 1500
"""Bytes of a key's record: 8192 bits of RSA. What is longer is there to eat time."""
SILENT = 'no answer from DNS'
BAD = 'its DKIM signature does not fit'
LONGEST_REASON = 200


class NoAnswerError(Exception):
    """The name servers did not answer."""


class Attester:
    """
    Checks signatures; what name servers say is remembered for a while.

    `seconds` bounds the look-ups for signatures of other domains than the
    author's, one mail at a time. `keyrings` are folders of keys in patatt's
    layout, `servers` the name servers to ask (`address` or `address:port`),
    the machine's own where there are none.
    """

    def __init__(
        self,
        seconds: float,
        keyrings: Sequence[Path] = (),
        look: Look | None = None,
        servers: Sequence[str] = (),
    ):
        self._seconds = seconds
        self._keyrings = [str(path) for path in keyrings]
        self._look = look or resolving(servers)
        self._known: dict[str, tuple[float, bytes | None]] = {}
        self._unanswered: dict[str, float] = {}

    def check(self, mail: Mail) -> tuple[Attestation, ...]:
        """Return what the signatures of a mail say; nothing where it has none."""
        return (*self._dkim(mail), *self._patatt(mail))

    def own(self, mail: Mail) -> Worth:
        """Return what the author's own domain says of a mail. Raises nothing."""
        try:
            found = claims(mail)
        except Exception as error:  # noqa: BLE001  # a stranger's header; what can't be read is unsigned
            return Worth('unsigned', f'its header can not be read: {error}'[:LONGEST_REASON])
        worth = Worth('unsigned', found.why)
        for one in found.signatures[:MOST_OWN]:
            result, reason = self._verified(mail.raw, one.index, _Asking(OWN_SECONDS))
            if result == 'pass':
                return Worth('pass', '', one.covers)
            if reason == SILENT:
                worth = Worth('pending', SILENT)
            elif worth.standing != 'pending':
                worth = _worth(result, reason)
        return worth

    def _dkim(self, mail: Mail) -> list[Attestation]:
        try:
            names = [name.lower() for name, _ in dkim.DKIM(mail.raw).headers]
        except Exception:  # noqa: BLE001
            return []  # what it can't read as a mail has no signature that counts
        try:
            mine = [one.index for one in claims(mail).signatures[:MOST_OWN]]
        except Exception:  # noqa: BLE001  # a stranger's header; then none of them is the author's
            mine = []
        others = [
            index
            for index in range(min(names.count(b'dkim-signature'), MOST_SIGNATURES))
            if index not in mine
        ]
        rest = _Asking(self._seconds)
        found = []
        for index in (*mine, *others[:MOST_OTHERS]):
            asking = _Asking(OWN_SECONDS) if index in mine else rest
            result, reason = self._verified(mail.raw, index, asking)
            found.append(Attestation('dkim', asking.domain, result, reason))
        return found

    def _verified(
        self, raw: bytes, index: int, asking: '_Asking'
    ) -> tuple[Literal['pass', 'fail', 'not-checked'], str]:
        """Check one signature: pass, fail, or not checked, and why."""
        asking.silent = asking.keyless = False
        asking.domain = ''

        def txt(name: bytes | str, timeout: float = OWN_SECONDS) -> bytes | None:
            del timeout
            return self._txt(name, asking)

        try:
            signed = dkim.DKIM(raw)
            values = [one for name, one in signed.headers if name.lower() == b'dkim-signature']
            if len(values[index]) > LONGEST_SIGNATURE:
                return 'fail', 'it is too long'
            prepared = signed.verify_headerprep(index)
            asking.domain = (signed.domain or b'').decode('ascii', 'replace')
            good = bool(prepared) and signed.verify(index, dnsfunc=txt)
            reason = ''
        except Exception as error:  # noqa: BLE001  # a stranger's signature, and three libraries
            good, reason = False, f'{error}'[:LONGEST_REASON] or type(error).__name__
        if asking.silent:
            return 'not-checked', SILENT
        if asking.keyless:
            # Keys are rotated: an old mail's may be gone, and says nothing.
            return 'not-checked', NO_KEY
        return ('pass', '') if good else ('fail', reason)

    def _patatt(self, mail: Mail) -> list[Attestation]:
        signatures = SIGNATURE.findall(mail.raw[: 1 << 16])
        if not signatures:
            return []
        if any(not algorithm.startswith(b'ed25519') for algorithm in signatures):
            # Others run gpg or ssh-keygen on a stranger's bytes.
            return [Attestation('patatt', 'openpgp or openssh', 'not-checked', 'no ed25519 key')]
        try:
            results = patatt.validate_message(mail.raw, self._keyrings)
        except Exception as error:  # noqa: BLE001  # a stranger's signature, and git's reading of it
            reason = f'it can not be read: {error}'[:LONGEST_REASON]
            return [Attestation('patatt', 'ed25519', 'not-checked', reason)]
        found = []
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

    def _txt(self, name: bytes | str, asking: '_Asking') -> bytes | None:
        text = name.decode('ascii', 'replace') if isinstance(name, bytes) else name
        text = text.lower()
        if not can_be_looked_up(text):
            asking.keyless = True  # no name server has such a name, now or later
            return None
        now = time.monotonic()
        known = self._known.get(text)
        if known is None or now - known[0] > KNOWN_FOR:
            left = asking.until - now
            if left <= 0 or now - self._unanswered.get(text, now - SILENT_FOR) < SILENT_FOR:
                asking.silent = True
                return None
            try:
                known = (now, self._look(text, left))
            except NoAnswerError:
                self._forget()
                self._unanswered[text] = now
                asking.silent = True
                return None
            self._forget()
            self._known[text] = known
        asking.keyless = known[1] is None
        return known[1]

    def _forget(self) -> None:
        for table in (self._known, self._unanswered):
            while len(table) >= MOST_KNOWN:
                del table[next(iter(table))]


class _Asking:
    """One budget of time for look-ups, and what became of the last of them."""

    def __init__(self, seconds: float) -> None:
        self.until = time.monotonic() + seconds
        self.silent = self.keyless = False
        self.domain = ''


def _worth(result: str, reason: str) -> Worth:
    if result == 'fail':
        said = reason.partition(' (')[0]
        return Worth('fail', f'{BAD}: {said}' if said else BAD)
    return Worth('unsigned', f'its DKIM signature has {reason}')


def resolving(servers: Sequence[str]) -> Look:
    """
    Return what asks name servers, those of the machine where none are given.

    A name that can not be asked for has no record; only what may be otherwise
    tomorrow is no answer.
    """

    def look(name: str, seconds: float) -> bytes | None:
        if not can_be_looked_up(name):
            return None
        try:
            resolver = dns.resolver.Resolver(configure=not servers)
            if servers:
                resolver.nameservers = [_server(one) for one in servers]
            answer = resolver.resolve(name, 'TXT', lifetime=seconds, raise_on_no_answer=False)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer, dns.resolver.YXDOMAIN):
            return None
        except (dns.exception.DNSException, OSError, ValueError) as error:
            raise NoAnswerError(str(error)) from error
        for record in answer.rrset or ():
            key = b''.join(record.strings)
            return key if len(key) <= LONGEST_KEY else None
        return None

    return look


def _server(text: str) -> dns.nameserver.Nameserver:
    address, colon, port = text.rpartition(':')
    if colon and port.isdigit() and (':' not in address or address.startswith('[')):
        return dns.nameserver.Do53Nameserver(address.strip('[]'), int(port))
    return dns.nameserver.Do53Nameserver(text.strip('[]'))
