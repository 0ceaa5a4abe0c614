"""
The system calls that a build may make: a filter (seccomp, classic BPF) of those alone.

Answers: the program that bubblewrap loads before a stranger's code runs. What
is listed here was seen, by strace, in builds and runs of the VMA tests,
memblock's and the kernel's own objects with gcc, clang, ld, lld, make, bash,
perl, python3, tar, flex, bison, gcov and ccache, with ASan, UBSan and LSan, or
does no more than a call that was seen. All else is refused, in two ways: with EPERM where it
was thought about, and with ENOSYS where it was not, or is newer than this
list, so that the C library falls back to what an older kernel has (clone3 is
one of those: a filter cannot see its flags, which are in memory).

A filter sees numbers, never paths or memory. What a call may do to files is
the mounts' to say (`walls.py`).
"""

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from bot.errors import SandboxError

ARCHITECTURES = {'x86_64': (0xC000003E, 0), 'aarch64': (0xC00000B7, 1)}
"""What the kernel calls a machine, and which number of each call in the tables is its own."""


def _table(text: str) -> Mapping[str, tuple[str, str]]:
    """Read calls: `name:x86_64:aarch64`, `-` where a machine has no such call."""
    split = (word.split(':') for word in text.split())
    return {name: (first, second) for name, first, second in split}


ALLOWED = _table(
    """
    access:21:- chdir:80:49 chown:92:- close:3:57 close_range:436:436 copy_file_range:326:285
    dup2:33:- dup3:292:24 dup:32:23 faccessat2:439:439 faccessat:269:48 fallocate:285:47
    fchdir:81:50 fchown:93:55 fchownat:260:54 fdatasync:75:83 fstat:5:80 fstatfs:138:44
    fsync:74:82 ftruncate:77:46 futimesat:261:- getcwd:79:17 getdents64:217:61 getdents:78:-
    lchown:94:- link:86:- linkat:265:37 lseek:8:62 lstat:6:- mkdir:83:- mkdirat:258:34
    newfstatat:262:79 pipe2:293:59 pipe:22:- poll:7:- ppoll:271:73 pread64:17:67 preadv:295:69
    pselect6:270:72 pwrite64:18:68 pwritev:296:70 read:0:63 readlink:89:- readlinkat:267:78
    readv:19:65 rename:82:- renameat2:316:276 renameat:264:38 rmdir:84:- select:23:-
    sendfile:40:71 stat:4:- statfs:137:43 statx:332:291 symlink:88:- symlinkat:266:36
    truncate:76:45 umask:95:166 unlink:87:- unlinkat:263:35 utime:132:- utimensat:280:88
    utimes:235:- write:1:64 writev:20:66
    fgetxattr:193:10 flistxattr:196:13 getxattr:191:8 lgetxattr:192:9 listxattr:194:11
    llistxattr:195:12
    brk:12:214 mmap:9:222 mprotect:10:226 mremap:25:216 msync:26:227 munmap:11:215
    arch_prctl:158:- capget:125:90 execve:59:221 exit:60:93 exit_group:231:94 fork:57:-
    futex:202:98 getcpu:309:168 getegid:108:177 geteuid:107:175 getgid:104:176 getgroups:115:158
    getpgid:121:155 getpgrp:111:- getpid:39:172 getppid:110:173 getpriority:140:141
    getresgid:120:150 getresuid:118:148 getrlimit:97:163 getrusage:98:165 getsid:124:156
    gettid:186:178 getuid:102:174 kill:62:129 membarrier:324:283 prlimit64:302:261
    restart_syscall:219:128 rseq:334:293 sched_get_priority_max:146:125
    sched_get_priority_min:147:126 sched_getaffinity:204:123 sched_getparam:143:121
    sched_getscheduler:145:120 sched_yield:24:124 set_robust_list:273:99 set_tid_address:218:96
    setgid:106:144 setpgid:109:154 setpriority:141:140 setregid:114:143 setresgid:119:149
    setresuid:117:147 setreuid:113:145 setrlimit:160:164 setsid:112:157 setuid:105:146
    tgkill:234:131 times:100:153 tkill:200:130 vfork:58:- wait4:61:260 waitid:247:95
    alarm:37:- clock_getres:229:114 clock_gettime:228:113 clock_nanosleep:230:115 getitimer:36:102
    gettimeofday:96:169 nanosleep:35:101 pause:34:- rt_sigaction:13:134 rt_sigpending:127:136
    rt_sigprocmask:14:135 rt_sigreturn:15:139 rt_sigsuspend:130:133 rt_sigtimedwait:128:137
    setitimer:38:103 sigaltstack:131:132 time:201:- timer_create:222:107 timer_delete:226:111
    timer_getoverrun:225:109 timer_gettime:224:108 timer_settime:223:110
    getrandom:318:278 sysinfo:99:179 uname:63:160
    """
)
"""
Allowed whatever the arguments: files, memory, processes, signals, time.

That includes calls of which the kernel itself refuses what would be more than
the caller has: setresuid() (make and the compilers call it with their own
user), chown(), kill(), prlimit64(), setpriority(). copy_file_range() is cp's,
membarrier() liburcu's, getxattr() ls's.
"""

