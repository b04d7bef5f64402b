"""A static folder in which a browser classifies photos by itself: a page, the ONNX file, ONNX Runtime Web.

The runtime's three files (15 MB) are too much for a Python package. They are taken from a folder that the user
names, else from the cache, else npm fetches them once into the cache.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from importlib import resources
from pathlib import Path

from tlkeras.errors import ExportError
from tlkeras.runtime import OnnxClassifier
from tlkeras.storage import cache_root, disk_errors, sha256_of, staged_folder, write_bytes, write_json

PAGE_FILES = ("index.html", "page.css", "page.js")
MODEL_FILE = "model.onnx"
DESCRIPTION_FILE = "classifier.json"
RUNTIME_FILES = ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
RUNTIME_VERSION = "1.30.0"
# Of the package as npm's registry holds it: what a browser is given to run is what was tested.
RUNTIME_SHA256 = "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71"
RUNTIME_VARIABLE = "TLKERAS_ORT_WEB"
NPM_SECONDS = 300


def write_web(onnx_path: Path, folder: Path) -> None:
    """Write a page that classifies photos with ``onnx_path`` into ``folder``, which appears whole or not at all.

    Served by any file server (``python3 -m http.server``) it works offline, and photos never leave the browser.

    Raises: ClassifierError when ``onnx_path`` is no exported classifier; ExportError when the runtime's files cannot
    be had; StorageError when ``folder`` exists or the disk refuses.
    """
    metadata = OnnxClassifier.load(onnx_path).metadata
    described = {**metadata, "class_names": json.loads(metadata["class_names"]), "size_px": int(metadata["size_px"])}
    source = runtime_folder()
    page = resources.files("tlkeras.export") / "page"
    with staged_folder(folder) as staged, disk_errors(folder):
        for name in PAGE_FILES:
            write_bytes(staged / name, (page / name).read_bytes())
        for name in RUNTIME_FILES:
            shutil.copyfile(source / name, staged / name)
        shutil.copyfile(onnx_path, staged / MODEL_FILE)
        write_json(staged / DESCRIPTION_FILE, {**described, "model_sha256": sha256_of(staged / MODEL_FILE)})


def runtime_folder() -> Path:
    """The folder with ONNX Runtime Web's files: ``TLKERAS_ORT_WEB``, else the cache, filled by npm.

    Raises: ExportError that says what to fetch and where to put it.
    """
    if os.environ.get(RUNTIME_VARIABLE):
        named = Path(os.environ[RUNTIME_VARIABLE]).expanduser()
        for folder in (named, named / "dist", named / "node_modules" / "onnxruntime-web" / "dist"):
            if _is_complete(folder):
                return folder
        missing = [name for name in RUNTIME_FILES if not (named / name).is_file()]
        raise ExportError(f"'{named}' must hold ONNX Runtime Web", received=f"a folder without {missing[0]}",
                          next_step=_how_to_fetch())  # fmt: skip
    kept = cache_root() / f"onnxruntime-web-{RUNTIME_VERSION}"
    if not _is_complete(kept):
        _fetch(kept)
    return kept


def _is_complete(folder: Path) -> bool:
    return all((folder / name).is_file() for name in RUNTIME_FILES)


def _how_to_fetch() -> str:
    return (
        f"Fetch it by 'npm pack onnxruntime-web@{RUNTIME_VERSION}', unpack it, and set {RUNTIME_VARIABLE} to the "
        "folder that holds its dist/*.js, .mjs and .wasm files"
    )


def _fetch(target: Path) -> None:
    """Let npm download the package, check it against ``RUNTIME_SHA256`` and keep three files of it."""
    npm = shutil.which("npm")
    if npm is None:
        raise ExportError(
            "a web page needs ONNX Runtime Web, and there is no npm to fetch it", next_step=_how_to_fetch()
        )
    with tempfile.TemporaryDirectory(prefix="tlkeras-") as folder:
        command = [npm, "pack", f"onnxruntime-web@{RUNTIME_VERSION}", "--ignore-scripts", "--silent"]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=NPM_SECONDS)
            failed = done.stderr.strip() or done.stdout.strip() if done.returncode else ""
        except subprocess.TimeoutExpired:
            failed = f"no answer within {NPM_SECONDS} s"
        archives = list(Path(folder).glob("*.tgz"))
        if failed or not archives:
            words = (failed.splitlines() or ["no file"])[-1][:200]
            raise ExportError(f"npm could not fetch ONNX Runtime Web ({words})", next_step=_how_to_fetch())
        if sha256_of(archives[0]) != RUNTIME_SHA256:
            raise ExportError(
                f"npm gave another onnxruntime-web {RUNTIME_VERSION} than was tested (its SHA-256 differs)",
                next_step=_how_to_fetch(),
            )
        with disk_errors(target):
            shutil.rmtree(target, ignore_errors=True)  # an incomplete one
        with staged_folder(target) as staged, tarfile.open(archives[0]) as archive:
            for name in RUNTIME_FILES:
                stored = archive.extractfile(f"package/dist/{name}")
                assert stored is not None, name  # the hash has vouched for it
                write_bytes(staged / name, stored.read())
