"""Public files: every kind of source, and every way a download can go wrong; nothing beyond this machine."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from visa import download_sources, downloads
from visa.downloads import FILES, PublicFile, fetch, fetch_file, fetch_package
from visa.errors import DownloadError

CONTENT = bytes(range(256)) * 3000  # several chunks long
# Port 9 is "discard": nothing listens there, so a connection is refused at once, as it is without a network.
NOWHERE = "http://127.0.0.1:9"


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def public_file(*sources: str, content: bytes = CONTENT, name: str = "weights.pt") -> PublicFile:
    return PublicFile(name, sha256_of(content), len(content), sources, "CC0-1.0")


def files_under(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if not path.is_dir()]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("VISA_CACHE", str(folder))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def original(tmp_path: Path) -> Path:
    path = tmp_path / "original.pt"
    path.write_bytes(CONTENT)
    return path


class Site:
    """A web server on the loopback: `pages` maps a path to (status, length it claims, body)."""

    def __init__(self) -> None:
        self.pages: dict[str, tuple[int, int, bytes]] = {}
        self.requests: list[str] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.requests.append(self.path)
                status, length, body = site.pages.get(self.path, (404, 0, b""))
                self.send_response(status)
                self.send_header("Content-Length", str(length))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()

    def add(self, path: str, body: bytes, length: int | None = None) -> str:
        self.pages[path] = (200, len(body) if length is None else length, body)
        return self.url + path


@pytest.fixture
def site():
    site = Site()
    yield site
    site.server.shutdown()
    site.server.server_close()


@pytest.fixture
def wheel_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip, by the user's own settings, takes wheels from, and nothing else."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    with zipfile.ZipFile(folder / "some_weights-1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr("some_weights/__init__.py", "raise SystemExit('a downloaded package was imported')")
        wheel.writestr("some_weights/data/weights.pt", CONTENT)
        wheel.writestr(
            "some_weights-1.2.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: some-weights\nVersion: 1.2\nRequires-Dist: no-such-package\n",
        )
        wheel.writestr("some_weights-1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("some_weights-1.2.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def npm_tarball(root: str = "package") -> bytes:
    archive_bytes = io.BytesIO()
    with tarfile.open(fileobj=archive_bytes, mode="w:gz") as archive:
        for name, content in (("package.json", b"{}"), ("assets/apple.png", CONTENT)):
            entry = tarfile.TarInfo(f"{root}/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return archive_bytes.getvalue()


def test_a_file_is_fetched_once(original: Path, cache: Path) -> None:
    file = public_file(original.as_uri())
    path = fetch_file(file)
    assert path == file.path
    assert cache in path.parents
    assert path.read_bytes() == CONTENT
    original.unlink()  # the second time there is nothing left to download
    assert fetch_file(file) == path
    assert files_under(cache) == [path]


def test_the_table_of_files_is_well_formed() -> None:
    for name, file in FILES.items():
        assert name == file.name
        assert re.fullmatch(r"[0-9a-f]{64}", file.sha256)
        assert file.size > 0
        assert file.sources
        assert file.licence
    assert len({file.path for file in FILES.values()}) == len(FILES)


def test_fetch_takes_names_of_the_table(original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FILES, "weights.pt", public_file(original.as_uri()))
    assert fetch("weights.pt").read_bytes() == CONTENT
    with pytest.raises(ValueError, match="no public file is called 'weight.pt'; known: .*mobile_sam.pt"):
        fetch("weight.pt")


def test_a_bar_is_drawn_unless_refused(original: Path, capfd: pytest.CaptureFixture) -> None:
    fetch_file(public_file(original.as_uri()))
    assert re.search(r"weights\.pt: 100%.*768k", capfd.readouterr().err)
    fetch_file(public_file(original.as_uri(), name="silent.pt"), progress=False)
    assert "silent.pt" not in capfd.readouterr().err


def test_a_member_of_a_wheel_comes_through_pip(wheel_index: Path, cache: Path) -> None:
    file = public_file("wheel://some-weights==1.2/some_weights/data/weights.pt")
    assert fetch_file(file).read_bytes() == CONTENT
    assert files_under(cache) == [file.path]


def test_wheels_that_fail_say_why(wheel_index: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        DownloadError, match=r"pip download: ERROR: No matching distribution.*some-weights==9"
    ):
        fetch_file(public_file("wheel://some-weights==9/x"))
    with pytest.raises(DownloadError, match=r"no item named 'absent.pt'"):
        fetch_file(public_file("wheel://some-weights==1.2/absent.pt"))
    (wheel_index / "some_weights-1.2-py3-none-any.whl").write_bytes(b"not a wheel")
    with pytest.raises(DownloadError, match=r"some-weights==1.2/x: "):
        fetch_file(public_file("wheel://some-weights==1.2/x"))
    monkeypatch.setattr(download_sources.sys, "executable", "/no/such/python")
    with pytest.raises(DownloadError, match=r"No such file.*/no/such/python"):
        fetch_file(public_file("wheel://some-weights==1.2/x"))
    assert files_under(cache) == []


@pytest.mark.parametrize("package", ["fruit", "@garden/fruit"])
@pytest.mark.parametrize("root", ["package", "fruit"])
def test_a_member_of_an_npm_package(
    site: Site, monkeypatch: pytest.MonkeyPatch, package: str, root: str, cache: Path
) -> None:
    site.add(f"/mirror/{package}/-/fruit-1.0.0.tgz", npm_tarball(root))
    monkeypatch.setenv("npm_config_registry", f"{site.url}/mirror/")
    file = public_file(f"npm://{package}@1.0.0/assets/apple.png", name="apple.png")
    assert fetch_file(file).read_bytes() == CONTENT
    assert files_under(cache) == [file.path]
    with pytest.raises(DownloadError, match=r"the package holds no assets/pear\.png"):
        fetch_file(public_file(f"npm://{package}@1.0.0/assets/pear.png", name="pear.png"))


def test_a_whole_package(site: Site, monkeypatch: pytest.MonkeyPatch, wheel_index: Path) -> None:
    archive = npm_tarball()
    site.add("/@garden/fruit/-/fruit-1.0.0.tgz", archive)
    monkeypatch.setenv("npm_config_registry", site.url)
    path = fetch_package("npm://@garden/fruit@1.0.0", sha256_of(archive))
    assert path.name == "fruit@1.0.0.tgz"
    with tarfile.open(path) as tar:
        assert "package/assets/apple.png" in tar.getnames()
    wheel = next(wheel_index.iterdir()).read_bytes()
    path = fetch_package("wheel://some-weights==1.2", sha256_of(wheel), size=len(wheel))
    assert zipfile.ZipFile(path).read("some_weights/data/weights.pt") == CONTENT
    with pytest.raises(DownloadError, match="wrong content, its sha256 is"):
        fetch_package("npm://@garden/fruit@1.0.0", "0" * 64)


def test_the_hub_and_its_mirrors(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.add("/owner/repository/resolve/main/folder/weights.pt", CONTENT)
    monkeypatch.setenv("HF_ENDPOINT", site.url)
    file = public_file("hf://owner/repository/folder/weights.pt")
    assert fetch_file(file).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("body", "length", "fault"),
    [
        (CONTENT[:1000], len(CONTENT), r"1000 bytes came, expected 768000|IncompleteRead"),
        (b"", len(CONTENT), r"0 bytes came|IncompleteRead"),
        (CONTENT[::-1], len(CONTENT), r"wrong content, its sha256 is [0-9a-f]{64}"),
        (b"<html>sign in</html>", 20, r"20 bytes came, expected 768000"),
    ],
    ids=["breaks in the middle", "breaks at once", "wrong content", "a sign-in page"],
)
def test_a_broken_download_leaves_nothing(
    site: Site, cache: Path, body: bytes, length: int, fault: str
) -> None:
    url = site.add("/weights.pt", body, length)
    with pytest.raises(DownloadError, match=fault):
        fetch_file(public_file(url))
    assert site.requests == ["/weights.pt"]
    assert files_under(cache) == []


def test_the_next_source_is_tried(site: Site, cache: Path, original: Path) -> None:
    broken = site.add("/broken.pt", CONTENT[:1000], len(CONTENT))
    file = public_file(f"{site.url}/missing.pt", broken, original.as_uri())
    assert fetch_file(file).read_bytes() == CONTENT
    assert site.requests == ["/missing.pt", "/broken.pt"]
    assert files_under(cache) == [file.path]


def test_no_network_says_what_to_do(cache: Path) -> None:
    file = public_file(f"{NOWHERE}/weights.pt", f"{NOWHERE}/mirror/weights.pt")
    with pytest.raises(DownloadError) as caught:
        fetch_file(file)
    message = str(caught.value)
    assert "\n" not in message
    for part in (file.name, file.sha256, *file.sources, str(file.path)):
        assert part in message
    assert "put the file by hand" in message
    # The advice works.
    file.path.write_bytes(CONTENT)
    assert fetch_file(file) == file.path


def test_a_file_put_by_hand_is_checked(original: Path) -> None:
    for source in (f"{NOWHERE}/weights.pt", original.as_uri()):
        file = public_file(source)
        file.path.parent.mkdir(parents=True, exist_ok=True)
        file.path.write_bytes(CONTENT[:-1] + b"!")
        if source == original.as_uri():
            assert fetch_file(file).read_bytes() == CONTENT
        else:
            with pytest.raises(DownloadError, match=rf"{re.escape(str(file.path))}: wrong content"):
                fetch_file(file)


def test_a_cache_that_cannot_be_written(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISA_CACHE", str(original / "below-a-file"))
    with pytest.raises(DownloadError, match="cannot write to the cache .*set VISA_CACHE to another folder"):
        fetch_file(public_file(original.as_uri()))


def test_an_interrupt_leaves_nothing(original: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(source: str, path: Path, bar: object) -> None:
        path.write_bytes(CONTENT[:1000])
        raise KeyboardInterrupt

    monkeypatch.setattr(downloads, "download", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch_file(public_file(original.as_uri()))
    assert cache.is_dir()
    assert files_under(cache) == []


def test_many_at_once(site: Site, cache: Path) -> None:
    file = public_file(site.add("/weights.pt", CONTENT))
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda _: fetch_file(file, progress=False), range(8)))
    assert set(paths) == {file.path}
    assert file.path.read_bytes() == CONTENT
    assert files_under(cache) == [file.path]
