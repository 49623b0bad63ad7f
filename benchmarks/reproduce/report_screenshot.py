"""Photograph a report with a headless Chromium: how the picture of the README is made.

    python benchmarks/reproduce/report_screenshot.py OUT/report.html docs/report.png

Needs ``chromium`` (Debian: ``apt-get install chromium``) or Chrome on the PATH; no network, and a profile of its own
that is thrown away. ``--width 500`` photographs the phone layout (the narrowest window of a headless Chromium),
``--dark`` the dark theme.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def photograph(report: Path, picture: Path, *, width: int = 1280, height: int = 1600, dark: bool = False) -> None:
    """Write a PNG of the top ``height`` pixels of a report, laid out ``width`` pixels wide.

    Raises:
        FileNotFoundError: no report there, or no browser on the PATH.
        RuntimeError: the browser made no picture; its own words follow.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise FileNotFoundError(f"no browser on the PATH, looked for {', '.join(BROWSERS)}; apt-get install chromium")
    if not report.is_file():
        raise FileNotFoundError(f"{report} is missing; nasplug report {report.parent} writes it")
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.unlink(missing_ok=True)  # an old picture must not pass for a new one
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        done = subprocess.run(
            [
                browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
                "--no-first-run", "--hide-scrollbars", f"--user-data-dir={profile}", f"--window-size={width},{height}",
                # until the curves are drawn, in the page's own time
                "--virtual-time-budget=20000", f"--screenshot={picture.resolve()}",
                f"--blink-settings=preferredColorScheme={0 if dark else 1}",
                report.resolve().as_uri(),
            ],
            capture_output=True, text=True, timeout=180, check=False,
        )  # fmt: skip
    if not picture.is_file():
        raise RuntimeError(f"{browser} made no picture (exit code {done.returncode}):\n{done.stderr[-2000:]}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=1600)
    parser.add_argument("--dark", action="store_true")
    options = parser.parse_args()
    try:
        photograph(options.report, options.picture, width=options.width, height=options.height, dark=options.dark)
    except (OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(options.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
