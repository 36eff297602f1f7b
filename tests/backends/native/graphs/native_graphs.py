"""ONNX graphs for the native engine, and their execution by it and by ONNX Runtime."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from lkdn_deploy.backends.native.compile import CompiledNetwork
from lkdn_deploy.backends.native.executor import Executor
from lkdn_deploy.backends.native.frontend.importer import import_program
from lkdn_deploy.core.protocols import Part
from lkdn_deploy.jit.compiler import Processor, processor

Batch = NDArray[np.float32]
HERE = processor()
POOL = ThreadPoolExecutor(8)
PROCESSORS = {
    "this": HERE,
    "8 lanes": replace(HERE, lanes=8, max_outputs=5),
    "4 lanes": replace(HERE, lanes=4, max_outputs=4),
}


class Graph:
    """An ONNX graph under construction; methods that add a node or a constant return the name of the tensor."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self.channels = {"lr": 3, "": 0}

    def constant(self, values: NDArray[Any]) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(np.array(values), name))
        self.channels[name] = len(values) if values.ndim else 1
        return name

    def numbers(self, *shape: int, spread: float = 1) -> str:
        return self.constant((self.random.standard_normal(shape) * spread).astype(np.float32))

    def op(self, kind: str, *inputs: str, channels: int | None = None, **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        self.channels[name] = self.channels[inputs[0]] if channels is None else channels
        return name

    def convolution(
        self,
        value: str,
        count: int,
        size: tuple[int, int] = (1, 1),
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> str:
        each = self.channels[value] // groups
        weight = self.numbers(count, each, *size, spread=(each * size[0] * size[1]) ** -0.5)
        pads = [side // 2 * dilation for side in size] * 2
        inputs = [value, weight, *([self.numbers(count, spread=0.3)] if bias else [])]
        return self.op("Conv", *inputs, channels=count, pads=pads, dilations=[dilation] * 2, group=groups)

    def depthwise(self, value: str, size: tuple[int, int] = (3, 3), dilation: int = 1) -> str:
        return self.convolution(value, self.channels[value], size, dilation, groups=self.channels[value])

    def norm(self, value: str) -> str:
        count = self.channels[value]
        last = self.op("Transpose", value, perm=[0, 2, 3, 1])
        weights = self.constant(1 + self.random.random(count).astype(np.float32)), self.numbers(count, spread=0.3)
        normed = self.op("LayerNormalization", last, *weights, axis=-1, epsilon=1e-5)
        return self.op("Transpose", normed, perm=[0, 3, 1, 2])

    def silu(self, value: str) -> str:
        return self.op("Mul", value, self.op("Sigmoid", value))

    def attention(self, value: str, other: str) -> str:
        """SPAN's: a function of a value several times over."""
        odd = self.op("Sub", self.op("Sigmoid", value), self.constant(np.float32(0.5)))
        return self.op("Mul", self.op("Add", other, value), odd)

    def unit(self, value: str) -> str:
        """Divide the channels of each pixel by their length."""
        squares = self.op("Mul", value, value)
        total = self.op("ReduceSum", squares, self.constant(np.array([1])), channels=1, keepdims=1)
        least = self.constant(np.float32(1e-12))
        return self.op("Div", value, self.op("Clip", self.op("Sqrt", total), least))

    def part(self, value: str, first: int, last: int) -> str:
        bounds = (self.constant(np.array([it])) for it in (first, last, 1))
        return self.op("Slice", value, *bounds, channels=len(range(self.channels[value])[first:last]))

    def split(self, value: str, *lengths: int) -> list[str]:
        """Split the channels of a map, in two halves unless lengths are given."""
        names = [f"v{len(self.nodes)}_{part}" for part in range(len(lengths) or 2)]
        inputs = [value, *([self.constant(np.array(lengths))] if lengths else [])]
        halves = {} if lengths else {"num_outputs": 2}
        self.nodes.append(helper.make_node("Split", inputs, names, axis=1, **halves))
        self.channels |= dict(zip(names, lengths or [self.channels[value] // 2] * 2, strict=True))
        return names

    def larger(self, value: str, times: int, mode: str = "CRD") -> str:
        return self.op("DepthToSpace", value, channels=self.channels[value] // times**2, blocksize=times, mode=mode)

    def stretched(self, value: str) -> str:
        """Resize a map to the size of the input."""
        sides = self.op("Shape", value, end=2), self.op("Shape", "lr", start=2)
        return self.op("Resize", value, "", "", self.op("Concat", *sides, channels=0, axis=0), mode="linear")

    def model(self, output: str, sides: Sequence[Any] = ("h", "w")) -> bytes:
        nodes = [*self.nodes, helper.make_node("Identity", [output], ["sr"])]
        inputs = [helper.make_tensor_value_info("lr", TensorProto.FLOAT, ["n", 3, *sides])]
        outputs = [helper.make_tensor_value_info("sr", TensorProto.FLOAT, [None] * 4)]
        graph = helper.make_graph(nodes, "g", inputs, outputs, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
        onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString())


def noise(height: int, width: int) -> Batch:
    return np.random.default_rng(height * 1000 + width).random((3, height, width), np.float32)


def clouds(height: int, width: int) -> Batch:
    """Return a smooth image: trained networks map white noise to values outside 0..1."""
    from PIL import Image

    small = np.random.default_rng(height).integers(0, 256, (height // 6 + 2, width // 6 + 2, 3), np.uint8)
    image = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image, np.float32).transpose(2, 0, 1) / 255


class Run:
    """An executor, called with an image."""

    def __init__(self, network: CompiledNetwork, height: int, width: int, threads: int = 1) -> None:
        self._executor = Executor(network, height, width, threads)
        self._shape = 3, height * network.scale, width * network.scale

    def __call__(self, image: Batch) -> Batch:
        result = np.full(self._shape, np.nan, np.float32)
        self.write(image, np.s_[:, :], result)
        return result

    def write(self, image: Batch, part: Part, target: NDArray[Any]) -> None:
        self._executor.run(image, part, target, POOL)

    def extremes(self) -> NDArray[np.int16]:
        return self._executor.extremes()

    def working_memory(self) -> Batch:
        """Return the memory that runs write to."""
        zeros = self._executor._zeros
        memory = zeros.base
        assert isinstance(memory, np.ndarray)
        return memory[(zeros.ctypes.data - memory.ctypes.data) // memory.itemsize + zeros.size :]


def compiled(model: bytes, target: Processor = HERE) -> CompiledNetwork:
    return CompiledNetwork(import_program(model), target)


def native(model: bytes, image: Batch, target: Processor = HERE, threads: int = 1) -> Batch:
    return Run(compiled(model, target), *image.shape[1:], threads)(image)


def reference(model: bytes, image: Batch) -> Batch:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"lr": image[None]})[0][0])


def check(
    model: bytes, image: Batch, target: Processor = HERE, threads: int = 1, atol: float = 2e-5, rtol: float = 0
) -> Batch:
    """Compare the native engine's result with ONNX Runtime's, and return it."""
    result, expected = native(model, image, target, threads), reference(model, image)
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, rtol, atol)
    return result


def everything(graph: Graph) -> str:
    """A network with every operator that has a kernel."""
    head = graph.convolution("lr", 7, (3, 3))
    distilled = graph.op("Gelu", graph.convolution(head, 5))
    refined = graph.op("Gelu", graph.depthwise(graph.convolution(head, 6, bias=False)))
    joined = graph.op("Concat", distilled, refined, channels=11, axis=1)
    wide = graph.convolution(joined, 29)
    attention = graph.depthwise(graph.depthwise(graph.convolution(wide, 29), (5, 5)), (5, 5), 3)
    normed = graph.norm(graph.convolution(graph.op("Mul", wide, attention), 7))
    body = graph.op("Add", normed, head)
    flat = graph.depthwise(graph.op("LeakyRelu", body, alpha=0.1), (1, 7))
    tall = graph.op("Relu", graph.convolution(flat, 8, (3, 1), groups=1))
    grouped = graph.op("PRelu", graph.convolution(tall, 8, (3, 3), 2, groups=4), graph.numbers(8, 1, 1))
    scaled = graph.op("Sub", graph.op("Mul", grouped, graph.numbers(1, 8, 1, 1)), graph.constant(np.float32([[[0.1]]])))
    active = graph.silu(graph.op("Tanh", graph.convolution(graph.part(scaled, 1, -2), 6)))
    attended = graph.attention(graph.convolution(active, 6, (3, 3)), active)
    doubled = graph.convolution(graph.unit(attended), 12, (3, 3), groups=6)
    away = graph.op("Div", scaled, graph.op("ReduceL2", scaled, graph.constant(np.array([1])), channels=1))
    copies = graph.op("Add", graph.convolution(doubled, 8, (3, 3)), graph.convolution("lr", 8))
    near = graph.op("Add", scaled, graph.op("Clip", away, "", graph.constant(np.float32(0.4))))
    scaled = graph.op("Add", copies, near)
    first = graph.larger(graph.convolution(scaled, 24, (3, 3)), 2)
    second = graph.larger(graph.convolution(graph.op("LeakyRelu", first, alpha=0.2), 12, (3, 3)), 2, "DCR")
    return graph.op("Add", second, graph.constant(np.float32([[[1.4]], [[0.3]], [[-0.9]]])))


def attentive(graph: Graph, stride: int = 2) -> str:
    """A network with attention over the whole image, spatial as in ESA and by channel as in CCA."""
    head = graph.convolution("lr", 40, (3, 3))
    wide = graph.op("Relu", graph.convolution(head, 40, (3, 3)))
    few = graph.convolution(wide, 5)
    small = graph.op("Conv", few, graph.numbers(5, 5, 3, 3, spread=0.2), graph.numbers(5), strides=[stride] * 2)
    pooled = graph.convolution(graph.op("MaxPool", small, kernel_shape=[5, 5], strides=[3, 3]), 5, (3, 3))
    places = graph.stretched(pooled)
    weighed = graph.op("Sigmoid", graph.convolution(graph.op("Add", places, graph.convolution(few, 5)), 40))
    product = graph.op("Mul", wide, weighed)
    axes = graph.constant(np.array([2, 3]))
    mean = graph.op("ReduceMean", product, axes)
    away = graph.op("Pow", graph.op("Sub", product, mean), graph.constant(np.array(2, np.float32)))
    contrast = graph.op("Add", graph.op("Sqrt", graph.op("ReduceMean", away, axes)), mean)
    channels = graph.op("Sigmoid", graph.convolution(contrast, 40))
    body = graph.op("Add", graph.op("Mul", channels, product), head)
    pooled_channels = graph.op("Relu", graph.convolution(graph.op("GlobalAveragePool", body), 40))
    shifted = graph.op("Add", body, pooled_channels)
    flat = graph.constant((graph.random.standard_normal((12, 40)) / 6).astype(np.float32))
    weight = graph.op("Unsqueeze", flat, graph.constant(np.array([2, 3])), channels=12)
    last = graph.op("Div", graph.op("Conv", shifted, weight, channels=12), graph.constant(np.float32([[[1.7]]])))
    return graph.larger(last, 2)


def dense(channels: int, seed: int = 0) -> bytes:
    """A network of dense convolutions, one of two values, with epilogues, and others in the same stages."""
    graph = Graph(seed)
    head = graph.convolution("lr", channels, (3, 3))
    first = graph.silu(graph.convolution(head, channels, (3, 3)))
    second = graph.op("LeakyRelu", graph.convolution(graph.op("Add", first, head), channels + 3, (3, 3)), alpha=0.1)
    near = graph.convolution(graph.convolution(second, channels), channels, (3, 3))
    both = graph.op("Concat", near, second, channels=2 * channels + 3, axis=1)
    flat = graph.op("Mul", graph.convolution(both, channels, (1, 3)), graph.depthwise(near))
    return graph.model(graph.larger(graph.convolution(graph.op("Add", flat, head), 12, (3, 3)), 2))


GRAPH, ATTENTIVE = Graph(), Graph()
MODEL = GRAPH.model(everything(GRAPH))
WITH_SUBGRAPHS = ATTENTIVE.model(attentive(ATTENTIVE))


def of_all_kinds(graph: Graph) -> str:
    """A network of the operators that fixed point has, in the orders that published networks have."""
    head = graph.depthwise(graph.convolution("lr", 7, bias=False))
    distilled = graph.op("Gelu", graph.convolution(head, 5))
    refined = graph.op("Gelu", graph.depthwise(graph.convolution(head, 7)))
    near = graph.op("Gelu", graph.depthwise(graph.convolution(refined, 5)))
    wide = graph.convolution(graph.op("Concat", distilled, refined, near, channels=17, axis=1), 29)
    attention = graph.depthwise(graph.depthwise(graph.convolution(wide, 29), (5, 5)), (5, 5), 3)
    normed = graph.norm(graph.convolution(graph.op("Mul", wide, attention), 7))
    body = graph.op("Add", normed, head)
    flat = graph.depthwise(graph.op("LeakyRelu", body, alpha=0.1), (1, 7))
    tall = graph.op("Relu", graph.convolution(flat, 8, (3, 1)))
    grouped = graph.op("PRelu", graph.convolution(tall, 8, (3, 3), 2, groups=2), graph.numbers(8, 1, 1))
    active = graph.silu(graph.op("Tanh", graph.convolution(graph.part(grouped, 1, -2), 6)))
    attended = graph.attention(graph.convolution(active, 6, (3, 3)), active)
    last = graph.convolution(graph.op("Concat", attended, body, channels=13, axis=1), 24, (3, 3))
    first = graph.larger(graph.op("Add", last, graph.convolution("lr", 24)), 2)
    return graph.larger(graph.convolution(graph.op("LeakyRelu", first, alpha=0.2), 12, (3, 3)), 2, "DCR")
