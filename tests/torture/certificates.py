"""An authority of the tests' own, and certificates as they go wrong: by the real openssl."""

import subprocess
from pathlib import Path
from typing import Literal, get_args

Kind = Literal['good', 'expired', 'wrong host', 'self-signed']
KINDS: tuple[Kind, ...] = get_args(Kind)
BAD: tuple[Kind, ...] = KINDS[1:]
NAME = 'localhost'
SETTINGS = """[ca]
default_ca = here
[here]
database = {folder}/index.txt
serial = {folder}/serial
new_certs_dir = {folder}
default_md = sha256
policy = any
unique_subject = no
copy_extensions = copy
[any]
commonName = supplied
"""
# Not from now on: it is the clock of the machine that jumps.
VALID = ('-startdate', '20000101000000Z', '-enddate', '20600101000000Z')
EXPIRED = ('-startdate', '20000101000000Z', '-enddate', '20010101000000Z')
KEY = ('-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes')


class Authority:
    """Below `folder`; `path` is its own certificate, to be trusted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        (folder / 'settings').write_text(SETTINGS.format(folder=folder))
        (folder / 'index.txt').write_text('')
        (folder / 'serial').write_text('01\n')
        self.path = folder / 'authority.pem'
        (folder / 'extensions').write_text('basicConstraints = critical, CA:TRUE\n')
        key, request = folder / 'authority.key', folder / 'authority.csr'
        _openssl('req', *KEY, '-keyout', key, '-subj', '/CN=the tests', '-out', request)
        _openssl(
            'ca', '-batch', '-notext', '-config', folder / 'settings', '-selfsign', '-keyfile', key,
            '-in', request, '-out', self.path, '-extfile', folder / 'extensions', *VALID,
        )  # fmt: skip
        self.chains = {kind: self._made(kind) for kind in KINDS}
        """A certificate and its key, by kind."""

    def _made(self, kind: Kind) -> tuple[Path, Path]:
        name = kind.replace(' ', '-')
        key, request, made = (self._folder / f'{name}.{end}' for end in ('key', 'csr', 'pem'))
        names = f'subjectAltName=DNS:{"other.example" if kind == "wrong host" else NAME}'
        asked = ('req', *KEY, '-keyout', key, '-subj', f'/CN={NAME}', '-addext', names)
        if kind == 'self-signed':
            _openssl(*asked, '-x509', '-days', '30000', '-out', made)
            return made, key
        _openssl(*asked, '-out', request)
        _openssl(
            'ca', '-batch', '-notext', '-config', self._folder / 'settings', '-cert', self.path,
            '-keyfile', self._folder / 'authority.key', '-in', request, '-out', made,
            *(EXPIRED if kind == 'expired' else VALID),
        )  # fmt: skip
        return made, key


def _openssl(*words: str | Path) -> None:
    subprocess.run(['openssl', *words], check=True, capture_output=True)
