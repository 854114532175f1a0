"""A slower disk for whoever is measured: a library that makes each sync of a program 2 ms longer, as on a cloud volume.

Knows the calls that make data last, and how the library is built with the system's compiler. Does not know who loads it
(by LD_PRELOAD), so that all peers are slowed alike.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from benchmarks.peers import program

MILLISECONDS = 2.0

# The wait comes after the real sync, in the thread that asked for it, which is where a slow disk keeps it.
SOURCE = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int waited(long result)
{
    int trouble = errno;
    struct timespec left = {0, WAIT_NANOSECONDS};
    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        ;
    errno = trouble;
    return (int)result;
}

int fsync(int descriptor) { return waited(syscall(SYS_fsync, descriptor)); }
int fdatasync(int descriptor) { return waited(syscall(SYS_fdatasync, descriptor)); }
int syncfs(int descriptor) { return waited(syscall(SYS_syncfs, descriptor)); }
"""


def slow_sync_library(folder: Path, milliseconds: float = MILLISECONDS) -> Path:
    """Builds the library in ``folder``, which whoever loads it must be able to read; less than a second each. Raises
    NotHere without a compiler."""
    compiler = program("cc", "gcc")
    library = folder / "slow_sync.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O2", f"-DWAIT_NANOSECONDS={round(milliseconds * 1e6)}L", "-x", "c", "-", "-o",
         str(library)],
        input=SOURCE, text=True, check=True,
    )  # fmt: skip
    library.chmod(0o755)
    return library
