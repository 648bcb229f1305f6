"""The cache of checkpoints, and downloads from a server on this machine."""
import hashlib
import http.server
import io
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from tritium import hub
from tritium.tensor.graph import wrap
from tritium.tensor.reader import CheckpointError
from tritium.tensor.serialization import load, save
from tritium.utils.model_zoo import load_url


def content():
    file = io.BytesIO()
    save({"a": wrap(np.arange(3.0))}, file)
    return file.getvalue()


DATA = content()
HASH = hashlib.sha256(DATA).hexdigest()
NAME = f"net-{HASH[:8]}.pth"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append((self.path, self.headers["User-Agent"]))
        if self.path.startswith("/lead/"):
            self.send_response(302)
            self.send_header("Location", self.path[5:])
            self.end_headers()
            return
        if self.path.endswith(".pth"):
            self.send_response(200)
            if "nolength" not in self.path:
                self.send_header("Content-Length", str(len(DATA)))
            self.end_headers()
            self.wfile.write(DATA[:100] if "short" in self.path else DATA)
        else:
            self.send_error(404)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def server():
    found = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.asked = []
    found.url = f"http://127.0.0.1:{found.server_port}/"
    thread = threading.Thread(target=found.serve_forever)
    thread.start()
    yield found
    found.shutdown()
    thread.join()
    found.server_close()


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    for name in ("TRITIUM_HOME", "TORCH_HOME", "XDG_CACHE_HOME", "http_proxy", "https_proxy", "HTTP_PROXY",
                 "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    return tmp_path


def test_the_folders(home, monkeypatch):
    cache = home / ".cache"
    assert hub.get_dir() == str(cache / "tritium" / "hub")
    assert hub.checkpoint_dirs() == [str(cache / n / "hub" / "checkpoints") for n in ("tritium", "torch")]
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "x"))
    assert hub.get_dir() == str(home / "x" / "tritium" / "hub")
    monkeypatch.setenv("TORCH_HOME", "~/t")
    assert hub.get_dir() == str(home / "t" / "hub")
    monkeypatch.setenv("TRITIUM_HOME", str(home / "own"))
    assert hub.get_dir() == str(home / "own" / "hub")
    assert [Path(d).parts[-3] for d in hub.checkpoint_dirs()] == ["own", "t", "tritium", "torch"]
    hub.set_dir(home / "chosen")
    try:
        assert hub.checkpoint_dirs() == [str(home / "chosen" / "checkpoints")]
    finally:
        hub.set_dir(None)
    assert hub.get_dir() == str(home / "own" / "hub")


def test_finding_a_file(home, monkeypatch):
    monkeypatch.setenv("TRITIUM_HOME", str(home / "own"))
    monkeypatch.setenv("TORCH_HOME", str(home / "t"))
    assert hub.find_checkpoint("a.pth", "b.pth") is None
    for folder, name in (("t", "a.pth"), ("own", "b.pth")):
        path = home / folder / "hub" / "checkpoints" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(DATA)
    assert hub.find_checkpoint("a.pth") == str(home / "t" / "hub" / "checkpoints" / "a.pth")
    assert hub.find_checkpoint("a.pth", "b.pth") == str(home / "own" / "hub" / "checkpoints" / "b.pth")


def test_a_cached_file_is_used_without_asking_anybody(home, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(home / "t"))
    path = home / "t" / "hub" / "checkpoints" / "net-00000000.pth"  # not its hash
    path.parent.mkdir(parents=True)
    path.write_bytes(DATA)
    found = hub.load_state_dict_from_url("https://127.0.0.1:1/x/net-00000000.pth?q=1", check_hash=True)
    assert found["a"]._a.tolist() == [0, 1, 2]


