"""Free memory from made-up system files."""

import os
import subprocess
import sys

from recbole_hellm.costs.free_memory import available_bytes, resident_bytes


def system(root, files):
    for path, text in {"proc/meminfo": "MemTotal: 100 kB\nMemAvailable:   50 kB\n", **files}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


def test_free_memory_without_control_groups(tmp_path):
    assert available_bytes(system(tmp_path, {})) == 50 * 1024
    assert available_bytes(tmp_path / "nothing") is None


def test_free_memory_under_version_2_counts_the_groups_above(tmp_path):
    files = {
        "proc/self/cgroup": "0::/a/b\n",
        "sys/fs/cgroup/a/b/memory.max": "max\n",
        "sys/fs/cgroup/a/b/memory.current": "10000\n",
        "sys/fs/cgroup/a/memory.max": "40000\n",
        "sys/fs/cgroup/a/memory.current": "30000\n",
        "sys/fs/cgroup/a/memory.stat": "anon 20000\ninactive_file 4000\nactive_file 6000\n",
    }
    assert available_bytes(system(tmp_path, files)) == 14_000


def test_free_memory_in_a_container_whose_group_lies_outside_of_what_it_sees(tmp_path):
    files = {
        "proc/self/cgroup": "0::/docker/123\n",
        "sys/fs/cgroup/memory.max": "20000\n",
        "sys/fs/cgroup/memory.current": "5000\n",
    }
    assert available_bytes(system(tmp_path, files)) == 15_000


def test_free_memory_under_version_1(tmp_path):
    group = "sys/fs/cgroup/memory/x/memory."
    files = {
        "proc/self/cgroup": "9:name=systemd:/\n4:memory:/x\n0::/\n",
        group + "limit_in_bytes": "30000\n",
        group + "usage_in_bytes": "29000\n",
        group + "stat": "total_inactive_file 500\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "1\n",
    }
    assert available_bytes(system(tmp_path, files)) == 1500


def test_this_system_tells_both():
    assert 1 << 20 < resident_bytes() < 1 << 40
    assert (available_bytes() or 0) > 1 << 20


FREES_BLOCKS = """
from recbole_hellm.costs.free_memory import resident_bytes
from recbole_hellm.results import give_back_memory

give_back_memory()
before, kept = resident_bytes(), []
for _ in range(200):  # blocks that the C library keeps, with one in use behind each
    kept.append((bytearray(b"x") * (1 << 20), bytearray(b"x") * 4096))
held = resident_bytes()
kept = [(None, small) for _, small in kept]
freed = resident_bytes()
give_back_memory()
print(held - before, held - freed, held - resident_bytes())
"""


def test_freed_blocks_go_back_to_the_system():
    """In a process of its own: what else has run in this one leaves holes that the blocks would fill."""
    keeps = {"MALLOC_MMAP_THRESHOLD_": "33554432", "MALLOC_TRIM_THRESHOLD_": "1073741824"}  # as after long work
    child = subprocess.run(
        [sys.executable, "-c", FREES_BLOCKS], env={**os.environ, **keeps}, capture_output=True, text=True, check=True
    )
    held, freed_alone, given_back = (int(count) for count in child.stdout.split())
    assert held > 190 << 20
    assert freed_alone < 10 << 20, "without the call the C library keeps them"
    assert given_back > 190 << 20
