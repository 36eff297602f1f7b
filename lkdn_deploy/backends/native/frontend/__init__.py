"""ONNX to the IR: the graph is imported node by node, and what has no kernel is partitioned off."""
