"""Clips in parts: together they are the file, and what is no part is one line."""

import pytest
from conftest import one_line

from edge.errors import UserError
from edge.link.parts import PART, part, parts, read_part


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 3 * PART])
def test_parts(tmp_path, size):
    path = tmp_path / "a.avi"
    path.write_bytes(bytes(i % 251 for i in range(size)))
    read = [read_part(part(path, i)) for i in range(parts(path))]
    assert b"".join(data for _, data in read) == path.read_bytes() and part(path, parts(path)) is None
    assert all(
        head == {"name": "a.avi", "bytes": size, "part": i, "parts": len(read)} for i, (head, _) in enumerate(read)
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}\n",
        b"\xff\n",
        b'{"name":"../a","bytes":1,"part":0,"parts":1}\n1',
        b'{"name":"a","bytes":1,"part":1,"parts":1}\n1',
        b'{"name":"a","bytes":1,"part":0,"parts":1}\n',
        b'{"name":"a","bytes":1,"part":0,"parts":2}\n1',
        b'{"name":"a","bytes":48000000000,"part":0,"parts":1000000}\n1',
    ],
)
def test_what_is_no_part(data):
    with pytest.raises(UserError) as caught:
        read_part(data)
    one_line(caught)
