"""The front end: an ONNX graph as a program, and the parts of it that are left to ONNX Runtime."""
