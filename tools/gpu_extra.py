"""Prints the extra with the TensorRT that is made for the GPU here: `trt-rtx` or `trt`, which `make gpu` installs."""

import sys

from lkdn_deploy.backends.trt.gpu import extra_for, gpu_here, missing_gpu


def main() -> None:
    """Print it, or end with exit code 3 where there is no GPU."""
    gpu = gpu_here()
    if gpu is None:
        print(f"error: {missing_gpu()}", file=sys.stderr)
        sys.exit(3)
    print(f"{gpu.name}, {gpu.capability}, driver {gpu.driver}", file=sys.stderr)
    print(extra_for(gpu))


if __name__ == "__main__":
    main()
