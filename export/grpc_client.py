"""Classify photos by TensorFlow Serving's gRPC interface; needs ``pip install tensorflow-serving-api``.

    python grpc_client.py --model pets PHOTO... [--address localhost:8500] [--version 1] [--top 3]

The files are sent as they are, all in one request; decoding, resizing and class names are the server's work.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import grpc
from tensorflow import make_ndarray, make_tensor_proto
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc


def classify(
    channel: grpc.Channel, model: str, images: list[bytes], *, version: int | None = None, timeout_s: float = 30
) -> dict[str, np.ndarray]:
    """The server's answers by name (``classes`` as bytes, ``scores``, ``probabilities`` …), a row for each image.

    Raises: grpc.RpcError when the server refuses (INVALID_ARGUMENT) or cannot be reached (UNAVAILABLE).
    """
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = "image_bytes"
    if version is not None:
        request.model_spec.version.value = version
    request.inputs["image_bytes"].CopyFrom(make_tensor_proto(images, shape=[len(images)]))
    service = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    response: Any = service.Predict(request, timeout=timeout_s)
    return {name: make_ndarray(value) for name, value in response.outputs.items()}


def main() -> int:
    """Run as a script: 0 done, 1 the server refused, 2 no server or no photo."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--model", required=True, help="the model's name at the server")
    parser.add_argument("--address", default="localhost:8500")
    parser.add_argument("--version", type=int, help="the newest by default")
    parser.add_argument("--top", type=int, default=3, help="classes to show, as far as the export lists them")
    options = parser.parse_args()
    try:
        images = [photo.read_bytes() for photo in options.photos]
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    with grpc.insecure_channel(options.address, [("grpc.max_send_message_length", -1)]) as channel:
        try:
            answers = classify(channel, options.model, images, version=options.version)
        except grpc.RpcError as error:
            print(f"{error.code().name}: {error.details()}", file=sys.stderr)
            return 2 if error.code() is grpc.StatusCode.UNAVAILABLE else 1
    for photo, names, scores in zip(options.photos, answers["classes"], answers["scores"], strict=True):
        best = list(zip(names, scores, strict=True))[: options.top]
        print(f"{photo}: {'  '.join(f'{name.decode()} {score:.3f}' for name, score in best)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
