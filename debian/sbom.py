"""
Says what a Debian package is made of, as CycloneDX 1.6: SITE-PACKAGES REQUIREMENTS.

A component for each distribution that is installed there: name, version, licence, package URL,
the hashes that pip was told to accept of it, and what it depends on. The same packages give the
same bytes. Standard library alone: it runs with the Python that the package is for.
"""

import hashlib
import json
import os
import re
import sys
import uuid
from datetime import UTC, datetime
from importlib.metadata import Distribution, distributions
from pathlib import Path

PROJECT = 'vma-review-bot'


def canonical(name: str) -> str:
    """Return a distribution's name as package URLs have it."""
    return re.sub(r'[-_.]+', '-', name).lower()


def hashes(requirements: Path) -> dict[str, list[str]]:
    """Read the SHA-256 sums that are accepted, by distribution."""
    found: dict[str, list[str]] = {}
    name = ''
    for line in requirements.read_text().splitlines():
        if pinned := re.match(r'([\w.-]+)==', line):
            name = canonical(pinned[1])
        found.setdefault(name, []).extend(re.findall(r'--hash=sha256:([0-9a-f]{64})', line))
    return found


def licence(one: Distribution) -> list[dict[str, object]]:
    """Return the licence as the distribution states it; nothing where it states none."""
    said = one.metadata
    if expression := said.get('License-Expression'):
        return [{'expression': expression}]
    names = [
        value.rpartition(' :: ')[2]
        for value in said.get_all('Classifier') or ()
        if value.startswith('License :: ') and value != 'License :: OSI Approved'
    ]
    text = (said.get('License') or '').strip()
    if not names and text and text != 'UNKNOWN':
        names = [text.splitlines()[0][:200]]
    return [{'license': {'name': name}} for name in names]


def component(one: Distribution, accepted: list[str]) -> dict[str, object]:
    """Describe a distribution."""
    name = canonical(one.name)
    url = f'pkg:pypi/{name}@{one.version}'
    found: dict[str, object] = {
        'type': 'application' if name == PROJECT else 'library',
        'bom-ref': url, 'name': one.name, 'version': one.version, 'purl': url,
    }  # fmt: skip
    if licences := licence(one):
        found['licenses'] = licences
    if accepted:
        # Of all files of this version, for whichever machine: one of them is what is installed.
        found['externalReferences'] = [
            {
                'type': 'distribution', 'url': url,
                'hashes': [{'alg': 'SHA-256', 'content': each} for each in accepted],
            }
        ]  # fmt: skip
    return found


def bill(site: Path, requirements: Path, now: int) -> dict[str, object]:
    """Return the bill of materials of what is installed in a folder; `now`: seconds since 1970."""
    known = {canonical(one.name): one for one in distributions(path=[str(site)])}
    accepted = hashes(requirements)
    parts = {name: component(known[name], accepted.get(name, [])) for name in sorted(known)}
    project = parts.pop(PROJECT)
    refs = {name: f'pkg:pypi/{name}@{one.version}' for name, one in known.items()}
    needs = []
    for name in sorted(known):
        named = (re.match(r'[\w.-]+', one) for one in known[name].requires or ())
        on = {canonical(one[0]) for one in named if one} & set(known) - {name}
        needs.append({'ref': refs[name], 'dependsOn': sorted(refs[one] for one in on)})
    digest = hashlib.sha256(json.dumps([parts, needs], sort_keys=True).encode()).digest()
    return {
        'bomFormat': 'CycloneDX',
        'specVersion': '1.6',
        'serialNumber': f'urn:uuid:{uuid.UUID(bytes=digest[:16], version=4)}',
        'version': 1,
        'metadata': {
            'timestamp': datetime.fromtimestamp(now, UTC).isoformat(),
            'component': project,
        },
        'components': list(parts.values()),
        'dependencies': needs,
    }


if __name__ == '__main__':
    when = int(os.environ.get('SOURCE_DATE_EPOCH', '0'))
    print(json.dumps(bill(Path(sys.argv[1]), Path(sys.argv[2]), when), indent=1))