LIMITED = _table(
    """
    chmod:90:- clone:56:220 creat:85:- fchmod:91:52 fchmodat:268:53 fcntl:72:25 ioctl:16:29
    madvise:28:233 mknod:133:- mknodat:259:33 open:2:- openat:257:56 personality:135:92
    prctl:157:167 ptrace:101:117
    """
)
"""Allowed with some arguments only: `LIMITS`."""

REFUSED = _table(
    """
    add_key:248:217 keyctl:250:219 request_key:249:218
    bpf:321:280 fanotify_init:300:262 fanotify_mark:301:263 inotify_add_watch:254:27
    inotify_init1:294:26 inotify_init:253:- io_cancel:210:3 io_destroy:207:1 io_getevents:208:4
    io_setup:206:0 io_submit:209:2 io_uring_enter:426:426 io_uring_register:427:427
    io_uring_setup:425:425 kcmp:312:272 lookup_dcookie:212:18 perf_event_open:298:241
    pidfd_getfd:438:438 pidfd_send_signal:424:424 process_madvise:440:440 process_mrelease:448:448
    process_vm_readv:310:270 process_vm_writev:311:271 userfaultfd:323:282
    memfd_create:319:279 memfd_secret:447:447 mq_getsetattr:245:185 mq_notify:244:184
    mq_open:240:180 mq_timedreceive:243:183 mq_timedsend:242:182 mq_unlink:241:181 msgctl:71:187
    msgget:68:186 msgrcv:70:188 msgsnd:69:189 semctl:66:191 semget:64:190 semop:65:193
    semtimedop:220:192 shmat:30:196 shmctl:31:195 shmdt:67:197 shmget:29:194
    accept4:288:242 accept:43:202 bind:49:200 connect:42:203 getpeername:52:205 getsockname:51:204
    getsockopt:55:209 listen:50:201 recvfrom:45:207 recvmmsg:299:243 recvmsg:47:212
    sendmmsg:307:269 sendmsg:46:211 sendto:44:206 setsockopt:54:208 shutdown:48:210 socket:41:198
    socketpair:53:199
    chroot:161:51 fsconfig:431:431 fsmount:432:432 fsopen:430:430 fspick:433:433 mount:165:40
    mount_setattr:442:442 move_mount:429:429 name_to_handle_at:303:264 open_by_handle_at:304:265
    open_tree:428:428 pivot_root:155:41 setns:308:268 umount2:166:39 unshare:272:97
    _sysctl:156:- acct:163:89 adjtimex:159:171 capset:126:91 clock_adjtime:305:266
    clock_settime:227:112 delete_module:176:106 finit_module:313:273 init_module:175:105
    ioperm:173:- iopl:172:- kexec_file_load:320:294 kexec_load:246:104 mbind:237:235
    migrate_pages:256:238 modify_ldt:154:- move_pages:279:239 nfsservctl:180:42 quotactl:179:60
    quotactl_fd:443:443 reboot:169:142 seccomp:317:277 set_mempolicy:238:237 setdomainname:171:162
    setfsgid:123:152 setfsuid:122:151 setgroups:116:159 sethostname:170:161 settimeofday:164:170
    swapoff:168:225 swapon:167:224 sync:162:81 syncfs:306:267 sysfs:139:- syslog:103:116
    uselib:134:- ustat:136:- vhangup:153:58
    flock:73:32 fremovexattr:199:16 fsetxattr:190:7 ioprio_set:251:30 lremovexattr:198:15
    lsetxattr:189:6 mincore:27:232 mlock2:325:284 mlock:149:228 mlockall:151:230
    removexattr:197:14 sched_setaffinity:203:122 sched_setattr:314:274 sched_setparam:142:118
    sched_setscheduler:144:119 setxattr:188:5 vmsplice:278:75
    """
)
"""
Refused with EPERM, on purpose.

Keys of the machine (a session keyring is inherited). Other processes' memory
and descriptors. Memory that no process shows (memfd, System V and POSIX
queues, socket buffers). Sockets of any family: no build needs one, and with
them go netlink, vsock, packet, AF_ALG, abstract names and descriptors in
flight. Mounts and namespaces. What is the administrator's. Watching or locking
the machine's own files, which are mounted read only but can still be leased,
locked, watched and paged out (inotify, flock, mincore). Large surfaces of the
kernel: bpf, io_uring, perf, userfaultfd, AIO.
"""


