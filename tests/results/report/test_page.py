"""report.html, opened in a real browser."""

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.fake_sweep import begun, done, failed

from triptych.results.report import report

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
CHROMIUM = next((path for name in NAMES if (path := shutil.which(name))), None)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--enable-logging=stderr",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason=f"needs a browser: none of {', '.join(NAMES)} is installed"),
]


@dataclass
class Visit:
    """The result of opening a page: its content after its script ran, console messages, and requested URLs."""

    content: str
    console: list[str]
    requests: set[str]


def visit(page: Path, folder: Path) -> Visit:
    log = folder / "network.json"
    options = [f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}", "--window-size=1200,900", "--dump-dom"]
    ended = subprocess.run(
        [str(CHROMIUM), *FLAGS, *options, page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    # Chromium makes requests of its own; those of a page opened from a file have the initiator "null".
    events = [event.get("params", {}) for event in json.loads(log.read_text(errors="replace"))["events"]]
    asked = {event["url"] for event in events if event.get("initiator") == "null" and "url" in event}
    return Visit(ended.stdout, re.findall(r".*CONSOLE.*", ended.stderr), asked)


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A report with every kind of content."""
    sweep = tmp_path / "sweep"
    for job, (optimizer, width) in enumerate((o, w) for o in ("adam", "sgd") for w in (16, 32, 64)):
        value = 48_000 + 317 * ((job * 5) % 7)
        overrides = [f"optimizer={optimizer}", f"model.width={width}", f"seed={job % 2}"]
        done(sweep, str(job), *overrides, value=value, curve=[70_000, 55_000, value])
    failed(sweep, "6", "optimizer=<img src=x onerror=alert(1)>", error="ValueError: <script>alert(1)</script>")
    begun(sweep, "7", "optimizer=adam")
    return report([sweep]).folder / "report.html"


def test_a_page_opens_without_errors_or_requests(page: Path, tmp_path: Path):
    seen = visit(page, tmp_path)
    assert seen.console == []
    assert seen.requests == set()
    assert seen.content.count("<figure>") == 4
    assert "&lt;script&gt;alert(1)" in seen.content


def test_errors_and_requests_would_be_detected(page: Path, tmp_path: Path):
    text = page.read_text("utf-8")
    page.write_text(text.replace("</main>", "<script>1</script><img src='http://127.0.0.1:9/x.png'></main>"), "utf-8")
    refused = visit(page, tmp_path)
    assert len(refused.console) >= 2  # the page's content security policy blocks both
    assert refused.requests == set()
    page.write_text(re.sub("<meta http-equiv=.*", "", page.read_text("utf-8")), "utf-8")
    assert visit(page, tmp_path).requests == {"http://127.0.0.1:9/x.png"}


def test_a_click_sorts_a_table_and_a_second_reverses_it(page: Path, tmp_path: Path):
    # The content security policy would block a second script.
    free = re.sub("<meta http-equiv=.*", "", page.read_text("utf-8"))
    for clicks, order in ((1, ["0", "1", "2", "3", "4", "5"]), (2, ["5", "4", "3", "2", "1", "0"])):
        click = "document.querySelectorAll('th button')[1].click();" * clicks
        page.write_text(free.replace("</body>", f"<script>{click}</script></body>"), "utf-8")
        seen = visit(page, tmp_path)
        assert seen.console == []
        table = seen.content.partition("<tbody>")[2].partition("</tbody>")[0]
        assert re.findall(r"<tr><td[^>]*>\d</td><td[^>]*>(\d)</td>", table) == order
        assert f'aria-sort="{"ascending" if clicks == 1 else "descending"}"' in seen.content


def test_text_that_starts_with_a_number_is_sorted_as_text(tmp_path: Path):
    for name, precision in enumerate(("32-true", "16-true", "16-mixed", "bf16-mixed", "16-true")):
        done(tmp_path / "sweep", str(name), f"trainer.precision={precision}", f"seed={name % 4}", value=float(name))
    page = report([tmp_path / "sweep"]).folder / "report.html"
    free = re.sub("<meta http-equiv=.*", "", page.read_text("utf-8"))
    click = "[...document.querySelectorAll('th button')].find(b => b.textContent === 'trainer.precision').click();"
    page.write_text(free.replace("</body>", f"<script>{click}</script></body>"), "utf-8")
    seen = visit(page, tmp_path)
    assert seen.console == []
    table = seen.content.partition('aria-sort="ascending"')[2].partition("</tbody>")[0]
    found = re.findall(r">((?:bf)?\d\d-(?:true|mixed))<", table)
    assert found == ["16-mixed", "16-true", "16-true", "32-true", "bf16-mixed"]
