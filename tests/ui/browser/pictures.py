"""The pictures of the console's page: `make ui-screenshots` makes them anew, from the tests' own shop at work."""

import contextlib
import io
import re
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

HERE = Path(__file__).parent
sys.path += [str(HERE), str(HERE.parent), str(HERE.parent.parent / "runtime")]

import hf_browser  # noqa: E402
from PIL import Image  # noqa: E402
from playwright.sync_api import Page, sync_playwright  # noqa: E402

IMAGES = HERE.parents[2] / "docs" / "images"
BYTES_MAX = 200_000
WIDE, SMALL = {"width": 1180, "height": 800}, {"width": 390, "height": 800}


def busy(page: Page) -> None:
    """Until the figures of a host have been looked at twice."""
    page.get_by_role("row", name=re.compile(r"Order#\d+ \d+ [1-9]")).first.wait_for(timeout=20_000)


def nothing(page: Page) -> None:
    """It is complete when it is there."""


def graph_of(page: Page) -> None:
    """From the timeline to the event that was looked at."""
    page.get_by_role("link", name="Cause and effect").click()
    page.get_by_role("heading", name="Fields").wait_for()


PAID = {"of": "Order/2026-5", "version": 4}
PICTURES: dict[str, tuple[str, dict[str, Any], Any, dict[str, Any]]] = {
    "timeline": ("/stream", PAID, nothing, {}),
    "streams": ("/", {"category": "Order"}, nothing, {}),
    "graph": ("/stream", PAID, graph_of, {}),
    "graph-dark": ("/stream", PAID, graph_of, {"color_scheme": "dark"}),
    "live": ("/live", {}, busy, {}),
    "followers": ("/followers", {}, nothing, {}),
    "journal": ("/journal", {"count": 1}, nothing, {}),
    "small": ("/stream", PAID, nothing, {"viewport": SMALL}),
}


def compressed(png: bytes) -> bytes:
    """With a palette: a page has few colours."""
    out = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return out.getvalue()


def main() -> None:
    """Make them all."""
    IMAGES.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.chdir(stack.enter_context(tempfile.TemporaryDirectory())))
        address = stack.enter_context(hf_browser.shop_at_work(Path()))
        driver = stack.enter_context(sync_playwright())
        browser = driver.chromium.launch(executable_path=hf_browser.chromium_path())
        for name, (path, query, ready, options) in PICTURES.items():
            window = {"viewport": WIDE, "device_scale_factor": 1.5, **options}
            with hf_browser.visiting(browser, address, **window) as visit:
                page = visit.go(path, **query)
                ready(page)
                png = compressed(page.screenshot())
                visit.check()
            assert len(png) < BYTES_MAX, f"{name} has {len(png):,} bytes"
            (IMAGES / f"console-{name}.png").write_bytes(png)
            print(f"docs/images/console-{name}.png, {len(png):,} bytes, {path}?{urlencode(query)}")


if __name__ == "__main__":
    main()
