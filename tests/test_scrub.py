"""What is taken out of a build's output: names of the machine's folders, devices and servers."""

from pathlib import Path

import pytest

from bot.harness import scrub
from bot.harness.scrub import scrubbed, scrubber
from bot.walls import Bind

MOUNTS = r"""
21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/mapper/host--vg-root rw,discard
22 21 0:40 /bot /var/lib/my\040bot rw - nfs4 files.example.org:/export rw,vers=4.2,addr=192.0.2.7
23 21 0:41 / /merged rw - overlay overlay rw,lowerdir=/store/a1/diff:/store/b2/diff,upperdir=/store/up
24 21 0:5 / /dev rw - devtmpfs devtmpfs rw,size=1k,mode=755
torn
"""  # noqa: E501


def test_names_of_the_machine_are_taken_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / 'mounts').write_text(MOUNTS)
    monkeypatch.setattr(scrub, 'MOUNTS', tmp_path / 'mounts')
    names = scrubber([Bind(Path('/var/lib/my bot/cache/ccache'), '/ccache')])
    shown = {
        'mm/vma.c:3:1: error: x': 'mm/vma.c:3:1: error: x',
        '/usr/include/x.h /dev/null /ccache overlay': '/usr/include/x.h /dev/null /ccache overlay',
        '88 1 254:0 /usr /usr ro - ext4 /dev/mapper/host--vg-root rw':
        '88 1 254:0 /usr /usr ro - ext4 [hidden] rw',
        r'/bot/cache/ccache /ccache /var/lib/my\040bot/cache/ccache':
        '[hidden] /ccache [hidden]',
        'file:/var/lib/my bot/cache/ccache/ab/1': 'file:[hidden]/ab/1',
        'files.example.org:/export addr=192.0.2.7': '[hidden] addr=[hidden]',
        'lowerdir=/store/a1/diff:/store/b2/diff,upperdir=/store/up':
        'lowerdir=[hidden]:[hidden],upperdir=[hidden]',
    }  # fmt: skip
    assert {text: scrubbed(text, names) for text in shown} == shown


def test_without_mounts_the_folder_is_taken_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrub, 'MOUNTS', tmp_path / 'none')
    assert scrubbed('x /srv/c y', scrubber([Bind(Path('/srv/c'), '/ccache')])) == 'x [hidden] y'
    assert scrubbed('x /srv/c y', scrubber([])) == 'x /srv/c y'
