"""The function of a stage, which computes one row.

    void stage(operands, weights, geometry, y)

``operands`` is a table of three integers for each operand:

    line buffers and whole maps   address of the first row, number of rows stored (row y is at y modulo that), bytes of
                                  a row
    the output image              address of the lines of one input row, floats between colours, floats between lines
    NCHW                          address of (C, H, W), of which as many floats beyond the end may be read as lanes of a
                                  row are outside the image
    EVERY_SECOND                  address of (C, h, w), h, w
    INTERP_ROWS                   address of the first rows of such maps, unused, address of a table of positions, which
                                  ``fallback`` computes
    ROW_SUMS, PER_CHANNEL         address of (H, C) or (C,)

In fixed point, one more entry follows, with the address of the stage's records: the lowest and the highest number of
each value that is watched, as integers of 64 bits, which the function extends.

``geometry`` has height, width, vectors and blocks of a row, the address of a row of zeros, and that of the words that
`layout.inside` describes. Row y must be inside the image. Rows above and below the image are read as zeros.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial, reduce
from itertools import groupby
from typing import Any

from llvmlite import ir

from lkdn_deploy.backends.native.codegen import activations
from lkdn_deploy.backends.native.codegen.arithmetic import FloatArithmetic, PairArithmetic
from lkdn_deploy.backends.native.codegen.buffers import Buffers, Vectors
from lkdn_deploy.backends.native.codegen.depthwise import DepthwiseEmitter
from lkdn_deploy.backends.native.codegen.fixed_steps import FixedSteps
from lkdn_deploy.backends.native.codegen.minimal import Store, TileEmitter, emit_factors
from lkdn_deploy.backends.native.layout import BLOCK
from lkdn_deploy.backends.native.lower import (
    ChannelGroup,
    Conv,
    DepthwiseConv,
    EpilogueOp,
    FusedKernel,
    LayerNorm,
    Load,
    StageSignature,
    TapLoop,
)
from lkdn_deploy.backends.native.schedule import RowPass
from lkdn_deploy.backends.native.winograd import Factors, MinimalConv
from lkdn_deploy.jit.builder import INT, POINTER, Builder
from lkdn_deploy.jit.sixteen import Pairs, PairUnit

STAGE = ir.FunctionType(ir.VoidType(), [POINTER, POINTER, POINTER, INT])

_PARTIAL_SUMS = 4
"""Independent sums of each vector in a reduction over channels: one alone would wait for the latency of additions."""


def emit_stage(
    module: ir.Module, name: str, signature: StageSignature, lanes: int, unit: PairUnit = PairUnit.GENERIC
) -> None:
    """Add the function of a stage to a module.

    Args:
        module: the module to add it to.
        name: name of the function.
        signature: signature of the stage.
        lanes: number of float32 values of a vector.
        unit: instructions for fixed point.
    """
    function = ir.Function(module, STAGE, name)
    operands, weights, geometry, y = function.args
    b = Builder(function, lanes, anchors=unit is PairUnit.WASM)
    buffers = Buffers(b, signature, operands, geometry, y)
    maths = PairArithmetic(b, Pairs(b, unit)) if signature.fixed else FloatArithmetic(b)
    _StageEmitter(b, signature, buffers, weights, maths).emit()
    b.ret_void()


class _StageEmitter:
    def __init__(
        self,
        builder: Builder,
        signature: StageSignature,
        buffers: Buffers,
        weights: Any,
        maths: FloatArithmetic | PairArithmetic,
    ) -> None:
        self._b, self._signature, self._buffers, self._weights = builder, signature, buffers, weights
        self._maths = maths
        self._fixed = FixedSteps(maths, signature, buffers, weights) if isinstance(maths, PairArithmetic) else None
        convs = [(it.producer, it.epilogue) for it in signature.kernels if isinstance(it.producer, Conv)]
        most = max((group.count for conv, epilogue in convs if epilogue for group in conv.groups), default=1)
        pairs = any(isinstance(it.producer, MinimalConv) and it.producer.paired for it in signature.kernels)
        self._next_row = [buffers.at_next_row()] if pairs else []
        self._accumulated = None if signature.fixed else builder.scratch(most * BLOCK)
        self._longest = max((conv for conv, _ in convs), key=lambda conv: _iterations(*conv.groups), default=None)
        """The convolution during which the next block is prefetched."""
        self._depthwise = DepthwiseEmitter(builder, signature, buffers, weights, maths, self._fixed, self._store)

    def emit(self) -> None:
        self._buffers.begin()
        if self._fixed:
            self._fixed.begin()
        b, blocks = self._b, self._buffers.blocks
        for row_pass, kernels in groupby(self._signature.kernels, lambda it: it.row_pass):
            match row_pass:
                case RowPass.CHANNELS:
                    for kernel in kernels:
                        self._produce(kernel)
                case RowPass.BLOCKS:
                    b.repeat(blocks, partial(self._block, tuple(kernels)))
                case RowPass.TILES:
                    for kernel in kernels:
                        self._produce(kernel)
        self._buffers.end()
        if self._fixed:
            self._fixed.end()

    def _block(self, kernels: Sequence[FusedKernel], index: Any) -> None:
        self._buffers.enter(index)
        for kernel in kernels:
            self._produce(kernel)
            if kernel.result == self._signature.shuffled:
                self._buffers.store_output(kernel.result)

    def _produce(self, kernel: FusedKernel) -> None:
        match kernel.producer:
            case Conv() as conv:
                self._conv(kernel, conv)
            case DepthwiseConv() as conv:
                self._depthwise.emit(kernel, conv)
            case MinimalConv() as conv:
                self._minimal_conv(kernel, conv)
            case Factors(source):
                self._factors(kernel, source)
            case LayerNorm() as norm:
                self._layer_norm(kernel, norm)
            case Load() as load:
                self._load(kernel, load)

    def _store(self, kernel: FusedKernel, channel: Any, values: Vectors) -> None:
        """Apply the kernel's epilogue to the vectors of one channel, or of several, and store them."""
        if self._fixed:
            self._fixed.store(kernel, channel, values)
            return
        computed = [values]
        for op in kernel.epilogue:
            computed.append(self._epilogue_op(op, channel, computed))
        self._buffers.store(kernel.result, channel, computed[-1])

    def _weight(self, offset: Any) -> Any:
        """Return a weight of the stage in all lanes."""
        return self._b.splat_at(self._weights, offset)

    # Producers.

    def _conv(self, kernel: FusedKernel, conv: Conv) -> None:
        if conv.first is None:
            self._groups(kernel, conv)
            return
        with self._b.if_then(self._buffers.has_row(kernel.result, conv.first[0])):
            self._groups(kernel, conv)

    def _groups(self, kernel: FusedKernel, conv: Conv) -> None:
        done = 0
        for group in conv.groups:
            self._b.repeat(INT(group.repeats), partial(self._group, kernel, conv, group, done))
            done += _iterations(group)

    def _group(self, kernel: FusedKernel, conv: Conv, group: ChannelGroup, done: int, index: Any) -> None:
        """Compute one repetition of a group, before which the convolution's loops had ``done`` iterations."""
        b = self._b
        first = b.add(b.mul(index, INT(group.count)), INT(group.first))
        weights = b.at(self._weights, b.add(b.mul(index, INT(group.length)), INT(group.weights)))
        iteration = b.add(b.mul(index, INT(_iterations(group) // group.repeats)), INT(done))
        biases = [self._maths.splat_at(weights, INT(channel)) for channel in range(group.count)]
        sums = [bias for bias in biases for _ in conv.parts]
        for loop in group.loops:
            sums = self._tap_loop(conv, group, loop, weights, iteration, sums)
            iteration = b.add(iteration, INT(loop.count))
        if self._fixed:
            self._fixed.store_all(kernel, b.udiv(first, INT(kernel.channels)), sums)
            return
        if not kernel.epilogue:
            for channel in range(group.count):
                values = sums[channel * len(conv.parts) : (channel + 1) * len(conv.parts)]
                self._buffers.store(kernel.result, b.add(first, INT(channel)), values)
            return
        # In a loop of its own: unrolled for all sums, the epilogue would be most of the code. Meanwhile the sums must
        # not be where the result goes: another thread may have finished the same row there already, and read it.
        for place, value in enumerate(sums):
            b.store_vector(value, b.at(self._accumulated, place * b.lanes))

        def finish(index: Any) -> None:
            start = b.at(self._accumulated, b.mul(index, INT(BLOCK * b.lanes)))
            values = [b.load_vector(b.at(start, part * b.lanes)) for part in range(BLOCK)]
            self._store(kernel, b.add(index, first), values)

        b.repeat(INT(group.count), finish)

    def _tap_loop(
        self, conv: Conv, group: ChannelGroup, loop: TapLoop, weights: Any, iteration: Any, sums: Vectors
    ) -> Vectors:
        b = self._b
        pointer = self._buffers.channel(loop.source, loop.row, INT(loop.start))
        step = self._buffers.channel_steps[loop.source]
        longest = self._longest if conv is self._longest else None
        prefetch = self._buffers.prefetcher(iteration, _iterations(*longest.groups)) if longest else None

        each = len(loop.columns) * group.count

        def body(index: Any, carried: Sequence[Any]) -> Sequence[Any]:
            if prefetch:
                prefetch(index)
            channel = b.anchored(b.at(pointer, b.mul(index, step)))
            start = b.anchored(b.at(b.at(weights, b.mul(index, INT(each))), loop.weights))
            places = (part + column for part in conv.parts for column in loop.columns)
            loaded = self._loaded(loop.source, channel, places)
            found = list(carried)
            for number, column in enumerate(loop.columns):
                for output in range(group.count):
                    weight = self._maths.splat_at(start, INT(number * group.count + output))
                    for at, part in enumerate(conv.parts, output * len(conv.parts)):
                        found[at] = self._maths.multiply_add(weight, loaded[part + column], found[at])
            return found

        return list(b.loop(INT(loop.count), sums, body))

    def _minimal_conv(self, kernel: FusedKernel, conv: MinimalConv) -> None:
        buffers, result = self._buffers, kernel.result
        # Of the output image, only the current block exists.
        is_output = result == self._signature.shuffled
        channels = self._signature.operands[result].channels
        rows = [buffers, *self._next_row] if conv.paired else [buffers]
        tiles = TileEmitter(self._b, rows, self._weights, conv, channels, apart=is_output)

        def finish(row: Buffers, columns: Callable[[Store], None]) -> None:
            self._buffers = row
            columns(partial(self._store, kernel))
            self._buffers = buffers
            if is_output:
                buffers.store_output(result)

        with self._b.if_then(buffers.is_even) if conv.paired else nullcontext():
            tiles.emit(finish)

    def _factors(self, kernel: FusedKernel, source: int) -> None:
        if any(it.result == source for it in self._signature.kernels):
            self._buffers.complete_row(source)
        emit_factors(self._b, self._buffers, source, self._signature.operands[source].channels, kernel.result)

    def _loaded(self, number: int, address: Any, places: Iterable[int]) -> dict[int, Any]:
        """Return vectors of a plane of the current block, by their distance from its first."""
        wanted = sorted(set(places))
        load = self._buffers.vector_loader(number, address, wanted[0])
        return {place: self._maths.typed(load(place)) for place in wanted}

    def _layer_norm(self, kernel: FusedKernel, norm: LayerNorm) -> None:
        b, channels = self._b, norm.channels

        def values(channel: Any) -> Vectors:
            if self._fixed:
                return self._fixed.channel(norm.source, channel, norm.factor)
            return self._buffers.load(norm.source, channel)

        def add(channel: Any, sums: Vectors) -> Vectors:
            return [b.fadd(total, value) for total, value in zip(sums, values(channel), strict=True)]

        share = b.constant(1 / channels)
        means = [] if norm.centred else [b.fmul(total, share) for total in self._reduce(channels, add)]

        def centred(channel: Any) -> Iterator[Any]:
            found = values(channel)
            return (b.fsub(value, mean) for value, mean in zip(found, means, strict=True)) if means else iter(found)

        def add_squares(channel: Any, sums: Vectors) -> Vectors:
            return [b.fma(it, it, total) for it, total in zip([*centred(channel)], sums, strict=True)]

        factors = []
        for total in self._reduce(channels, add_squares):
            deviation = b.intrinsic("sqrt", b.fma(total, share, b.constant(norm.epsilon)))
            factors.append(b.fdiv(b.constant(1), deviation))

        def normalised(channel: Any) -> Vectors:
            weights = b.add(b.mul(channel, INT(2)), INT(norm.weights))
            scale, shift = self._weight(weights), self._weight(b.add(weights, INT(1)))
            return [
                b.fma(b.fmul(value, factor), scale, shift)
                for value, factor in zip(centred(channel), factors, strict=True)
            ]

        def normalise(index: Any) -> None:
            found = [it for channel in self._channels(kernel, index) for it in normalised(channel)]
            self._store(kernel, index, found)

        self._repeat(kernel, -(-channels // kernel.channels), normalise)

    def _reduce(self, channels: int, add: Callable[[Any, Vectors], Vectors]) -> Vectors:
        """Return the sums over all channels; ``add`` adds one channel to a sum of each vector."""
        b = self._b
        rounds, rest = divmod(channels, _PARTIAL_SUMS)
        sums = [b.constant(0)] * (_PARTIAL_SUMS * BLOCK)

        def add_channels(count: int, index: Any, carried: Sequence[Any]) -> Vectors:
            found, first = list(carried), b.mul(index, INT(_PARTIAL_SUMS))
            for place in range(count):
                found[place::_PARTIAL_SUMS] = add(b.add(first, INT(place)), found[place::_PARTIAL_SUMS])
            return found

        if rounds:
            sums = list(b.loop(INT(rounds), sums, partial(add_channels, _PARTIAL_SUMS)))
        sums = add_channels(rest, INT(rounds), sums)
        return [reduce(b.fadd, sums[part * _PARTIAL_SUMS : (part + 1) * _PARTIAL_SUMS]) for part in range(BLOCK)]

    def _load(self, kernel: FusedKernel, load: Load) -> None:
        def body(channel: Any) -> None:
            if self._fixed:
                self._store(kernel, channel, self._fixed.load(kernel, load, channel))
                return
            source = self._b.add(channel, INT(load.first)) if load.first else channel
            self._store(kernel, channel, self._buffers.load(load.source, source))

        self._repeat(kernel, self._signature.operands[kernel.result].channels // kernel.channels, body)

    def _repeat(self, kernel: FusedKernel, count: int, body: Callable[[Any], None]) -> None:
        """Emit a loop over the steps of a kernel."""
        if self._fixed:
            self._fixed.repeat(kernel, INT(count), body)
        else:
            self._b.repeat(INT(count), body)

    def _channels(self, kernel: FusedKernel, index: Any) -> list[Any]:
        """Return the channels of a step of a kernel."""
        each, b = kernel.channels, self._b
        return [index] if each == 1 else [b.add(b.mul(index, INT(each)), INT(it)) for it in range(each)]

    # Epilogues.

    def _epilogue_op(self, op: EpilogueOp, channel: Any, computed: Sequence[Vectors]) -> Vectors:
        """Return the result of an operation; ``computed`` are the producer's and those of the operations before."""
        b, values = self._b, computed[op.left]
        if op.kind in activations.UNARY:
            return [activations.UNARY[op.kind](b, value) for value in values]
        if op.kind == "leaky_relu":
            return [activations.BINARY["prelu"](b, value, b.constant(op.alpha)) for value in values]
        if op.right is not None:
            others = computed[op.right]
        elif op.source is not None:
            shared = self._signature.operands[op.source].channels == 1
            others = self._buffers.load(op.source, INT(0) if shared else channel)
        else:
            others = [self._weight(b.add(channel, INT(op.weights or 0)))] * BLOCK
        return [activations.BINARY[op.kind](b, *pair) for pair in zip(values, others, strict=True)]


def _iterations(*groups: ChannelGroup) -> int:
    """Return the iterations of all loops of some groups."""
    return sum(group.repeats * loop.count for group in groups for loop in group.loops)
