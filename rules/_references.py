"""
What takes a reference, what gives it back, and what does neither, by name.

A name alone proves nothing (many a foo_get() only looks): whoever asks has
found the call where work for one mapping is done.
"""

import re

# Kernel functions that do nothing but take a reference or count up.
TAKES = re.compile(
    r'kref_get(?:_unless_zero)?|refcount_(?:inc|add)(?:_not_zero)?'
    r'|atomic(?:64|_long)?_(?:inc|add)(?:_return|_not_zero|_unless_negative)?'
    r'|percpu_ref_(?:try)?get(?:_live)?|get_device|get_file|get_page|folio_get|kobject_get'
    r'|ihold|igrab|dget|mntget|path_get|try_module_get|__module_get|pm_runtime_get(?:_\w+)?'
    r'|pm_runtime_resume_and_get|get_dma_buf|drm_gem_object_get|drm_dev_get|mmget|mmgrab'
    r'|sock_hold|dev_hold|get_task_struct|get_pid|of_node_get|fwnode_handle_get|kernfs_get'
)
# Their result does not matter, and calling them once more does no harm.
HARMLESS = re.compile(
    r'[A-Z_0-9]+|\w*(?:WARN|BUG)_?\w*|(?:pr|dev|netdev|trace|drm|vma|mmap|vm|mm)_\w+|\w*(?:dbg|debug)'
    r'|\w*(?:printk|lock|unlock)|\w*lock(?:ed)?_\w+|lockdep_\w+|\w*_?(?:down|up)_(?:read|write)\w*'
    r'|mem(?:set|cpy|move)|might_\w+|cond_resched|smp_\w+|barrier|wake_up\w*|flush_\w+|cancel_\w+'
    r'|(?:__)?(?:set|clear|change|assign)_bit|(?:atomic\w*|refcount|kref)_(?:set|read|init)'
    r'|file_accessed|touch_atime|generic_\w+|INIT_\w+|init_\w+|complete|schedule|kv?free\w*'
    r'|\w+_(?:end|exit|fini)|(?:\w+_)?(?:set|clear|mark|update|sync|check|assert|touch)_\w+'
)
# What undoes what, word by word.
OPPOSITES = {
    'get': ('put',), 'inc': ('dec',), 'add': ('del', 'drop', 'remove', 'sub'),
    'grab': ('drop', 'put'), 'open': ('close', 'release', 'drop'), 'acquire': ('release',),
    'ref': ('unref', 'put'), 'reference': ('unreference',), 'pin': ('unpin',),
    'attach': ('detach',), 'map': ('unmap',), 'register': ('unregister',),
    'enable': ('disable',), 'start': ('stop',), 'begin': ('end',), 'hold': ('release', 'put'),
    'link': ('unlink',), 'use': ('unuse', 'release'), 'insert': ('remove',),
    'create': ('destroy',), 'alloc': ('free',), 'reserve': ('unreserve', 'release'),
}  # fmt: skip
IRREGULAR = {
    'get_file': 'fput', 'ihold': 'iput', 'igrab': 'iput', 'dget': 'dput', 'mntget': 'mntput',
    'mmget': 'mmput', 'mmgrab': 'mmdrop', 'get_dma_buf': 'dma_buf_put', 'sock_hold': 'sock_put',
    'dev_hold': 'dev_put',
}  # fmt: skip


def undoes(one: str, other: str) -> bool:
    """Return whether `one` is by its name the counterpart of `other`: foo_put() of foo_get()."""
    if IRREGULAR.get(other) == one:
        return True
    beginning = other.lstrip('_').removeprefix('try_').split('_')
    ending = one.lstrip('_').split('_')
    for at, (word, first) in enumerate(zip(ending, beginning, strict=False)):
        if word == first:
            continue
        if word not in OPPOSITES.get(first, ()):
            return False
        mine, its = ending[at + 1 :], beginning[at + 1 :]
        return mine[: len(its)] == its or TAKES.fullmatch(other) is not None
    return False
