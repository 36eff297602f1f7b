"""TensorRT and TensorRT for RTX: engines built anywhere, run on NVIDIA GPUs."""
