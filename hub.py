"""Where published checkpoints are kept, and how they get there.

A file is looked for in the folders of ``checkpoint_dirs()``, and downloaded into the first of them. A file
that is already there is used as it is; the hash in its name is checked after a download only.
https://docs.pytorch.org/docs/stable/hub.html
"""
from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

_HASH = re.compile(r"-([a-f0-9]{8,})\.")
_CHUNK = 1 << 17
_TIMEOUT = 30  # seconds without an answer

_chosen: str | None = None


def get_dir() -> str:
    """The folder of downloads: what ``set_dir`` said, else ``$TRITIUM_HOME/hub``, ``$TORCH_HOME/hub``, or
    ``tritium/hub`` under ``$XDG_CACHE_HOME`` (``~/.cache``)."""
    return _homes()[0]


def set_dir(d: Any) -> None:
    """Use this folder and no other. None goes back to the environment."""
    global _chosen
    _chosen = None if d is None else os.path.expanduser(os.fspath(d))


def _homes() -> list[str]:
    if _chosen is not None:
        return [_chosen]
    homes = [os.environ[name] for name in ("TRITIUM_HOME", "TORCH_HOME") if os.environ.get(name)]
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache")
    homes += [os.path.join(cache, name) for name in ("tritium", "torch")]
    return list(dict.fromkeys(os.path.join(os.path.expanduser(home), "hub") for home in homes))


def checkpoint_dirs() -> list[str]:
    """The folders in which checkpoints are looked for, in order. The first one takes the downloads; the
    others, PyTorch's own among them, are only read."""
    return [os.path.join(home, "checkpoints") for home in _homes()]


def find_checkpoint(*names: str) -> str | None:
    """The path of the first of these files that is in a cache folder; None when there is none."""
    for folder in checkpoint_dirs():
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path):
                return path
    return None


def load_state_dict_from_url(url: str, model_dir: Any = None, map_location: Any = None, progress: bool = True,
                             check_hash: bool = False, file_name: str | None = None,
                             weights_only: bool = True) -> Any:
    """The checkpoint at ``url``, from the cache or downloaded into it; then ``tritium.load``.

    ``model_dir``: a folder to use instead of the cache. ``check_hash``: the name of the file ends in the
    first digits of its SHA-256 (``resnet18-f37072fd.pth``), and a download must have it. ``file_name``: its
    name in the folder. Raises ConnectionError when it can not be downloaded, RuntimeError for a wrong hash,
    and what ``load`` raises.
    https://docs.pytorch.org/docs/stable/hub.html#torch.hub.load_state_dict_from_url"""
    from tritium.tensor.serialization import load as load_file

    name = file_name or os.path.basename(urlsplit(url).path)
    if not name or os.path.basename(name) != name:
        raise ValueError(f"{url!r} does not end in a file name: pass file_name=")
    if model_dir is None:
        path = find_checkpoint(name) or os.path.join(checkpoint_dirs()[0], name)
    else:
        path = os.path.join(os.path.expanduser(os.fspath(model_dir)), name)
    if not os.path.exists(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        sys.stdout.write(f'Downloading: "{url}" to {path}\n')
        found = _HASH.search(name) if check_hash else None
        download_url_to_file(url, path, found.group(1) if found else None, progress)
    return load_file(path, map_location, weights_only=weights_only)


def load(repo_or_dir: str, model: str, *args: Any, **kwargs: Any) -> Any:
    """Raises NotImplementedError: tritium does not run code that is downloaded from a repository."""
    raise NotImplementedError(f"hub.load({repo_or_dir!r}, {model!r}) would run code from a repository, which "
                              "tritium does not do: use tritium.models, or hub.load_state_dict_from_url")


def download_url_to_file(url: str, dst: Any, hash_prefix: str | None = None, progress: bool = True) -> None:
    """Download ``url`` to the path ``dst``, which appears when all of it is there and has the right hash.

    ``hash_prefix``: how the SHA-256 of the file begins, in hexadecimal. ``progress``: a bar on stderr. The
    scheme is
    https, or http where the URL says so; a server cannot lead from https to http. Raises ConnectionError,
    with the folder to put the file into, when the download fails; RuntimeError for a wrong hash; ValueError
    for another scheme."""
    from hashlib import sha256
    from http.client import HTTPException

    from tritium.tensor.files import atomic

    if urlsplit(url).scheme not in ("https", "http"):
        raise ValueError(f"cannot download {url!r}: only https and http are supported")
    path = os.path.expanduser(os.fspath(dst))
    digest = sha256()
    with atomic(path) as file:
        chunks = _chunks(url, progress)
        while True:
            try:
                chunk = next(chunks, None)
            except (OSError, HTTPException) as error:
                reason = getattr(error, "reason", None) or error
                code = f"{error.code} " if hasattr(error, "code") else ""
                raise ConnectionError(f"cannot download {url} ({code}{reason}): put the file into "
                                      f"{os.path.dirname(path)} as {os.path.basename(path)}") from error
            if chunk is None:
                break
            file.write(chunk)
            digest.update(chunk)
        if hash_prefix and not digest.hexdigest().startswith(hash_prefix.lower()):
            raise RuntimeError(f'invalid hash value (expected "{hash_prefix}", got '
                               f'"{digest.hexdigest()}")')


def _chunks(url: str, progress: bool) -> Iterator[bytes]:
    """The bytes at ``url``, piece by piece."""
    from tqdm import tqdm

    with _open(url) as answer:
        text = answer.headers.get("Content-Length") or ""
        size = int(text) if text.isdecimal() else None
        done = 0
        with tqdm(total=size, disable=not progress, unit="B", unit_scale=True, unit_divisor=1024) as bar:
            while chunk := answer.read(_CHUNK):
                done += len(chunk)
                bar.update(len(chunk))
                yield chunk
        if size is not None and done != size:
            raise ConnectionError(f"it ended after {done} of {size} bytes")


def _open(url: str) -> Any:
    from urllib.error import URLError
    from urllib.request import HTTPRedirectHandler, Request, build_opener

    class NoDowngrade(HTTPRedirectHandler):
        def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any,
                             newurl: str) -> Any:
            if urlsplit(newurl).scheme != "https" and req.type == "https":
                raise URLError(f"the server leads to {newurl}, which is not https")
            return super().redirect_request(req, fp, code, msg, headers, newurl)

    request = Request(url, headers={"User-Agent": "tritium.hub"})
    return build_opener(NoDowngrade).open(request, timeout=_TIMEOUT)
