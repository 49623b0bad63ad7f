"""Ports to serve pages on, and photographs of pages: for the scripts that make pictures, and for tests that look.

Needs Chromium with its driver (Debian: ``apt-get install chromium chromium-driver``) and selenium.
"""

from __future__ import annotations

import secrets
import shutil
import socket
import time
from contextlib import suppress
from pathlib import Path


def free_port() -> int:
    """Return a port that nobody listens on now, of those that systems do not lend to clients meanwhile."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("localhost", port))
            return port


def wait_for(port: int, timeout_s: float = 60) -> None:
    """Wait until somebody answers at a port here; raises TimeoutError."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise TimeoutError(f"nobody answers at port {port}")


def photograph(url: str, picture: Path, *, until: str, hide: str = "", width: int = 1500, height: int = 1100) -> str:
    """Open a page in a headless Chromium, wait until it shows a text, write a PNG, and return its whole text.

    ``hide`` is the path of a temporary folder, shown as ``~``: pictures do not tell about the machine.
    """
    from selenium import webdriver
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")
    for flag in (*flags, f"--window-size={width},{height}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        driver.set_page_load_timeout(60)
        driver.get(url)
        WebDriverWait(driver, 60).until(lambda page: until in page.find_element(By.TAG_NAME, "body").text)
        time.sleep(2)  # until the curves have grown
        text = str(driver.find_element(By.TAG_NAME, "body").text)
        if hide:
            driver.execute_script(_HIDE, hide)
        picture.parent.mkdir(parents=True, exist_ok=True)
        driver.save_screenshot(str(picture))
        return text
    finally:
        driver.quit()


_HIDE = """
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) walker.currentNode.textContent = walker.currentNode.textContent.replace(arguments[0], "~");
"""
