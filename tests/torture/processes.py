"""
The bot's processes for the campaign of machines, which are never killed, and their mail server.

They have a clock of their own, which may be set (`clock.c`), and trust an authority of the tests'.
"""

import ssl
import struct
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.mailserver import Scripted
from tests.torture.campaign import Stage
from tests.torture.certificates import NAME
from tests.torture.stream import LIST

BOT = 'vma-bot@bot.example'
EMBARGO = 4
"""Seconds that people go first, by the true clock."""


def clock_library(folder: Path) -> Path:
    """Compile what gives a program another clock; needs `cc`."""
    library = folder / 'clock.so'
    source = Path(__file__).parent / 'clock.c'
    subprocess.run(['cc', '-shared', '-fPIC', '-O1', '-o', library, source], check=True)
    return library


class Server(Scripted):
    """A mail server that keeps when a mail came, and whether unencrypted."""

    def __init__(self, *, tls: ssl.SSLContext) -> None:
        super().__init__(tls=tls)
        self.at: list[float] = []
        self.clear = 0

    async def handle_DATA(self, server: Any, session: object, envelope: Any) -> str:  # noqa: N802  # aiosmtpd's name
        self.at.append(time.time())
        self.clear += getattr(session, 'ssl', None) is None
        return await super().handle_DATA(server, session, envelope)


class Processes(Stage):
    """The bot's, which live as long as the campaign does, by a clock of their own."""

    def __init__(self, config: Path, folder: Path, *, authority: Path, workers: int) -> None:
        super().__init__(config, folder)
        self._authority = authority
        self.names = {'watch': 'watch', 'send': 'send'}
        self.names |= {f'work{n}': 'work' for n in range(workers)}
        self.stopped: list[str] = []
        self._clock = folder / 'clock'
        self._clock.write_bytes(bytes(8))
        self._library = clock_library(folder)

    def environment(self) -> dict[str, str]:
        return {
            **super().environment(),
            'XDG_STATE_HOME': str(self.folder),
            'REQUESTS_CA_BUNDLE': str(self._authority),
            'SSL_CERT_FILE': str(self._authority),
            'TORTURE_CLOCK': str(self._clock),
            'LD_PRELOAD': str(self._library),
        }

    def set_clock(self, ahead: int) -> None:
        """Set the clock of all of them to so many seconds after the true time."""
        with self._clock.open('r+b') as file:
            file.write(struct.pack('q', ahead))

    def begin(self) -> None:
        """Start them, the watcher first: nothing posted before that is answered."""
        for name, command in self.names.items():
            self.start(name, command)
            while b': started, version' not in self.log(name):
                assert self.running[name].poll() is None, self.log(name).decode()
                time.sleep(0.05)  # waiting for another process, not for time to pass

    def look(self) -> None:
        """Count who has ended, and start it again as a service manager would."""
        for name, process in list(self.running.items()):
            if process.poll() is not None:
                last = self.log(name).decode(errors='replace').strip().split('\n')[-1]
                self.stopped.append(f'{name} ended with {process.returncode}: {last}')
                self.start(name, self.names[name])

    def end(self) -> None:
        """Ask all to end."""
        for process in self.running.values():
            process.terminate()
        for name, process in list(self.running.items()):
            try:
                code = process.wait(60)
            except Exception:  # noqa: BLE001  # whatever it is, it must not outlive us
                process.kill()
                code = process.wait()
            if code:
                self.stopped.append(f'{name} ended with {code} when it was asked to')
        self.running.clear()

    def logs(self) -> bytes:
        return b''.join(self.log(name) for name in self.names)


def configured(
    folder: Path, url: str, archive: str, tree: Path, port: int, authority: Path
) -> Path:
    config = folder / 'config.toml'
    secure = archive.replace('http://127.0.0.1', f'https://{NAME}')
    config.write_text(
        f'[lore]\nurl = "{secure}"\npoll = "0.5s"\ntimeout = "20s"\nsettle = "1h"\n'
        f'[[tree]]\nname = "demo"\npath = "{tree}"\n[attestation]\ncheck = false\n'
        f'[state]\nurl = "{url}"\ncache = "{folder / "cache"}"\nkeep = "30d"\n'
        f'[mail]\nfrom = "{BOT}"\nlists = ["{LIST}"]\nmode = "send"\ngrace = "10s"\n'
        f'embargo = "{EMBARGO}s"\nper_list = 1000000\nper_author = 1000000\n'
        f'[smtp]\nhost = "{NAME}"\nport = {port}\nencryption = "tls"\nca_file = "{authority}"\n'
        'timeout = "10s"\n'
    )
    return config
