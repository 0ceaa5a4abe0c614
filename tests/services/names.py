"""
A name server on loopback: TXT records over UDP, as they are, or trouble.

It answers in a thread of the test's own process, on a free port.
"""

import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset


class NameServer:
    """
    The names that there are: `records`. `mute` are parts of names that bring no answer,
    `failing` of those that bring SERVFAIL. `asked` is what it was asked for.
    """

    def __init__(self, records: Mapping[str, bytes]) -> None:
        self.records = dict(records)
        self.mute: set[str] = set()
        self.failing: set[str] = set()
        self.asked: list[str] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(('127.0.0.1', 0))
        self.address = f'127.0.0.1:{self._socket.getsockname()[1]}'
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it; returns when its thread has ended."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(10)

    def _serve(self) -> None:
        while True:
            try:
                data, peer = self._socket.recvfrom(4096)
            except OSError:
                return
            if not data:
                return
            with contextlib.suppress(dns.exception.DNSException, OSError):
                answer = self._answer(dns.message.from_wire(data))
                if answer is not None:
                    self._socket.sendto(answer.to_wire(), peer)

    def _answer(self, question: dns.message.Message) -> dns.message.Message | None:
        name = question.question[0].name
        text = name.to_text().lower()
        self.asked.append(text)
        if any(one in text for one in self.mute):
            return None
        answer = dns.message.make_response(question)
        answer.flags |= dns.flags.RA
        if any(one in text for one in self.failing):
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif text not in self.records:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        elif question.question[0].rdtype == dns.rdatatype.TXT:
            value = self.records[text].decode()
            parts = ' '.join(f'"{value[n : n + 200]}"' for n in range(0, len(value), 200))
            answer.answer.append(dns.rrset.from_text(name, 300, 'IN', 'TXT', parts))
        return answer


@contextlib.contextmanager
def serving(records: Mapping[str, bytes]) -> Iterator[NameServer]:
    """Serve names for as long as the context lasts."""
    server = NameServer(records)
    try:
        yield server
    finally:
        server.stop()
