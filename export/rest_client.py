"""Classify photos by TensorFlow Serving's REST interface; needs Python and nothing else.

    python rest_client.py --model pets PHOTO... [--url http://localhost:8501] [--version 1] [--top 3]

The files are sent as they are; decoding, resizing and class names are the server's work.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any


def classify(url: str, model: str, images: list[bytes], *, version: int | None = None, timeout_s: float = 30) -> Any:
    """The server's answers, one for each encoded image: ``{"classes", "scores", "probabilities", …}``.

    Raises: RuntimeError with the server's own words when it refuses, OSError when it cannot be reached.
    """
    place = f"{url.rstrip('/')}/v1/models/{model}{f'/versions/{version}' if version is not None else ''}:predict"
    rows = [{"image_bytes": {"b64": base64.b64encode(image).decode()}} for image in images]
    body = json.dumps({"signature_name": "image_bytes", "instances": rows}).encode()
    request = urllib.request.Request(place, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:
            return json.load(response)["predictions"]
    except urllib.error.HTTPError as error:
        words = error.read().decode(errors="replace")
        # Something in between may have answered, in words of its own.
        with contextlib.suppress(ValueError, KeyError, TypeError):
            words = json.loads(words)["error"]
        raise RuntimeError(f"{error.code}: {words}") from None


def main() -> int:
    """Run as a script: 0 done, 1 a photo was refused, 2 no server."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--model", required=True, help="the model's name at the server")
    parser.add_argument("--url", default="http://localhost:8501")
    parser.add_argument("--version", type=int, help="the newest by default")
    parser.add_argument("--top", type=int, default=3, help="classes to show, as far as the export lists them")
    options = parser.parse_args()
    failed = 0
    for photo in options.photos:
        try:
            image = photo.read_bytes()
        except OSError as error:
            failed = 1
            print(f"{photo}: {error.strerror}", file=sys.stderr)
            continue
        try:
            # One request for each photo: a file that is refused costs no other its answer.
            (answer,) = classify(options.url, options.model, [image], version=options.version)
        except RuntimeError as error:
            failed = 1
            print(f"{photo}: {error}", file=sys.stderr)
            continue
        except OSError as error:
            print(f"no server at {options.url} ({error})", file=sys.stderr)
            return 2
        best = list(zip(answer["classes"], answer["scores"], strict=True))[: options.top]
        print(f"{photo}: {'  '.join(f'{name} {score:.3f}' for name, score in best)}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
