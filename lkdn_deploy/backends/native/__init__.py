"""The native engine: a compiler for local convolutional networks on the CPU.

    ONNX ──frontend──▶ ir ──schedule──▶ segments ──lower──▶ stages ──codegen──▶ LLVM ──jit──▶ machine code

``frontend``   imports an ONNX graph node by node as a `Program` of local operations on feature maps of the input's
               size. What has no kernel is partitioned off, as subgraphs that ``fallback`` runs in ONNX Runtime.
``schedule``   fuses elementwise operations into the ones before them, groups operations into stages, which compute a
               row together, and stages into segments, which pass over the image. Between stages there are line
               buffers of a few rows; between segments there are whole maps, and the threads synchronise.
``lower``      turns a stage into a signature and an array of weights. Stages with equal signatures share code.
``codegen``    emits a function for each signature, which computes one row (``stage`` the arithmetic, ``buffers`` loads
               and stores in the layout that ``layout`` describes), the loops over rows and threads, and the output.
``compile``    runs all of these for one processor; ``jit`` compiles the functions and caches them.
``executor``   has the memory for images of one size, and runs the compiled network on it.
``session``    is the backend that the rest of the toolkit uses.
"""
