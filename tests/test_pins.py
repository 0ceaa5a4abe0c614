"""What is installed is what was pinned, file by file; and the package says what it is made of."""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import jsonschema
import pytest

ROOT = Path(__file__).parent.parent


def pins(path: Path) -> dict[str, str]:
    """Versions by canonical name."""
    found = re.findall(r'^([\w.-]+)==([^\s\\]+)', path.read_text(), re.M)
    return {re.sub(r'[-_.]+', '-', name).lower(): version for name, version in found}


def hashes(path: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for block in re.split(r'^(?=[\w.-]+==)', path.read_text(), flags=re.M)[1:]:
        found[block.partition('==')[0]] = set(re.findall(r'--hash=sha256:([0-9a-f]{64})', block))
    return found


def test_every_pin_has_its_hashes() -> None:
    ours = {name: ROOT / 'requirements' / f'{name}.txt' for name in ('dev', 'package')}
    pinned = pins(ROOT / 'constraints.txt')
    assert pins(ours['dev']) == pinned, 'make pins'
    assert pins(ours['package']).items() <= pinned.items()
    dev, package = hashes(ours['dev']), hashes(ours['package'])
    assert package.items() <= dev.items()
    assert all(dev.values())
    for path in ours.values():  # no address, no folder: pip's own configuration knows from where
        assert not re.search(r'://|--(index|extra|find|trusted)| @ |^/', path.read_text(), re.M)


def wheel(folder: Path) -> Path:
    """Make a distribution that pip installs."""
    folder.mkdir()
    info = 'tiny-1.0.dist-info'
    files = {
        'tiny.py': b'',
        f'{info}/METADATA': b'Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n',
        f'{info}/WHEEL': b'Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\n'
        b'Tag: py3-none-any\n',
    }
    lines = [
        f'{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(text).digest()).decode()[:-1]},'
        for name, text in files.items()
    ]
    files[f'{info}/RECORD'] = '\n'.join([*lines, f'{info}/RECORD,,', '']).encode()
    path = folder / 'tiny-1.0-py3-none-any.whl'
    with zipfile.ZipFile(path, 'w') as out:
        for name, text in files.items():
            out.writestr(name, text)
    return path


@pytest.mark.slow
def test_a_file_with_another_hash_is_refused(tmp_path: Path) -> None:
    made = wheel(tmp_path / 'house')
    right = hashlib.sha256(made.read_bytes()).hexdigest()

    def install(line: str) -> 'subprocess.CompletedProcess[str]':
        (tmp_path / 'r.txt').write_text(line)
        words = [
            'install', '--require-hashes', '--no-index', '--find-links', str(made.parent),
            '--target', str(tmp_path / 'there'), '-r', str(tmp_path / 'r.txt'),
        ]  # fmt: skip
        env = {'PATH': os.environ['PATH'], 'HOME': str(tmp_path), 'PIP_CONFIG_FILE': os.devnull}
        return subprocess.run(
            [sys.executable, '-m', 'pip', *words],
            env=env, capture_output=True, text=True, check=False,
        )  # fmt: skip

    for line in (f'tiny==1.0 --hash=sha256:{right[::-1]}', 'tiny==1.0'):
        refused = install(line)
        assert refused.returncode != 0
        assert 'hash' in refused.stderr.lower()
        assert not (tmp_path / 'there' / 'tiny.py').exists()
    assert install(f'tiny==1.0 --hash=sha256:{right}').returncode == 0
    assert (tmp_path / 'there' / 'tiny.py').exists()


def test_both_ways_to_install_ask_for_hashes() -> None:
    for name, file in (('Makefile', 'dev'), ('debian/build', 'package')):
        text = (ROOT / name).read_text()
        assert f'--require-hashes -r requirements/{file}.txt' in text
        others = [line for line in text.splitlines() if re.search(r'(PIP\)|install_) --', line)]
        assert all('--require-hashes' in one or '--no-deps' in one for one in others)
        assert len(others) >= 2


def bill() -> dict[str, object]:
    site = sysconfig.get_path('purelib')
    done = subprocess.run(
        [sys.executable, ROOT / 'debian/sbom.py', site, ROOT / 'requirements/dev.txt'],
        capture_output=True, text=True, check=True, env={'SOURCE_DATE_EPOCH': '1800000000'},
    )  # fmt: skip
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_the_bill_of_materials() -> None:
    found = bill()
    assert found == bill()  # the same bytes each time
    parts = {one['name'].lower(): one for one in found['components']}  # type: ignore[attr-defined]
    assert found['metadata']['component']['name'] == 'vma-review-bot'  # type: ignore[index]
    b4 = parts['b4']
    assert b4['purl'] == f'pkg:pypi/b4@{pins(ROOT / "constraints.txt")["b4"]}'
    assert b4['licenses']
    (reference,) = b4['externalReferences']
    assert {one['content'] for one in reference['hashes']} == hashes(ROOT / 'requirements/dev.txt')[
        'b4'
    ]
    refs = {one['bom-ref'] for one in parts.values()}
    needs = {one['ref']: one['dependsOn'] for one in found['dependencies']}  # type: ignore[attr-defined]
    assert set().union(*needs.values()) <= refs
    assert any('pygit2' in one for one in needs[found['metadata']['component']['bom-ref']])  # type: ignore[index]


def test_the_bill_is_cyclonedx() -> None:
    schema = pytest.importorskip('cyclonedx.schema', reason='pip install cyclonedx-python-lib')
    folder = Path(schema.__file__).parent / '_res'
    text = (folder / 'bom-1.6.SNAPSHOT.schema.json').read_text()
    names = ('spdx.SNAPSHOT.schema.json', 'jsf-0.82.SNAPSHOT.schema.json')
    known = {name: json.loads((folder / name).read_text()) for name in names}
    read = json.loads(text)
    from referencing import Registry, Resource

    registry = Registry().with_resources(
        (uri, Resource.from_contents(one))
        for name, one in known.items()
        for uri in (name, one['$id'])
    )
    jsonschema.Draft7Validator(read, registry=registry).validate(bill())
