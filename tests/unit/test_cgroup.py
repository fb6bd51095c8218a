from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlpipe.measure.cgroup import memory_left, processor_quota
from mlpipe.measure.host import cpu_model, host_facts, processors, versions

MIB = 2**20
V2_MOUNT = "31 23 0:28 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
V1_MOUNTS = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 {root} /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 {root} /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd"""


class FakeRoot:
    """A file system that holds only what a test writes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, name: str, text: object) -> None:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")

    def v2(self, own: str = "/user/job") -> None:
        self.write("proc/self/mountinfo", V2_MOUNT)
        self.write("proc/self/cgroup", f"0::{own}")

    def v1(self, own: str = "/user/job", root: str = "/") -> None:
        self.write("proc/self/mountinfo", V1_MOUNTS.format(root=root))
        self.write("proc/self/cgroup", f"9:name=systemd:/\n4:memory:{own}\n1:cpu,cpuacct:{own}\n0::/")

    def memory_v2(self, group: str, limit: object, used: int, cached: int = 0, high: object = "max") -> None:
        where = f"sys/fs/cgroup/{group}"
        self.write(f"{where}/memory.max", limit)
        self.write(f"{where}/memory.high", high)
        self.write(f"{where}/memory.current", used)
        self.write(
            f"{where}/memory.stat",
            f"anon 7\nactive_file {cached // 4}\ninactive_file {cached - cached // 4}\nfile {cached}",
        )

    def memory_v1(self, group: str, limit: int, used: int, cached: int = 0) -> None:
        where = f"sys/fs/cgroup/memory/{group}"
        self.write(f"{where}/memory.limit_in_bytes", limit)
        self.write(f"{where}/memory.usage_in_bytes", used)
        own, active = "inactive_file 1\nactive_file 1", cached // 4
        self.write(f"{where}/memory.stat", f"{own}\ntotal_inactive_file {cached - active}\ntotal_active_file {active}")


@pytest.fixture
def fake(tmp_path: Path) -> FakeRoot:
    return FakeRoot(tmp_path)


def test_nothing_mounted_is_no_limit(fake):
    assert memory_left(fake.path) is None
    assert processor_quota(fake.path) is None


def test_v2_memory_of_the_own_group(fake):
    fake.v2()
    fake.memory_v2("user/job", 512 * MIB, 100 * MIB)
    assert memory_left(fake.path) == 412 * MIB


def test_v2_tightest_ancestor_wins(fake):
    fake.v2()
    fake.memory_v2("user/job", "max", 10 * MIB)
    fake.memory_v2("user", 256 * MIB, 200 * MIB)
    fake.memory_v2("", 999 * MIB, 300 * MIB)
    assert memory_left(fake.path) == 56 * MIB


def test_v2_high_counts_as_a_limit(fake):
    fake.v2()
    fake.memory_v2("user/job", 512 * MIB, 100 * MIB, high=300 * MIB)
    assert memory_left(fake.path) == 200 * MIB


def test_v2_cached_files_do_not_count_as_used(fake):
    fake.v2()
    fake.memory_v2("user/job", 512 * MIB, 500 * MIB, cached=400 * MIB)
    assert memory_left(fake.path) == 412 * MIB


def test_v2_no_limit_anywhere(fake):
    fake.v2()
    fake.memory_v2("user/job", "max", 100 * MIB)
    assert memory_left(fake.path) is None


def test_use_above_the_limit_leaves_nothing(fake):
    fake.v2()
    fake.memory_v2("user/job", 64 * MIB, 65 * MIB)
    assert memory_left(fake.path) == 0


def test_v1_memory_of_the_own_group_and_its_ancestors(fake):
    fake.v1()
    fake.memory_v1("user/job", 512 * MIB, 120 * MIB, cached=20 * MIB)
    fake.memory_v1("user", 9223372036854771712, 130 * MIB)
    assert memory_left(fake.path) == 412 * MIB
    fake.memory_v1("user", 256 * MIB, 130 * MIB)
    assert memory_left(fake.path) == 126 * MIB


def test_v1_unlimited_is_no_limit(fake):
    fake.v1()
    fake.memory_v1("user/job", 9223372036854771712, 120 * MIB)
    assert memory_left(fake.path) is None


def test_container_that_sees_only_its_own_group_at_the_mount(fake):
    fake.v1(own="/docker/abc/inner", root="/docker/abc")
    fake.memory_v1("inner", 100 * MIB, 1 * MIB)
    fake.memory_v1("", 50 * MIB, 2 * MIB)
    assert memory_left(fake.path) == 48 * MIB


@pytest.mark.parametrize("own", ["/elsewhere/job", "/../../outside"])
def test_container_whose_group_is_not_mounted_uses_the_mount(fake, own):
    fake.v1(own=own, root="/docker/abc" if own.startswith("/e") else "/")
    fake.memory_v1("", 100 * MIB, 1 * MIB)
    assert memory_left(fake.path) == 99 * MIB


def test_mount_point_with_a_space(fake):
    fake.write("proc/self/mountinfo", r"31 23 0:28 / /my\040groups rw - cgroup2 cgroup2 rw")
    fake.write("proc/self/cgroup", "0::/a b")
    fake.write("my groups/a b/memory.max", 70)
    fake.write("my groups/a b/memory.current", 30)
    assert memory_left(fake.path) == 40


