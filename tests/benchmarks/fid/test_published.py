"""Downloading the published weights: from a server on this machine, and only what is published is kept."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from vtopt.benchmarks.fid.published import PUBLISHED, PublishedFile, download_weights
from vtopt.optimize.errors import InputError, OutputError

CONTENT = bytes(range(256)) * 5000


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def served(tmp_path: Path) -> Iterator[PublishedFile]:
    """A file as it is published, by a server of this machine."""
    (tmp_path / "weights.pth").write_bytes(CONTENT)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}/weights.pth"
        yield PublishedFile("weights.pth", address, hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))
        server.shutdown()
        thread.join()


def _list_cache() -> list[Path]:
    return [path for path in Path(os.environ["XDG_CACHE_HOME"]).rglob("*") if path.is_file()]


def test_weights_are_downloaded_once(served: PublishedFile, tmp_path: Path) -> None:
    path = download_weights(served)
    assert path.read_bytes() == CONTENT
    assert _list_cache() == [path]
    (tmp_path / "weights.pth").unlink()
    assert download_weights(served) == path


def test_damaged_weights_are_downloaded_again(served: PublishedFile) -> None:
    path = download_weights(served)
    path.write_bytes(CONTENT[:100])
    assert download_weights(served).read_bytes() == CONTENT


@pytest.mark.parametrize("change", [CONTENT[:-1], CONTENT + b"\0" * 9, CONTENT[:-1] + b"\0"], ids=len)
def test_another_file_is_not_kept(change: bytes, served: PublishedFile, tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(change)
    with pytest.raises(InputError, match=r"what came has sha256 [0-9a-f]{16}, not the published"):
        download_weights(served)
    assert _list_cache() == []


def test_an_address_that_does_not_answer_is_told(served: PublishedFile) -> None:
    with pytest.raises(InputError, match=r"/none: cannot be downloaded \(.*404.*\); download it by hand and pass"):
        download_weights(served._replace(address=served.address.replace("weights.pth", "none")))
    assert _list_cache() == []


def test_a_cache_that_cannot_be_written_is_told(
    served: PublishedFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(OutputError, match=r"cannot be written: .*; set XDG_CACHE_HOME"):
        download_weights(served)


def test_the_name_of_the_state_dict_begins_its_sha256() -> None:
    assert PUBLISHED[0].name == f"pt_inception-2015-12-05-{PUBLISHED[0].sha256[:8]}.pth"
    assert all(len(file.sha256) == 64 and file.address.endswith(file.name) for file in PUBLISHED)
