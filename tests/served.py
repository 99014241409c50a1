"""Serves a folder in this process, and opens its pages in a browser."""

import html
import json
import re
import shutil
import subprocess
import threading
from contextlib import contextmanager

from facenet_jax.report.server import FolderServer

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

# A browser window cannot be as narrow as a phone, but a frame can.
_FRAME = '<iframe src="ADDRESS" width=WIDTH height=800 style="border: 0"></iframe>'
_SCRIPT = """<script>
addEventListener("load", () => {
  const seen = [...document.querySelectorAll("iframe")].map(frame => {
    const page = frame.contentDocument, head = page.querySelector("th button");
    head?.click();
    return {
      width: page.documentElement.clientWidth,
      needs: page.documentElement.scrollWidth,
      broken: [...page.images].filter(image => image.complete && !image.naturalWidth).length,
      pictures: page.images.length,
      links: [...page.querySelectorAll("a")].map(link => link.pathname),
      sorted: head?.closest("th").getAttribute("aria-sort") ?? null,
    };
  });
  const left = document.createElement("pre"); left.id = "seen"; left.textContent = JSON.stringify(seen);
  document.body.append(left);
});
</script>"""


@contextmanager
def serving(folder):
    """A running server of a folder."""
    with FolderServer(folder) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def seen_in_frames(folder, addresses, width, profile):
    """The layout of a folder's pages in chromium at a width; leaves a page with frames in the folder."""
    frames = "".join(_FRAME.replace("ADDRESS", address).replace("WIDTH", str(width)) for address in addresses)
    (folder / "frames.html").write_text(f"<!doctype html><title>frames</title>{frames}{_SCRIPT}")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command += [f"--user-data-dir={profile}", "--window-size=1400,1000", "--enable-logging=stderr"]
    with serving(folder) as server:
        done = subprocess.run(
            [*command, "--virtual-time-budget=5000", "--dump-dom", f"{server.url}frames.html"],
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert "CONSOLE" not in done.stderr, done.stderr
    return json.loads(html.unescape(re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.S)[1]))
