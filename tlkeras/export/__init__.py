"""Exports that give the same answers as Python: SavedModel, ONNX, a web page; checked, then published."""