@dataclass(frozen=True)
class _Limit:
    """
    Allow where `argument & mask` is one of `values`; `error` otherwise.

    `when` (argument, bits): it is looked at only where one of the bits is set.
    All of these arguments are 32 bits wide in the kernel, or invalid if wider.
    """

    argument: int
    mask: int
    values: tuple[int, ...]
    error: int
    when: tuple[int, int] | None = None


EPERM, EINVAL, ENOTTY, ENOSYS, EOPNOTSUPP = 1, 22, 25, 38, 95
WHOLE = 0xFFFFFFFF
NAMESPACES = 0x7E020000  # CLONE_NEWNS, …CGROUP, …UTS, …IPC, …USER, …PID, …NET
SET_ID = 0o6000
CREATES = 0o20000100  # O_CREAT, and O_TMPFILE's own bit
KINDS = 0o170000
REGULAR, PIPE = 0o100000, 0o010000

LIMITS = {
    'clone': _Limit(0, NAMESPACES, (0,), EPERM),
    # A file that stays (the shared ccache, a folder that was handed in) is never set-id.
    'chmod': _Limit(1, SET_ID, (0,), EPERM),
    'fchmod': _Limit(1, SET_ID, (0,), EPERM),
    'fchmodat': _Limit(2, SET_ID, (0,), EPERM),
    'creat': _Limit(1, SET_ID, (0,), EPERM),
    'open': _Limit(2, SET_ID, (0,), EPERM, when=(1, CREATES)),
    'openat': _Limit(3, SET_ID, (0,), EPERM, when=(2, CREATES)),
    'mknod': _Limit(1, KINDS | SET_ID, (0, REGULAR, PIPE), EPERM),
    'mknodat': _Limit(2, KINDS | SET_ID, (0, REGULAR, PIPE), EPERM),
    # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_GETLK, F_SETLK, F_SETLKW, F_OFD_*,
    # F_DUPFD_CLOEXEC, F_GETPIPE_SZ: no leases, notices, seals, signals or larger pipes.
    'fcntl': _Limit(1, WHOLE, (0, 1, 2, 3, 4, 5, 6, 7, 36, 37, 38, 1030, 1032), EPERM),
    # TCGETS, TCGETS2, TIOCGPGRP, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX: TIOCSTI and
    # TIOCLINUX put words into a terminal's mouth.
    'ioctl': _Limit(
        1,
        WHOLE,
        (0x5401, 0x802C542A, 0x540F, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451),
        ENOTTY,
    ),
    # NORMAL to DONTNEED, FREE, DONTFORK, DOFORK, HUGEPAGE to DODUMP, WIPEONFORK, KEEPONFORK,
    # POPULATE_*: not PAGEOUT, which is for the machine's libraries too, nor MERGEABLE.
    'madvise': _Limit(2, WHOLE, (0, 1, 2, 3, 4, 8, 10, 11, 14, 15, 16, 17, 18, 19, 22, 23), EINVAL),
    # What is asked for, and ADDR_NO_RANDOMIZE, by which TSan starts itself anew.
    'personality': _Limit(0, WHOLE, (0, 0x0040000, WHOLE), EPERM),
    # PDEATHSIG, DUMPABLE, NAME, CAPBSET_READ, NO_NEW_PRIVS, SET_PTRACER, SET_VMA.
    'prctl': _Limit(0, WHOLE, (1, 2, 3, 4, 15, 16, 23, 38, 39, 0x59616D61, 0x53564D41), EINVAL),
    # LeakSanitizer stops the threads of its own process to read their registers. Others that it
    # could stop are of the same build: there is nobody else in its process namespace.
    # CONT, KILL, GETREGS, ATTACH, DETACH, GETREGSET
    'ptrace': _Limit(0, WHOLE, (7, 8, 12, 16, 17, 0x4204), EPERM),
}