def test_download(server, home, capsys):
    for url in (server.url + NAME, server.url + "lead/" + NAME):
        server.asked.clear()
        folder = home / hashlib.md5(url.encode()).hexdigest()
        found = hub.load_state_dict_from_url(url, folder, "cpu", check_hash=True)
        assert found["a"]._a.tolist() == [0, 1, 2]
        assert os.listdir(folder) == [NAME] and (folder / NAME).read_bytes() == DATA
        assert server.asked[-1] == ("/" + NAME, "tritium.hub")
        shown = capsys.readouterr()
        assert f'Downloading: "{url}" to {folder / NAME}' in shown.out and "100%" in shown.err
        asked = len(server.asked)
        load_url(url, model_dir=str(folder))
        assert len(server.asked) == asked
    hub.load_state_dict_from_url(server.url + "nolength.pth", progress=False, file_name="other.pth")
    assert load(os.path.join(hub.get_dir(), "checkpoints", "other.pth"))["a"]._a.tolist() == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_a_wrong_hash(server, home):
    with pytest.raises(RuntimeError, match=f'invalid hash value .expected "12345678", got "{HASH}"'):
        hub.load_state_dict_from_url(server.url + "net-12345678.pth", home / "d", check_hash=True,
                                     progress=False)
    assert os.listdir(home / "d") == []
    assert hub.load_state_dict_from_url(server.url + "net-12345678.pth", home / "d", progress=False)


@pytest.mark.parametrize(("path", "reason"), [("missing.bin", "404 Not Found"),
                                              ("short.pth", "ended after 100 of")])
def test_a_failed_download_leaves_nothing_and_says_what_to_do(server, home, path, reason):
    with pytest.raises(ConnectionError) as error:
        hub.download_url_to_file(server.url + path, home / "w.pth", progress=False)
    text = str(error.value)
    assert text.startswith(f"cannot download {server.url}{path} (") and reason in text
    assert f"put the file into {home} as w.pth" in text
    assert os.listdir(home) == []


def test_no_network(home):
    with pytest.raises(ConnectionError, match=r"cannot download https://127.0.0.1:1/w.pth .*: put the file"):
        hub.load_state_dict_from_url("https://127.0.0.1:1/w.pth")
    assert os.listdir(home / ".cache" / "tritium" / "hub" / "checkpoints") == []


def test_other_addresses(server, home):
    for url in ("file:///etc/passwd", "ftp://x/y.pth", "y.pth"):
        with pytest.raises(ValueError, match="only https and http"):
            hub.download_url_to_file(url, home / "w.pth")
    with pytest.raises(ValueError, match="file name"):
        hub.load_state_dict_from_url("https://host/")
    with pytest.raises(ValueError, match="file name"):
        hub.load_state_dict_from_url("https://host/x.pth", file_name="../x.pth")
    with pytest.raises(RuntimeError, match="Parent directory"):
        hub.download_url_to_file(server.url + NAME, home / "none" / "w.pth")


def test_no_way_from_https_to_http():
    from urllib.error import URLError
    from urllib.request import Request

    opened = []

    class Opener:
        def open(self, request, timeout):
            opened.append((request, timeout))

    import urllib.request

    build = urllib.request.build_opener
    try:
        handlers = []
        urllib.request.build_opener = lambda handler: handlers.append(handler()) or Opener()
        hub._open("https://host/x.pth")
    finally:
        urllib.request.build_opener = build
    assert opened[0][1] > 0
    secure, plain = Request("https://host/x"), Request("http://host/x")
    with pytest.raises(URLError, match="not https"):
        handlers[0].redirect_request(secure, None, 302, "Found", {}, "http://host/y")
    assert handlers[0].redirect_request(secure, None, 302, "Found", {},
                                        "https://other/y").full_url == "https://other/y"
    assert handlers[0].redirect_request(plain, None, 302, "Found", {}, "http://other/y") is not None


def test_a_damaged_cached_file_is_named(home):
    path = home / "d" / "x.pth"
    path.parent.mkdir()
    path.write_bytes(DATA[:200])
    with pytest.raises(CheckpointError, match="x.pth"):
        hub.load_state_dict_from_url("https://host/x.pth", home / "d")


def test_code_from_repositories_is_not_run():
    with pytest.raises(NotImplementedError, match="run code from a repository"):
        hub.load("pytorch/vision", "resnet18")
