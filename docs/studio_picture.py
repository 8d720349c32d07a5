"""Draw docs/figures/studio.png: the page of a run on chains, one thought swapped, in Chromium without a window.

python docs/studio_picture.py runs/chains6/seed-0/annealed
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from latent_gemma.studio.page import Page, open_runs, serve

PICTURE = Path(__file__).parent / "figures" / "studio.png"


def main() -> None:
    """Ask, swap a thought, and take the picture."""
    blocks = Page(open_runs(sys.argv[1:2])).blocks()
    serve(blocks, prevent_thread_lock=True, quiet=True)
    with sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1180, "height": 960})
        page.goto(blocks.local_url)
        page.fill("#steps textarea", "2\n6\n4\n2")
        page.fill("#question textarea", "7+5*3-2+8=")
        page.press("#question textarea", "Enter")
        page.wait_for_selector("#board .end code")
        page.fill("#other textarea", "2+3*4=")
        page.press("#other textarea", "Enter")
        page.click("#board .cell >> nth=1")
        page.click("#donors .cell >> nth=0")
        page.wait_for_selector("#changes .track")
        page.mouse.move(0, 0)
        page.wait_for_timeout(1000)  # what moves has come to rest
        page.screenshot(path=PICTURE, full_page=True)
    blocks.close()


if __name__ == "__main__":
    main()
