"""Room for temporary files, and for the output beside them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mlpipe.errors import OutputError
from mlpipe.writers.temporary import check_directory


def test_the_output_takes_room_of_the_same_disk(tmp_path: Path) -> None:
    most = int(shutil.disk_usage(tmp_path).free * 0.6)
    other = tmp_path / "out"
    other.mkdir()
    check_directory(tmp_path, most)
    check_directory(tmp_path, most, other, 0)
    check_directory(tmp_path, most, tmp_path / "missing", most)  # which its sink says
    with pytest.raises(OutputError, match=r"temporary files in .* and the output: needs .*; --temp-dir names another"):
        check_directory(tmp_path, most, other, most)


@pytest.mark.skipif(not Path("/dev/shm").is_dir() or not Path("/proc").is_dir(), reason="needs another file system")
def test_another_disk_is_another_matter(tmp_path: Path) -> None:
    if Path("/dev/shm").stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("not another file system")
    check_directory(tmp_path, int(shutil.disk_usage(tmp_path).free * 0.6), "/dev/shm", 1 << 60)
