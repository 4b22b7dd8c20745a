"""Flame graphs: a picture says what it is of, and nothing of the machine that drew it."""

from benchmarks.harness.flame import _entitle


def test_a_picture_is_called_what_it_is(tmp_path):
    """py-spy's own title is its command line."""
    path = tmp_path / "flame-host.svg"
    before = '<svg><text id="title" x="50%" y="24.00">{}</text><text id="details"> </text></svg>'
    path.write_text(before.format("/home/me/bin/py-spy record --pid 1 --output /home/me/flame-host.svg"))
    _entitle(path)
    assert path.read_text() == before.format("flame-host")
