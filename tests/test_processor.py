"""What int8 instructions a processor has, and where int8 kernels may overflow."""

import platform

import pytest

from edge import processor


@pytest.mark.parametrize(
    ("machine", "line", "expected", "overflows"),
    [
        ("x86_64", "flags\t\t: fpu avx512f avx512_vnni avx_vnni", "avx512_vnni avx_vnni", False),
        ("AMD64", "flags\t\t: fpu avx2 avx_vnni", "avx_vnni", False),
        ("x86_64", "flags\t\t: fpu avx2 avx512f", "none", True),
        ("x86_64", "nothing: of that kind", None, True),
        ("aarch64", "Features\t: fp asimd crc32 asimddp", "asimddp", False),  # Raspberry Pi 5
        ("aarch64", "Features\t: fp asimd crc32", "none", False),  # Raspberry Pi 4
    ],
)
def test_int8_instructions_of_a_cpu(machine, line, expected, overflows, tmp_path, monkeypatch):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{line}\n")
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert processor.int8_instructions() == expected
    assert processor.int8_may_overflow() is overflows


def test_a_system_that_does_not_say(tmp_path, monkeypatch):
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "absent")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert processor.int8_instructions() is None and processor.int8_may_overflow()
