"""The mails that the project began from, on a real kernel."""

import re
from pathlib import Path

import pytest

from bot.series import split
from tests.conftest import Bot
from tests.services.publicinbox import MISSING, serving

CORPUS = Path(__file__).parent.parent.parent.parent / 'shared' / 'corpus'
MSGID = '24aac3019dd34740e788d169fccbe3c62781e648.1774045440.git.ljs@kernel.org'


@pytest.mark.skipif(not CORPUS.exists(), reason='no corpus beside the project')
@pytest.mark.skipif(bool(MISSING), reason='public-inbox is not installed')
def test_the_seed_series_is_found_and_its_bases_are_named(
    bot: Bot, kernel: Path, tmp_path: Path
) -> None:
    mails = [
        raw
        for name in ('seed-v4.mbox', 'seed-v4-replies.mbox')
        for raw in split((CORPUS / name).read_bytes())
    ]
    config = tmp_path / 'config.toml'
    with serving(tmp_path / 'archive', mails) as served:
        config.write_text(
            f'[lore]\nurl = "{served.url}"\n[attestation]\ncheck = false\n'
            f'[[tree]]\nname = "first"\npath = "{kernel}"\n'
            f'[[tree]]\nname = "second"\npath = "{kernel}"\nrefs = ["HEAD", "nosuch"]\n'
        )
        result = bot('check', '--config', config, MSGID)
    said = ' '.join(result.out.split())
    assert result.code == 3
    assert '(v4, 21 patches, Lorenzo Stoakes (Oracle))' in said
    acked = re.findall(r'\+ Acked-by: [^(]*(?:\([A-Z]+\) )?<[^>]*> \(patch ([^)]*)\)', said)
    numbers = [n.split('-') for one in acked for n in one.split(', ')]
    assert any(int(first) <= 17 <= int(last) for first, *_, last in ([*n, n[-1]] for n in numbers))
    assert re.search(r'could not check: patch 1: hunk at line \d+ of the mail does not apply to '
                     r'include/linux/fs.h at line \d+', said)  # fmt: skip
