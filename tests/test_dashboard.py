"""TensorBoard, started on the logs of a real run and read in a browser (`-m slow`)."""

import json
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

import mnist_cnn

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("chromium") and shutil.which("chromedriver")),
        reason="needs chromium and chromedriver",
    ),
]
# What each dashboard must show, as text on the page.
DASHBOARDS = {
    "timeseries": ["training", "cross_entropy", "weights"],
    "scalars": ["training/objective", "validation/error_percent", "weights"],
    "custom_scalars": [
        "Training",
        "Objective",
        "Validation error (%)",
        "Cosine of the products' change with the rule's",
        "Preconditioner",
        "Spectrum of the products",
        "factors/dense1",
        "factors/logits",
    ],
    "images": ["training"],
    "distributions": ["weights/singular_values"],
    "histograms": ["weights/singular_values"],
    "text": ["settings", "FactoredDense", "3136×512 · 512×512"],
    "hparams": ["depth", "learning_rate", "validation/error_percent"],
}
EMPTY = r"No (scalar|image|histogram|text|hparams|custom scalar)s? (data|was|were)|not found"
WAIT = 60  # seconds for what a dashboard must show
TEXT = """
function text(node) {
  if (node.nodeType === Node.TEXT_NODE) return node.textContent.trim() + '\\n';
  if (node.nodeType === Node.ELEMENT_NODE) {
    if (['STYLE', 'SCRIPT', 'NOSCRIPT'].includes(node.tagName)) return '';
    if (getComputedStyle(node).display === 'none') return '';
  }
  const roots = node.shadowRoot ? [node.shadowRoot, node] : [node];
  return roots.flatMap(root => [...root.childNodes]).map(text).join('');
}
return text(document.body);
"""


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """Address of a TensorBoard on the logs of both networks."""
    logs = tmp_path_factory.mktemp("runs")
    mnist_cnn.main(["--compare", "--dataset", "digits", "--epochs", "3", "--output", str(logs)])
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logs), "--port", str(port)]
    address = f"http://localhost:{port}"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            wait_for(lambda: len(fetched(f"{address}/data/runs")) == 5)
            yield address
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def browser():
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--window-size=1500,1100"):
        options.add_argument(argument)
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    with webdriver.Chrome(options=options, service=service) as browser:
        yield browser


def fetched(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def wait_for(condition, seconds=WAIT):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except OSError:
            pass  # not listening yet
        time.sleep(0.5)
    raise AssertionError(f"not so after {seconds} seconds")


def test_the_dashboards_that_are_there(board):
    plugins = fetched(f"{board}/data/plugins_listing")
    assert {name for name, plugin in plugins.items() if plugin["enabled"]} == set(DASHBOARDS)
    runs = fetched(f"{board}/data/plugin/scalars/tags")
    groups = {tag.split("/")[0] for tags in runs.values() for tag in tags}
    assert groups == {"training", "validation", "weights"}


@pytest.mark.parametrize("dashboard", DASHBOARDS)
def test_no_dashboard_is_empty(board, browser, dashboard):
    browser.get("about:blank")  # the board keeps the dashboards that it has shown
    browser.get(f"{board}/#{dashboard}")
    wait_for(lambda: all(text in browser.execute_script(TEXT) for text in DASHBOARDS[dashboard]))
    assert not re.search(EMPTY, browser.execute_script(TEXT))
