#!/usr/bin/env python3
"""Looks at the status page in a real Chromium, at two widths, light and dark, and says as JSON what it saw.

    page.py --url http://127.0.0.1:9187/ --chromium /usr/bin/chromium --pictures FOLDER

Owns: the browser, which it speaks to through a pipe (the DevTools protocol); a picture of each look.
Does not: judge figures; the test does. It judges what is wrong on any page: messages in the console, requests to elsewhere, a page that scrolls sideways,
text that runs out of its box, a script that ran although it is text of the database.
"""
import argparse
import base64
import json
import os
import select
import subprocess
import sys
import tempfile
import time

LOOKS = [(width, height, scheme) for width, height in ((1440, 900), (390, 844)) for scheme in ("light", "dark")]

# What a person would read, and what is wrong with it.
SEEN = """
(() => {
  const text = (selector) => document.querySelector(selector)?.innerText.trim() ?? null;
  const cut = [...document.querySelectorAll("main *")].filter((node) => {
    const box = node.getBoundingClientRect();
    const runs_out = node.clientWidth > 0 && node.scrollWidth > node.clientWidth + 1 && !node.matches(".gap, svg, svg *");
    return box.width > 0 && (box.right > innerWidth + 1 || box.left < -1 || runs_out);
  });
  const positions = {};
  for (const name of ["received", "cut", "logged", "published", "confirmed"]) positions[name] = text("#" + name + " .lsn");
  return {
    title: document.title, state: text("header .state"), pipeline: text("h1"), positions,
    tiles: Object.fromEntries([...document.querySelectorAll(".tile")].map((tile) => [...tile.children].map((part) => part.innerText.trim()).slice(0, 2))),
    tables: Object.fromEntries([...document.querySelectorAll("#tables tbody tr")].map((row) => [...row.cells].map((cell) => cell.textContent.trim())).map((row) => [row[0], row.slice(1)])),
    snapshot: text("#snapshot h2"), errors: [...document.querySelectorAll(".errors li")].map((error) => error.innerText),
    curves: [...document.querySelectorAll(".curve path")].length, silent: document.body.classList.contains("silent"),
    scroll: document.documentElement.scrollWidth, width: innerWidth, sticking_out: cut.map((node) => node.outerHTML.slice(0, 120)),
    images: document.querySelectorAll("img").length, alerted: window.alerted ?? false,
    ground: getComputedStyle(document.body).backgroundColor, ink: getComputedStyle(document.body).color,
    smallest: Math.min(...[...document.querySelectorAll("main *")].filter((node) => node.innerText).map((node) => parseFloat(getComputedStyle(node).fontSize))),
  };
})()
"""


class Browser:
    def __init__(self, program, profile):
        reads, self.write_end = os.pipe()
        self.read_end, writes = os.pipe()

        def as_three_and_four():
            # Clear of both numbers first: one of the four may be 3 or 4 itself.
            r, w = os.dup2(reads, 103), os.dup2(writes, 104)
            os.dup2(r, 3)
            os.dup2(w, 4)

        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
                 "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars", f"--user-data-dir={profile}", "--remote-debugging-pipe"]
        self.log = open(os.path.join(profile, "..", "chromium.log"), "wb")
        self.child = subprocess.Popen([program, *flags, "about:blank"], preexec_fn=as_three_and_four, close_fds=False, stdin=subprocess.DEVNULL,
                                      stdout=self.log, stderr=self.log)
        os.close(reads)
        os.close(writes)
        self.buffer, self.number, self.events = b"", 0, []

    def read(self, deadline):
        while b"\0" not in self.buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.read_end], [], [], left)[0]:
                return None
            read = os.read(self.read_end, 1 << 20)
            if not read:
                raise SystemExit("Chromium ended")
            self.buffer += read
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, session=None, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.write_end, data):]
        deadline = time.monotonic() + 30
        while (answer := self.read(deadline)) is not None:
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise SystemExit(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)
        raise SystemExit(f"{method}: no answer")

    def wait(self, seconds):
        deadline = time.monotonic() + seconds
        while (event := self.read(deadline)) is not None:
            self.events.append(event)

    def close(self):
        self.child.kill()
        self.child.wait()


def messages(events, origin):
    """What a console shows, and what was asked elsewhere."""
    found = []
    for event in events:
        method, parameters = event.get("method"), event.get("params", {})
        if method == "Runtime.consoleAPICalled":
            found.append("console: " + json.dumps(parameters["args"]))
        elif method == "Runtime.exceptionThrown":
            found.append("exception: " + json.dumps(parameters["exceptionDetails"]))
        elif method == "Log.entryAdded":
            found.append("log: " + parameters["entry"]["text"])
        elif method == "Page.javascriptDialogOpening":
            found.append("dialog: " + parameters["message"])
        elif method == "Network.requestWillBeSent":
            url = parameters["request"]["url"]
            if url.rstrip("/") != origin.rstrip("/") and not url.startswith("data:"):
                found.append("request: " + url)
    return found


def look(browser, url, width, height, scheme, pictures, pause):
    target = browser.call("Target.createTarget", url="about:blank")["targetId"]
    session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    for domain in ("Page", "Runtime", "Log", "Network"):
        browser.call(f"{domain}.enable", session)
    browser.call("Emulation.setDeviceMetricsOverride", session, width=width, height=height, deviceScaleFactor=1, mobile=width < 500)
    browser.call("Emulation.setEmulatedMedia", session, features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.events.clear()
    browser.call("Page.navigate", session, url=url)
    # Long enough for it to replace itself.
    browser.wait(pause)
    seen = browser.call("Runtime.evaluate", session, expression=SEEN, returnByValue=True)
    if "exceptionDetails" in seen:
        raise SystemExit(json.dumps(seen["exceptionDetails"]))
    seen = seen["result"]["value"]
    picture = browser.call("Page.captureScreenshot", session, format="png", captureBeyondViewport=True)
    name = os.path.join(pictures, f"page-{width}-{scheme}.png")
    with open(name, "wb") as file:
        file.write(base64.b64decode(picture["data"]))
    requests = sum(1 for event in browser.events if event.get("method") == "Network.requestWillBeSent")
    wrong = messages(browser.events, url)
    if seen["scroll"] > seen["width"]:
        wrong.append(f"it is {seen['scroll']} wide on {seen['width']}")
    wrong += [f"sticks out: {node}" for node in seen.pop("sticking_out")]
    if seen["images"] or seen["alerted"]:
        wrong.append("text of the database became HTML")
    if seen["smallest"] < 11.5:
        wrong.append(f"letters of {seen['smallest']} pixels")
    browser.call("Target.closeTarget", targetId=target)
    return {"width": width, "scheme": scheme, "wrong": wrong, "requests": requests, "picture": name, **seen}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--chromium", required=True)
    parser.add_argument("--pictures", required=True)
    parser.add_argument("--pause", type=float, default=5.0)
    arguments = parser.parse_args()
    os.makedirs(arguments.pictures, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        profile = os.path.join(folder, "profile")
        os.mkdir(profile)
        browser = Browser(arguments.chromium, profile)
        try:
            looks = [look(browser, arguments.url, *size, arguments.pictures, arguments.pause) for size in LOOKS]
        finally:
            browser.close()
    json.dump(looks, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