@pytest.mark.parametrize(
    ("line", "quota"),
    [
        ("max 100000", None),
        ("50000 100000", 1),
        ("100000 100000", 1),
        ("100001 100000", 2),
        ("350000 100000", 4),
        ("1000 100000", 1),
    ],
)
def test_v2_processor_quota_is_rounded_up(fake, line, quota):
    fake.v2()
    fake.write("sys/fs/cgroup/user/job/cpu.max", line)
    assert processor_quota(fake.path) == quota


def test_v1_processor_quota_and_its_ancestors(fake):
    fake.v1()
    where = "sys/fs/cgroup/cpu,cpuacct/user"
    fake.write(f"{where}/job/cpu.cfs_quota_us", -1)
    fake.write(f"{where}/job/cpu.cfs_period_us", 100_000)
    assert processor_quota(fake.path) is None
    fake.write(f"{where}/cpu.cfs_quota_us", 250_000)
    fake.write(f"{where}/cpu.cfs_period_us", 100_000)
    assert processor_quota(fake.path) == 3


@pytest.mark.parametrize("text", ["", "nonsense", "4:memory", "::::", "4:memory:", "\x00\x01"])
@pytest.mark.parametrize(
    "name", ["proc/self/cgroup", "proc/self/mountinfo", "sys/fs/cgroup/memory/user/job/memory.stat"]
)
def test_malformed_files_are_survived(fake, name, text):
    fake.v1()
    fake.memory_v1("user/job", 100 * MIB, 40 * MIB)
    fake.write(name, text)
    assert memory_left(fake.path) in {60 * MIB, None}
    assert processor_quota(fake.path) is None


def test_processors_is_the_smaller_of_affinity_and_quota(fake, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    fake.v2()
    assert processors(fake.path) == 8
    fake.write("sys/fs/cgroup/user/job/cpu.max", "250000 100000")
    assert processors(fake.path) == 3
    fake.write("sys/fs/cgroup/user/job/cpu.max", "25000000 100000")
    assert processors(fake.path) == 8


def test_processors_where_the_system_knows_no_affinity(fake, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert processors(fake.path) == 1


def test_processors_follow_the_affinity_of_this_process():
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from mlpipe.measure.host import processors; print(processors())"
    )
    assert _python(code) == "1"


def test_cpu_model_is_read_from_cpuinfo(fake):
    fake.write("proc/cpuinfo", "processor\t: 0\nmodel\t\t: 85\nmodel name\t: Example CPU @ 2.50GHz\nflags\t: a b")
    assert cpu_model(fake.path) == "Example CPU @ 2.50GHz"


def test_host_facts_and_versions_are_plain_values():
    facts = host_facts()
    assert facts["processors"] >= facts["usable_processors"] >= 1
    assert facts["memory"] > 2**20
    found = versions()
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert all(isinstance(value, str) for value in found.values())


def _python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def real_group(request):
    """A new version 1 control group of the kind the test names, below this process's own."""
    kind = request.param
    own = next(
        (line.split(":", 2)[2] for line in Path("/proc/self/cgroup").read_text().splitlines() if f":{kind}:" in line),
        None,
    )
    group = Path(f"/sys/fs/cgroup/{kind}{own}/mlpipe-test-{os.getpid()}")
    try:
        if own is None:
            raise FileNotFoundError(kind)
        group.mkdir()
    except OSError:
        pytest.skip(f"no writable version 1 {kind} control group here")
    yield group
    for _ in range(100):  # a group is busy until the kernel has reaped its last process
        try:
            group.rmdir()
            break
        except OSError:
            time.sleep(0.02)


@pytest.mark.parametrize("real_group", ["memory"], indirect=True)
def test_real_v1_memory_group(real_group):
    (real_group / "memory.limit_in_bytes").write_text(str(64 * MIB))
    before, after, available, ceiling = map(
        int,
        _python(
            f"import os; open({str(real_group / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))\n"
            "from mlpipe.measure.memory import available_bytes, default_ceiling\n"
            "from mlpipe.measure.cgroup import memory_left\n"
            "before = memory_left()\n"
            "block = b'x' * 2**24\n"
            "print(before, memory_left(), available_bytes(), default_ceiling())"
        ).split(),
    )
    assert 32 * MIB < before <= 64 * MIB
    assert before - after >= 15 * MIB
    assert available <= after + MIB
    assert ceiling <= after // 2 + MIB


@pytest.mark.parametrize("real_group", ["cpu"], indirect=True)
def test_real_v1_cpu_group(real_group):
    (real_group / "cpu.cfs_period_us").write_text("100000")
    join = f"import os; open({str(real_group / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))\n"
    show = "from mlpipe.measure.host import processors, processor_quota; print(processor_quota(), processors())"
    for quota, expected in ((40_000, 1), (150_000, 2)):
        (real_group / "cpu.cfs_quota_us").write_text(str(quota))
        found, usable = map(int, _python(join + show).split())
        assert found == expected
        assert 1 <= usable <= expected
