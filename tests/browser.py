"""Opens pages in a real browser, headless Chromium, and asks axe-core, where it is there, whether all can use them."""

import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
AXE = "AXE_CORE"  # environment variable: the path of axe.min.js, of the npm package axe-core

needed = pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium here (Debian's package chromium)")
axe_needed = pytest.mark.skipif(not os.environ.get(AXE), reason=f"{AXE} does not name the axe.min.js of axe-core")

_ASK = """
addEventListener("load", () => axe.run(document, {resultTypes: ["violations"]}).then(found => {
  const told = found.violations.map(one => one.id + ": " + one.nodes.map(node => node.html.slice(0, 150)).join(" | "));
  document.body.innerHTML = "<pre id=found></pre>";
  document.getElementById("found").textContent = JSON.stringify({told, passes: found.passes.length});
}))
"""


def _run(page: pathlib.Path, *words: str) -> subprocess.CompletedProcess:
    words = ("--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", *words)
    profile = page.parent / f".{page.name}-profile"
    command = [CHROMIUM, *words, f"--user-data-dir={profile}", page.resolve().as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)


def console(page: pathlib.Path) -> list[str]:
    """What the browser has against a page: refused, missing, broken."""
    return [line for line in _run(page, "--dump-dom").stderr.splitlines() if "CONSOLE" in line]


def overflow(page: pathlib.Path, width: int) -> int:
    """By how many pixels a page is wider than a window of `width`."""
    framed = page.with_name(f"framed-{page.name}")
    text = page.read_text().replace("</main>", _MEASURE + "</main>")
    inner = page.with_name(f"measured-{page.name}")
    inner.write_text(_without_policy(text))
    framed.write_text(
        f'<title></title><iframe id="it" src="{inner.name}" style="width:{width}px;height:900px;border:0"></iframe>'
        '<script>addEventListener("message", event => document.title = "wider:" + event.data)</script>'
    )
    said = _run(framed, "--dump-dom", "--virtual-time-budget=20000").stdout
    return int(re.search(r"wider:(-?\d+)", said).group(1))


_MEASURE = """<script>addEventListener("load", () => parent.postMessage(
document.documentElement.scrollWidth - document.documentElement.clientWidth, "*"))</script>"""


def violations(page: pathlib.Path) -> list[str]:
    """What axe-core finds, a line a rule."""
    checked = page.with_name(f"axe-{page.name}")
    script = pathlib.Path(os.environ[AXE]).read_text(encoding="utf-8")
    text = _without_policy(page.read_text(encoding="utf-8"))
    # As a whole: all that is folded away is looked at too.
    text = text.replace("<details>", "<details open>")
    checked.write_text(text.replace("</head>", f"<script>{script}</script><script>{_ASK}</script></head>"))
    said = _run(checked, "--dump-dom", "--virtual-time-budget=120000").stdout
    found = re.search(r'<pre id="found">(.*?)</pre>', said, re.S)
    assert found, said[-2000:]
    told = json.loads(found.group(1).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert told["passes"] > 10
    return told["told"]


def _without_policy(text: str) -> str:
    """Without the policy that lets no script run: that of the check is one."""
    changed = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    assert changed != text
    return changed
