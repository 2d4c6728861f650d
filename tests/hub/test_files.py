"""Outputs appear whole or not at all."""

import pytest

from usbackbones._files import atomic_write


def test_a_failed_write_leaves_the_earlier_file_and_nothing_else(tmp_path):
    file = tmp_path / "sub" / "out.txt"
    with atomic_write(file, "w") as stream:
        stream.write("first")
    with pytest.raises(KeyError), atomic_write(file, "w") as stream:
        stream.write("half of the sec")
        raise KeyError
    assert file.read_text() == "first"
    assert [path.name for path in file.parent.iterdir()] == ["out.txt"]


def test_nobody_sees_half_a_file(tmp_path):
    file = tmp_path / "out.bin"
    with atomic_write(file) as stream:
        stream.write(b"half")
        assert not file.exists()
    assert file.read_bytes() == b"half"
