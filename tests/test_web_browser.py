"""The page in a real browser: upload, ask, see and download the masks; broken uploads; two visitors."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.synthetic_clips import write_clip
from tests.web_fakes import HalfSegmenter

INSTALL = "install requirements-web.txt with pip install --no-deps"
pytest.importorskip("gradio", reason=f"no gradio: {INSTALL}")
playwright = pytest.importorskip("playwright.sync_api", reason=f"no playwright: {INSTALL}")
CHROMIUM = os.environ.get("VISA_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("no chromium: apt-get install chromium, or set VISA_CHROMIUM", allow_module_level=True)

from visa.web.desk import Desk  # noqa: E402
from visa.web.guard import COOKIE  # noqa: E402
from visa.web.limits import Limits  # noqa: E402
from visa.web.page import Example, Handlers  # noqa: E402
from visa.web.server import serving  # noqa: E402
from visa.web.visitors import Visitors  # noqa: E402

# A browser and a server beside it: about half a minute on one core.
pytestmark = pytest.mark.slow
# These cores may be shared with whatever else runs.
PATIENCE = 60_000
CLIP, ANSWER, UPLOAD = "#visa-clip", "#visa-answer", "#visa-upload input[type=file]"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "my clip.mp4", 20, height=120, width=160)


@pytest.fixture(scope="module")
def segmenter() -> HalfSegmenter:
    return HalfSegmenter()


@pytest.fixture(scope="module")
def address(clip: Path, segmenter: HalfSegmenter) -> Iterator[str]:
    examples = [Example("stripes", "the bus", lambda: clip)]
    with serving(segmenter, None, Limits(megabytes=1, frames=40), examples) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    with visit(browser, address) as page:
        yield page


class visit:  # noqa: N801
    """A visitor: a browser without another's cookies, with the page open."""

    def __init__(self, browser: Any, address: str) -> None:
        self._context = browser.new_context(viewport={"width": 1360, "height": 1000})
        self._address = address

    def __enter__(self) -> Any:
        page = self._context.new_page()
        page.set_default_timeout(PATIENCE)
        page.asked = []
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(self._address)
        page.wait_for_selector("#visa-ask")
        return page

    def __exit__(self, *_: object) -> None:
        self._context.close()


def ask(page: Any, question: str) -> None:
    page.fill("#visa-question textarea", question)
    page.click("#visa-ask")


def alert(page: Any, where: str) -> str:
    return page.wait_for_selector(f"{where} [role=alert]").inner_text()