# cp and install go on without access lists where a file system has none.
ERRORS = dict.fromkeys(('setxattr', 'lsetxattr', 'fsetxattr'), EOPNOTSUPP)
"""What is refused by another error than EPERM."""

# Classic BPF.
LOAD, AND, JUMP, EQUAL, AT_LEAST, ANY, RETURN = 0x20, 0x54, 0x05, 0x15, 0x35, 0x45, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000  # the latter with an error number
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data

_Code = list[tuple[int, int, int, int]]


def number(call: str) -> int:
    """
    Return the number of a call on this machine.

    Raises `SandboxError` on a machine whose numbers are not known here, `KeyError` where it has
    no such call.
    """
    _, own = _architecture()
    for table in (ALLOWED, LIMITED, REFUSED):
        if call in table and table[call][own] != '-':
            return int(table[call][own])
    raise KeyError(call)


@cache
def program() -> bytes:
    """
    Return the filter, as bubblewrap's `--seccomp` reads it.

    Raises `SandboxError` on a machine whose numbers are not known.
    """
    architecture, own = _architecture()
    what: dict[int, _Code] = {}
    for name, row in {**ALLOWED, **LIMITED, **REFUSED}.items():
        if row[own] == '-':
            continue
        if name in REFUSED:
            code = _returns(REFUSE | ERRORS.get(name, EPERM))
        else:
            code = _limited(LIMITS[name]) if name in LIMITED else _returns(ALLOW)
        what[int(row[own])] = code
    whole = [
        (LOAD, 0, 0, ARCHITECTURE),
        # i386's numbers on x86_64 mean other calls.
        (EQUAL, 1, 0, architecture),
        *_returns(REFUSE | EPERM),
        (LOAD, 0, 0, NUMBER),
        *_tree(_ranges(what)),
    ]
    return b''.join(struct.pack('<HBBI', *one) for one in whole)


def _architecture() -> tuple[int, int]:
    machine = os.uname().machine
    if machine not in ARCHITECTURES:
        raise SandboxError(
            f'the sandbox knows the system calls of {" and ".join(ARCHITECTURES)}, not those of '
            f'{machine}: --no-sandbox for code that you trust'
        )
    return ARCHITECTURES[machine]


def _returns(value: int) -> _Code:
    return [(RETURN, 0, 0, value)]


def _limited(limit: _Limit) -> _Code:
    code: _Code = []
    if limit.when is not None:
        argument, bits = limit.when
        code += [(LOAD, 0, 0, ARGUMENTS + 8 * argument), (ANY, 1, 0, bits), *_returns(ALLOW)]
    code += [(LOAD, 0, 0, ARGUMENTS + 8 * limit.argument), (AND, 0, 0, limit.mask)]
    count = len(limit.values)
    code += [(EQUAL, count - n, 0, value) for n, value in enumerate(limit.values)]
    return [*code, *_returns(REFUSE | limit.error), *_returns(ALLOW)]


def _ranges(what: Mapping[int, _Code]) -> list[tuple[int, _Code]]:
    """Cut all numbers into ranges that are treated alike: where each begins, and how."""
    unknown = _returns(REFUSE | ENOSYS)
    found: list[tuple[int, _Code]] = [(0, what.get(0, unknown))]
    for start in sorted({n for call in what for n in (call, call + 1)}):
        code = what.get(start, unknown)
        if code != found[-1][1]:
            found.append((start, code))
    return found


def _tree(ranges: list[tuple[int, _Code]]) -> _Code:
    """Look for the range that a number is in by halves: nine comparisons at most."""
    if len(ranges) == 1:
        return ranges[0][1]
    half = len(ranges) // 2
    low, high = _tree(ranges[:half]), _tree(ranges[half:])
    return [(AT_LEAST, 0, 1, ranges[half][0]), (JUMP, 0, 0, len(low)), *low, *high]
