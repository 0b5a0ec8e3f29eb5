"""What batches took stays with the process that fills a lake."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_FAULTS = """
import resource, sys
if "keep" in sys.argv:
    from m365watch.lake.writer.batch_delivery import keep_freed_memory
    keep_freed_memory()

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def take_and_free():
    blocks = [b"x" * (20 << 20) for _ in range(3)]

take_and_free()
before = faults()
for _ in range(4):
    take_and_free()
print((faults() - before) // 4)
"""


def faults_of_a_round(*arguments: str) -> int:
    """The pages that the system had to give a process for blocks of which it had freed the like before."""
    command = [sys.executable, "-c", _FAULTS, *arguments]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have their own ways")
def test_the_memory_of_one_batch_is_that_of_the_next() -> None:
    """Three blocks as large as a batch, freed and taken again, come from the system once."""
    assert faults_of_a_round("keep") < faults_of_a_round() / 10
