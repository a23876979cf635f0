"""A person's browser: headless Chromium that trusts the lab's CA, and nothing else, and finds the lab's hosts."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab import PROJECT, Lab
from selenium import webdriver
from selenium.common.exceptions import (
    ElementClickInterceptedException,
    ElementNotInteractableException,
    StaleElementReferenceException,
    TimeoutException,
)
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

ARTEFACTS = PROJECT / "artefacts/access"
PATIENCE = 20  # seconds for a page
# The page draws itself anew at any time; what was found before is gone then.
REDRAWN = (StaleElementReferenceException, ElementNotInteractableException, ElementClickInterceptedException)


class Browser:
    """What a person does with a browser.

    Args:
        driver: Chromium.
        origin: https://<node>:<port>.
    """

    def __init__(self, driver: webdriver.Chrome, origin: str) -> None:
        self.driver = driver
        self.origin = origin
        self._pictures = 0

    def open(self, path: str) -> None:
        """Go to a page of the service."""
        self.driver.get(self.origin + path)

    def text(self) -> str:
        """Return what the page says."""
        return str(self.driver.find_element(By.TAG_NAME, "body").text)

    def wait_for_text(self, *words: str) -> str:
        """Wait until the page says one of these, and return which."""
        found: list[str] = []

        def says(_: webdriver.Chrome) -> bool:
            text = self.text()
            found[:] = [each for each in words if each in text]
            return bool(found)

        self._wait(says, f"the page to say {' or '.join(words)}")
        return found[0]

    def wait_for(self, selector: str) -> WebElement:
        """Wait for an element by its CSS selector, visible."""
        found: list[WebElement] = []

        def there(driver: webdriver.Chrome) -> bool:
            found[:] = [each for each in driver.find_elements(By.CSS_SELECTOR, selector) if each.is_displayed()]
            return bool(found)

        self._wait(there, f"{selector} to be there")
        return found[0]

    def click(self, selector: str) -> None:
        """Click an element once it can be."""

        def clicked(driver: webdriver.Chrome) -> bool:
            for element in driver.find_elements(By.CSS_SELECTOR, selector):
                if element.is_displayed() and element.is_enabled():
                    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
                    element.click()
                    return True
            return False

        self._wait(clicked, f"{selector} to be there to click")

    def type(self, selector: str, text: str) -> None:
        """Type into a field."""

        def typed(driver: webdriver.Chrome) -> bool:
            for element in driver.find_elements(By.CSS_SELECTOR, selector):
                if element.is_displayed():
                    element.clear()
                    element.send_keys(text)
                    return element.get_attribute("value") == text
            return False

        self._wait(typed, f"{selector} to be there to type into")

    def click_words(self, words: str) -> None:
        """Click the button or link that says this."""

        def clicked(driver: webdriver.Chrome) -> bool:
            for element in driver.find_elements(By.CSS_SELECTOR, "button, a"):
                if element.is_displayed() and words in element.text:
                    element.click()
                    return True
            return False

        self._wait(clicked, f"something that says {words} to click")

    def confirm(self) -> None:
        """Say yes to the question that the page asks before it deletes something."""
        self.click("button[data-test-confirm-button], .is-danger button, button.is-danger, .hds-button--color-critical")

    def forget(self) -> None:
        """Forget who was signed in at Check-in too."""
        self.driver.execute_cdp_cmd("Network.clearBrowserCookies", {})

    def sign_in(self, name: str, password: str, role: str = "") -> None:
        """Sign in with OIDC: the service opens Check-in in a window of its own."""
        self.open("/ui/vault/auth?with=oidc%2F")
        self.wait_for_text("EGI Check-in, for the web UI")
        if role:
            self.type("#role", role)
        main = self.driver.current_window_handle
        self.click("#auth-submit")

        def opened(driver: webdriver.Chrome) -> bool:
            if "TypeError" in self.text():  # the page was not ready for the click yet; a person clicks again
                self.click("#auth-submit")
            return len(driver.window_handles) > 1

        self._wait(opened, "Check-in's window")
        self.driver.switch_to.window(next(each for each in self.driver.window_handles if each != main))
        self.type("input[name=username]", name)
        self.type("input[name=password]", password)
        self.picture("check-in")
        self.click("button[type=submit], input[type=submit]")
        self._wait(lambda driver: len(driver.window_handles) == 1, "Check-in's window to close")
        self.driver.switch_to.window(main)

    def picture(self, name: str) -> Path:
        """Keep what the window shows as artefacts/access/<number>-<name>.png."""
        ARTEFACTS.mkdir(parents=True, exist_ok=True)
        self._pictures += 1
        path = ARTEFACTS / f"{self._pictures:02}-{re.sub(r'[^a-z0-9]+', '-', name.lower())}.png"
        self.driver.save_screenshot(str(path))
        return path

    def _wait(self, condition: object, what: str) -> None:
        try:
            WebDriverWait(self.driver, PATIENCE, 0.1, REDRAWN).until(condition)  # type: ignore[arg-type]
        except TimeoutException:
            picture = self.picture("failed")
            raise AssertionError(
                f"Waited {PATIENCE} s for {what}. {picture.relative_to(PROJECT)} shows {self.driver.current_url}:\n"
                f"{self.text()[:2000]}"
            ) from None


@contextmanager
def chromium(lab: Lab, node: str, home: Path) -> Iterator[Browser]:
    """Start a browser with a profile of its own.

    Args:
        lab: whose hosts it finds, and whose CA it trusts.
        node: whose web page it looks at.
        home: an empty directory; its home.
    """
    trust = home / ".pki/nssdb"
    trust.mkdir(parents=True)
    for words in (["-N", "--empty-password"], ["-A", "-n", "lab", "-t", "C,,", "-i", str(lab.state / "ca/ca.crt")]):
        subprocess.run(["certutil", "-d", f"sql:{trust}", *words], check=True, capture_output=True)
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    rules = ", ".join(f"MAP {host}.lab.test {address}" for host, address in lab.addresses.items())
    flags = [
        *("headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking"),
        *("disable-component-update", "disable-sync", "window-size=1280,900"),
        f"user-data-dir={home / 'profile'}",
        f"host-resolver-rules={rules}",
    ]
    for flag in flags:
        options.add_argument(f"--{flag}")
    service = webdriver.ChromeService("/usr/bin/chromedriver", env={**os.environ, "HOME": str(home)})
    driver = webdriver.Chrome(options=options, service=service)
    try:
        yield Browser(driver, f"https://{node}.lab.test:8200")
    finally:
        driver.quit()