def test_upload_ask_see_the_mask_and_take_it_home(
    page: Any, clip: Path, address: str, tmp_path: Path
) -> None:
    page.set_input_files(UPLOAD, str(clip))
    page.wait_for_selector(f"{CLIP} img")
    assert "20 frames · 0.8 s · 160×120" in page.inner_text(CLIP)
    ask(page, "which one is <b>left</b>?")
    page.wait_for_function(
        f"() => {{ const v = document.querySelector('{ANSWER} video'); return v && v.readyState >= 2 }}"
    )
    assert page.eval_on_selector(f"{ANSWER} video", "video => [video.videoWidth, video.error]") == [160, None]
    assert "It is on the left." in page.inner_text(ANSWER)
    assert page.query_selector(f"{ANSWER} b") is None

    # The mask's colour, seen: the target frame's left half is tinted, its right half is as it was.
    picture = tmp_path / "target.png"
    page.locator(f"{ANSWER} img").screenshot(path=str(picture))
    seen = np.asarray(Image.open(picture).convert("RGB")).astype(int)
    rows = slice(seen.shape[0] // 4, 3 * seen.shape[0] // 4)
    left = seen[rows, seen.shape[1] // 5]
    right = seen[rows, 4 * seen.shape[1] // 5]
    assert (left[:, 0] - left[:, 1]).min() > 40
    assert np.abs(right[:, 0] - right[:, 1]).max() < 12

    line = page.get_attribute(f"{ANSWER} svg", "aria-label")
    assert line == "in 18 of 20 frames: 2 to 19; looked at 0, 10, 19; target frame 10"
    with page.expect_download() as download:
        page.click(f"{ANSWER} a[download='masks.zip']")
    saved = tmp_path / "masks.zip"
    download.value.save_as(saved)
    with zipfile.ZipFile(saved) as masks, masks.open("my clip/00010.png") as file:
        mask = np.asarray(Image.open(file)) > 0
    assert mask[:, :80].all()
    assert not mask[:, 80:].any()
    if "VISA_SCREENSHOT" in os.environ:
        page.screenshot(path=os.environ["VISA_SCREENSHOT"], full_page=True)
    elsewhere = [url for url in page.asked if not url.startswith((address, "data:", "blob:"))]
    assert elsewhere == [], "the page asks nobody else"


def test_what_is_wrong_is_said(page: Any, clip: Path, tmp_path: Path) -> None:
    ask(page, "the left one")
    assert "upload a clip first" in alert(page, ANSWER)

    cut = tmp_path / "cut.mp4"
    cut.write_bytes(clip.read_bytes()[:600])
    page.set_input_files(UPLOAD, str(cut))
    said = alert(page, CLIP)
    assert "cut.mp4" in said
    assert "/" not in said, "no path of the server's"

    page.click("#visa-upload button[aria-label*='emove'], #visa-upload button[aria-label*='lear']")
    page.wait_for_selector(f"{CLIP} [role=alert]", state="detached")
    words = tmp_path / "words.mp4"
    words.write_text("#EXTM3U\nfile:///etc/passwd")
    page.set_input_files(UPLOAD, str(words))
    assert "words.mp4 is not a clip that this page reads" in alert(page, CLIP)


def test_long_and_large_clips_are_refused(browser: Any, address: str, tmp_path: Path) -> None:
    long = write_clip(tmp_path / "long.mp4", 41)
    with visit(browser, address) as page:
        page.set_input_files(UPLOAD, str(long))
        assert "long.mp4 has 41 frames, 1.6 s; this page takes at most 40 frames" in alert(page, CLIP)
    large = tmp_path / "large.mp4"
    large.write_bytes(long.read_bytes() + bytes(2**20))
    with visit(browser, address) as page:
        page.set_input_files(UPLOAD, str(large))
        page.wait_for_selector("text=/maximum allowed size|too large|exceed/i")
        assert page.query_selector(f"{CLIP} img") is None


def test_examples_and_things_that_are_not_there(page: Any) -> None:
    page.click(".visa-example")
    page.wait_for_selector(f"{CLIP} img")
    assert page.input_value("#visa-question textarea") == "the bus"
    page.click("#visa-ask")
    page.wait_for_selector(f"{ANSWER} .visa-pill.no")
    assert page.query_selector(f"{ANSWER} video") is None
    assert "looked at 0, 10, 19" in page.get_attribute(f"{ANSWER} svg", "aria-label")

    ask(page, "break")
    said = alert(page, ANSWER)
    assert "went wrong inside" in said
    assert "secret" not in said
    ask(page, "left again")
    page.wait_for_selector(f"{ANSWER} video")


@pytest.mark.parametrize("way", ["closed", "loaded anew"])
def test_an_answer_that_nobody_waits_for_holds_up_nobody(
    browser: Any, address: str, clip: Path, segmenter: HalfSegmenter, way: str
) -> None:
    segmenter.stopped.clear()
    with visit(browser, address) as page:
        page.set_input_files(UPLOAD, str(clip))
        page.wait_for_selector(f"{CLIP} img")
        ask(page, f"a slow one, {way}")
        page.wait_for_selector("text=carrying it through the clip")
        if way == "loaded anew":
            page.reload()
            ask_about(page, clip, "the left one")
    if way == "closed":
        with visit(browser, address) as page:
            ask_about(page, clip, "the left one")
    assert segmenter.stopped == [f"a slow one, {way}"]


def ask_about(page: Any, clip: Path, question: str) -> None:
    page.set_input_files(UPLOAD, str(clip))
    page.wait_for_selector(f"{CLIP} img")
    ask(page, question)
    page.wait_for_selector(f"{ANSWER} video")


def test_a_visitor_sees_nothing_of_another(browser: Any, address: str, clip: Path) -> None:
    with visit(browser, address) as mine, visit(browser, address) as other:
        mine.set_input_files(UPLOAD, str(clip))
        mine.wait_for_selector(f"{CLIP} img")
        ask(mine, "the left one")
        links = mine.wait_for_selector(f"{ANSWER} .visa-downloads").query_selector_all("a")
        paths = [link.get_attribute("href") for link in links]
        paths.append(mine.get_attribute(f"{CLIP} img", "src"))
        paths += [url.removeprefix(address.rstrip("/")) for url in mine.asked if "/file=" in url]
        uploaded = mine.eval_on_selector("#visa-upload a", "link => link.href").removeprefix(
            address.rstrip("/")
        )
        assert "/file=" in uploaded
        for path in {*paths, uploaded}:
            assert status(mine, path) == 200, path
            assert status(other, path) == 404, path


def status(page: Any, path: str) -> int:
    """What the server answers when the page's own script asks for a path."""
    return page.evaluate("async path => (await fetch(path)).status", path)


def test_only_the_owner_of_an_upload_may_open_it(clip: Path, tmp_path: Path) -> None:
    visitors = Visitors(tmp_path)
    handlers = Handlers(Desk(HalfSegmenter()), visitors)

    def request(token: str | None) -> SimpleNamespace:
        return SimpleNamespace(cookies={} if token is None else {COOKIE: token}, session_hash="tab")

    mine, other = visitors.welcome(), visitors.welcome()
    visitors.get(mine).uploads.add(str(clip))
    key, shown = handlers.upload(str(clip), request(mine))
    assert key
    assert "my clip.mp4" in shown
    for path in (str(clip), "/etc/passwd"):
        key, shown = handlers.upload(path, request(other))
        assert key == ""
        assert "not one of yours" in shown
    for token in (None, "made-up"):
        assert "load it again" in handlers.upload(str(clip), request(token))[1]
        assert "load it again" in handlers.ask("any", "question", None, request(token))
