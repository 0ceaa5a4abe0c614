"""
Control groups, over a folder that stands in for the kernel's.

What the kernel does with the limits is not shown here: that takes a machine
with control groups v2 and a delegated group.
"""

import os
from pathlib import Path

import pytest

from bot.cgroup import ControlGroup, delegated
from bot.model import Limits

LIMITS = Limits(memory=64 << 20, processes=20)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A hierarchy with a service whose processes sit in a subgroup, and its /proc file."""
    service = tmp_path / 'system.slice' / 'bot.service'
    (service / 'main').mkdir(parents=True)
    (service / 'cgroup.subtree_control').write_text('cpu memory pids\n')
    (service / 'main' / 'cgroup.subtree_control').write_text('\n')
    (tmp_path / 'own').write_text('0::/system.slice/bot.service/main\n')
    return tmp_path


def test_the_delegated_parent_is_found(root: Path) -> None:
    service = root / 'system.slice' / 'bot.service'
    if os.geteuid() == 0:
        assert delegated(root, root / 'own') is None
        try:
            os.setxattr(service, 'user.delegate', b'1')
        except OSError:
            pytest.skip('no extended attributes on this file system')
    assert delegated(root, root / 'own') == service


def test_what_a_service_was_given_is_handed_on(root: Path) -> None:
    service = root / 'system.slice' / 'bot.service'
    (service / 'cgroup.subtree_control').write_text('\n')
    (service / 'cgroup.controllers').write_text('cpu memory pids\n')
    if os.geteuid() == 0:
        assert delegated(root, root / 'own') is None
        assert (service / 'cgroup.subtree_control').read_text() == '\n'
        try:
            os.setxattr(service, 'user.delegate', b'1')
        except OSError:
            pytest.skip('no extended attributes on this file system')
    assert delegated(root, root / 'own') == service
    assert (service / 'cgroup.subtree_control').read_text() == '+memory +pids'


def test_version_1_has_none(root: Path) -> None:
    (root / 'own').write_text('12:memory:/x\n1:name=systemd:/x\n')
    assert delegated(root, root / 'own') is None
    assert delegated(root, root / 'nothing') is None


def test_no_controllers_no_group(root: Path) -> None:
    (root / 'system.slice' / 'bot.service' / 'cgroup.subtree_control').write_text('cpu\n')
    assert delegated(root, root / 'own') is None


def test_limits_are_written_and_what_was_hit_is_read(tmp_path: Path) -> None:
    group = ControlGroup(tmp_path, LIMITS)
    assert (group.path / 'memory.max').read_text() == str(64 << 20)
    assert (group.path / 'pids.max').read_text() == '20'
    group.take([7])
    assert (group.path / 'cgroup.procs').read_text() == '7'
    (group.path / 'memory.events').write_text('low 0\noom 1\noom_kill 2\n')
    assert group.close() == '64 MB of memory'
    other = ControlGroup(tmp_path, LIMITS)
    (other.path / 'memory.events').write_text('oom_kill 0\n')
    (other.path / 'pids.events').write_text('max 3\n')
    assert other.close() == '20 processes'
    outside = ControlGroup(tmp_path, LIMITS)
    (outside.path / 'memory.events').write_text('oom 0\noom_kill 1\n')
    assert outside.close() is None  # the machine ran out, not this group
    calm = ControlGroup(tmp_path, LIMITS)
    assert calm.close() is None


def test_a_group_that_can_not_be_limited_is_none(tmp_path: Path) -> None:
    with pytest.raises(OSError, match='nothing'):
        ControlGroup(tmp_path / 'nothing', LIMITS)
