"""One contender in a process of its own: bench_peers.py and bench_scaling.py start it, and tell it when to run.

    python bench/contender.py torch --threads 1 --cpus 1

A request is a JSON object on a line of standard input, its reply one on a line of standard output; whatever a library
prints goes to standard error.

    {"do": "hello"}                                       → {"version": …}
    {"do": "prepare", "cell": …, "mode": …, "sizes": …}   → {"first": seconds, "rss": …, "peak": …, "held": …} or {"without": reason}
    {"do": "turn", "least": …, "most": …}                 → {"seconds": [one per call]}
    {"do": "gemm", "n": 2048, "dtype": …}                 → {"gflops": …, "blas": NumPy's}
    {"do": "release"}                                     → {}

`prepare` draws the problem (the same in every process: it is seeded), builds what the library wants to have once
(weights packed, graphs compiled) and makes a first call: "first" is the time of all that. With "answers" it saves what
the call returned. `turn` times calls that are alike. rss and peak are the bytes of memory in use before the first call
and at its height, held those of the arrays that it returned.
"""  # noqa: E501 (a reply in one line)

import argparse
import ctypes
import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

WARM = (
    5e-3  # seconds of untimed calls before a turn's first timed one: the clock and the caches are then the turn's own
)
LONG = 0.3  # seconds; a call that takes longer is warm by itself

GATES = {"lstm": 4, "gru": 3, "rnn": 1}
WEIGHTS = ("w_ih", "w_hh", "b_ih", "b_hh")  # in the order of a PyTorch module's parameters

Arrays = dict[str, np.ndarray]
Prepared = tuple[Callable[[], Any], Callable[[Any], Arrays]]  # the call that is timed; the answers in its result


@dataclass
class Problem:
    """One layer, one direction, from zero states. `lengths` are the steps that count in each sequence, or None."""

    cell: str
    mode: str  # training: forward and backward, every gradient; inference: forward, keeping nothing
    dtype: str
    arrays: Arrays
    lengths: np.ndarray | None
    threads: int
    isa: str | None
    checkpoint: str | None

    @property
    def training(self) -> bool:
        return self.mode == "training"

    @property
    def weights(self) -> list[np.ndarray]:
        return [self.arrays[name] for name in WEIGHTS]


def draw(request: dict[str, Any], threads: int, isa: str | None) -> Problem:
    T, B, I, H = (request["sizes"][letter] for letter in "TBIH")
    GH = GATES[request["cell"]] * H
    random = np.random.default_rng(0)
    shapes = {"w_ih": (GH, I), "w_hh": (GH, H), "b_ih": GH, "b_hh": GH}
    arrays = {name: random.uniform(-1 / sqrt(H), 1 / sqrt(H), shape) for name, shape in shapes.items()}
    arrays["x"] = random.uniform(-1, 1, (T, B, I))
    if request["mode"] == "training":
        arrays["dy"] = random.uniform(-1, 1, (T, B, H))
    dtype = request.get("dtype", "float32")
    # Rounded to float32 whatever the dtype: one truth in float64 serves both.
    arrays = {name: array.astype("float32").astype(dtype) for name, array in arrays.items()}
    lengths = request.get("lengths")
    lengths = None if lengths is None else np.array(lengths)
    checkpoint = request.get("checkpoint")
    return Problem(request["cell"], request["mode"], dtype, arrays, lengths, threads, isa, checkpoint)


# ------------------------------------------------------------------------------------------------------ fastml


def fastml_by(backend: str) -> Callable[[Problem], Prepared]:
    """The functional API: weights are packed, and outputs allocated, in every call."""

    def prepare(p: Problem) -> Prepared:
        import fastml

        if p.checkpoint is not None:
            return fastml_checkpointed(p)
        forward, backward = getattr(fastml, f"{p.cell}_forward"), getattr(fastml, f"{p.cell}_backward")
        x, states = p.arrays["x"], (None,) * (2 if p.cell == "lstm" else 1)

        def training() -> Any:
            y, *_, tape = forward(x, *states, *p.weights, lengths=p.lengths)
            return y, backward(tape, p.arrays["dy"])

        def inference() -> Any:
            return forward(x, *states, *p.weights, lengths=p.lengths, keep=False)

        return chosen(backend, p, training if p.training else inference), fastml_answers(p)

    return prepare


def fastml_packed(p: Problem) -> Prepared:
    """A layer with its weights packed once, for inference."""
    if p.training:
        raise NotImplementedError("for inference alone")
    layer = fastml_layer(p)
    packed = chosen("native", p, layer.packed)()
    options = {} if p.lengths is None else {"lengths": p.lengths}
    return chosen("native", p, lambda: packed(p.arrays["x"], **options)), fastml_answers(p)


def fastml_at_full_length(p: Problem) -> Prepared:
    """What `native` would cost if every step of every sequence counted; its answers are compared where they count."""
    if p.lengths is None:
        raise NotImplementedError("every sequence is of full length")
    lengths, p.lengths = p.lengths, None
    call, answers = fastml_by("native")(p)
    counts = np.arange(len(p.arrays["x"]))[:, None] < lengths

    def at_counted_steps(result: Any) -> Arrays:
        return {"y": answers(result)["y"] * counts[..., None]}

    return call, at_counted_steps


def fastml_checkpointed(p: Problem) -> Prepared:
    layer = fastml_layer(p)

    def training() -> Any:
        y, _, tape = layer.forward(p.arrays["x"], lengths=p.lengths, checkpoint=p.checkpoint)
        return y, layer.backward(tape, p.arrays["dy"])

    def answers(result: Any) -> Arrays:
        y, grads = result
        return dict(zip(("y", "dx", *gradients()), (y, grads.x, *grads.weights.values()), strict=True))

    return chosen("native", p, training), answers


def fastml_layer(p: Problem) -> Any:
    import fastml

    I, H = p.arrays["w_ih"].shape[1], p.arrays["w_hh"].shape[1]
    layer = getattr(fastml, p.cell.upper())(I, H, dtype=p.dtype, seed=0)
    layer.load_state_dict(dict(zip(layer.weights, p.weights, strict=True)))
    return layer


def chosen(backend: str, p: Problem, call: Callable[[], Any]) -> Callable[[], Any]:
    import fastml
    from fastml import bench

    fastml.set_num_threads(p.threads)
    return bench.Contender(backend, p.isa if backend == "native" else None).bind(call)


def fastml_answers(p: Problem) -> Callable[[Any], Arrays]:
    def answers(result: Any) -> Arrays:
        if not p.training:
            return {"y": result[0]}
        y, grads = result
        return {"y": y, "dx": grads.x, **{f"d{name}": getattr(grads, name) for name in WEIGHTS}}

    return answers


def gradients() -> list[str]:
    return [f"d{name}" for name in WEIGHTS]


# ------------------------------------------------------------------------------------------------------ PyTorch


def by_torch(p: Problem) -> Prepared:
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    torch.set_num_threads(p.threads)
    I, H = p.arrays["w_ih"].shape[1], p.arrays["w_hh"].shape[1]
    module = getattr(torch.nn, p.cell.upper())(I, H, dtype=getattr(torch, p.dtype))
    for parameter, weight in zip(module.parameters(), p.weights, strict=True):
        parameter.data = torch.from_numpy(weight)
    x = torch.from_numpy(p.arrays["x"])
    lengths = None if p.lengths is None else torch.from_numpy(p.lengths)

    def forward() -> Any:
        if lengths is None:
            return module(x)[0]
        packed, _ = module(pack_padded_sequence(x, lengths, enforce_sorted=False))
        return pad_packed_sequence(packed, total_length=len(x))[0]

    if not p.training:
        module.eval()

        def inference() -> Any:
            with torch.inference_mode():
                return forward()

        return inference, lambda y: {"y": y.numpy()}

    x.requires_grad_()
    dy = torch.from_numpy(p.arrays["dy"])

    def training() -> Any:
        module.zero_grad(set_to_none=True)
        x.grad = None
        y = forward()
        y.backward(dy)
        return y

    def answers(y: Any) -> Arrays:
        found = (y.detach(), x.grad, *(parameter.grad for parameter in module.parameters()))
        return {name: a.numpy() for name, a in zip(("y", "dx", *gradients()), found, strict=True)}

    return training, answers


# ------------------------------------------------------------------------------------------------------ ONNX


def onnx_model(p: Problem) -> bytes:
    """One recurrent node, its weights constants of the graph; ONNX has the gates as i, o, f, g and as z, r, n."""
    from onnx import TensorProto, helper, numpy_helper

    order = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2), "rnn": (0,)}[p.cell]
    w_ih, w_hh, b_ih, b_hh = (np.concatenate([np.split(w, len(order))[k] for k in order]) for w in p.weights)
    T, B, I = p.arrays["x"].shape
    H = w_hh.shape[1]
    kind = TensorProto.FLOAT
    constants = {"W": w_ih[None], "R": w_hh[None], "B": np.concatenate((b_ih, b_hh))[None]}
    inputs = [helper.make_tensor_value_info("x", kind, (T, B, I))]
    if p.lengths is not None:
        inputs.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, (B,)))
    names = ["y", "h_n", "c_n"] if p.cell == "lstm" else ["y", "h_n"]
    shapes = [(T, 1, B, H), (1, B, H), (1, B, H)]
    options = {"linear_before_reset": 1} if p.cell == "gru" else {}
    given = ["x", *constants, "lengths" if p.lengths is not None else ""]
    graph = helper.make_graph(
        [helper.make_node(p.cell.upper(), given, names, hidden_size=H, **options)],
        p.cell,
        inputs,
        [helper.make_tensor_value_info(name, kind, s) for name, s in zip(names, shapes, strict=False)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString()


def onnx_inputs(p: Problem) -> Arrays:
    """Arrays of the problem, which outlives the calls: neither library holds on to what it was bound to."""
    if p.lengths is None:
        return {"x": p.arrays["x"]}
    p.arrays["lengths"] = p.lengths.astype("int32")
    return {name: p.arrays[name] for name in ("x", "lengths")}


def by_onnxruntime(p: Problem) -> Prepared:
    """By `run` or by I/O binding into arrays of its own, whichever is faster."""
    inference_alone(p)
    without_limit(p)
    float32_alone(p)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = p.threads, 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(onnx_model(p), options, providers=["CPUExecutionProvider"])
    inputs = onnx_inputs(p)
    names = [output.name for output in session.get_outputs()]
    binding = session.io_binding()
    for name, array in inputs.items():
        binding.bind_cpu_input(name, array)
    T, B, _ = p.arrays["x"].shape
    H = p.arrays["w_hh"].shape[1]
    held = {name: np.empty((T, 1, B, H) if name == "y" else (1, B, H), p.dtype) for name in names}
    for name, array in held.items():
        binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)

    def run() -> Any:
        return session.run(names, inputs)[0]

    def bound() -> Any:
        session.run_with_iobinding(binding)
        return held["y"]

    return fastest([run, bound]), lambda y: {"y": y[:, 0]}


def by_openvino(p: Problem) -> Prepared:
    """One infer request, made once, that reads x where it is."""
    inference_alone(p)
    without_limit(p)
    float32_alone(p)
    import openvino

    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",  # bfloat16 is its own choice where the CPU has it
        "INFERENCE_NUM_THREADS": p.threads,
        "NUM_STREAMS": 1,
    }
    core = openvino.Core()
    request = core.compile_model(core.read_model(onnx_model(p)), "CPU", options).create_infer_request()
    for name, array in onnx_inputs(p).items():
        request.set_tensor(name, openvino.Tensor(array, shared_memory=True))

    def inference() -> Any:
        request.infer()
        return request.get_tensor("y").data

    return inference, lambda y: {"y": y[:, 0]}


def inference_alone(p: Problem) -> None:
    if p.training:
        raise NotImplementedError("for inference alone")


def float32_alone(p: Problem) -> None:
    """ONNX Runtime has no recurrent node for float64, and OpenVINO computes it in float32."""
    if p.dtype != "float32":
        raise NotImplementedError("for float32 alone")


def without_limit(p: Problem) -> None:
    if p.isa is not None:
        raise NotImplementedError("it cannot be held to an ISA")


def fastest(calls: list[Callable[[], Any]], rounds: int = 3) -> Callable[[], Any]:
    times = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds):
        for call in calls:
            start = perf_counter()
            call()
            times[call] = min(times[call], perf_counter() - start)
    return min(calls, key=times.__getitem__)


# ------------------------------------------------------------------------------------------------------ JAX


def by_jax(p: Problem) -> Prepared:
    """A jitted `lax.scan` after one product for all inputs; training by `jax.vjp` in the same compiled function."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", p.dtype == "float64")
    H = p.arrays["w_hh"].shape[1]

    def step(carry: Any, now: Any, w_hh_t: Any, b_hh: Any) -> Any:
        xs, counts = now
        h = carry[0]
        recurrent = h @ w_hh_t + b_hh
        if p.cell == "lstm":
            i, f, g, o = jnp.split(xs + recurrent, 4, axis=1)
            c = jax.nn.sigmoid(f) * carry[1] + jax.nn.sigmoid(i) * jnp.tanh(g)
            new = jax.nn.sigmoid(o) * jnp.tanh(c), c
        elif p.cell == "gru":
            r, z = jnp.split(jax.nn.sigmoid(xs[:, : 2 * H] + recurrent[:, : 2 * H]), 2, axis=1)
            n = jnp.tanh(xs[:, 2 * H :] + r * recurrent[:, 2 * H :])
            new = (n + z * (h - n),)
        else:
            new = (jnp.tanh(xs + recurrent),)
        if counts is None:
            return new, new[0]
        new = tuple(jnp.where(counts[:, None], after, before) for after, before in zip(new, carry, strict=True))
        return new, jnp.where(counts[:, None], new[0], 0)

    T, B, _ = p.arrays["x"].shape
    counts = None if p.lengths is None else jnp.asarray(np.arange(T)[:, None] < p.lengths)

    def forward(x: Any, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any) -> Any:
        start = (jnp.zeros((B, H), x.dtype),) * (2 if p.cell == "lstm" else 1)
        # Transposed once and not in each step: up to 20 % less time. Unrolled by 4, training at B = 1 takes 10 to 15 %
        # less and larger batches take more.
        w_hh_t = jax.lax.optimization_barrier(w_hh.T)
        xs = x @ w_ih.T + b_ih, counts
        return jax.lax.scan(lambda carry, now: step(carry, now, w_hh_t, b_hh), start, xs, unroll=4 if B == 1 else 1)[1]

    def both(dy: Any, *given: Any) -> Any:
        y, backward = jax.vjp(forward, *given)
        return y, *backward(dy)

    given = [jax.device_put(a) for a in (p.arrays["x"], *p.weights)]
    if not p.training:
        compiled = jax.jit(forward)
        return lambda: compiled(*given).block_until_ready(), lambda y: {"y": np.asarray(y)}
    compiled, dy = jax.jit(both), jax.device_put(p.arrays["dy"])
    names = ("y", "dx", *gradients())
    return (
        lambda: jax.block_until_ready(compiled(dy, *given)),
        lambda found: {name: np.asarray(a) for name, a in zip(names, found, strict=True)},
    )


PREPARE: dict[str, Callable[[Problem], Prepared]] = {
    "native": fastml_by("native"),
    "native packed": fastml_packed,
    "native full": fastml_at_full_length,
    "jit": fastml_by("jit"),
    "reference": fastml_by("reference"),
    "torch": by_torch,
    "onnxruntime": by_onnxruntime,
    "openvino": by_openvino,
    "jax": by_jax,
}


# ------------------------------------------------------------------------------------------------------ requests


class Contender:
    def __init__(self, name: str, threads: int, isa: str | None) -> None:
        self.name, self.threads, self.isa = name, threads, isa
        self.call: Callable[[], Any] | None = None
        self.problem: Problem | None = None  # libraries read its arrays where they are
        self.took = 0.0

    def hello(self) -> dict:
        library = __import__(self.name if self.name in ("torch", "onnxruntime", "openvino", "jax") else "fastml")
        return {"version": library.__version__.partition("-")[0]}

    def prepare(self, **request: Any) -> dict:
        self.release()
        problem = self.problem = draw(request, self.threads, self.isa)
        start = perf_counter()
        try:
            call, answers = PREPARE[self.name](problem)
        except NotImplementedError as reason:
            return {"without": str(reason)}
        rss = memory("VmRSS", reset=True)
        called = perf_counter()
        result = call()
        self.took = perf_counter() - called
        first = perf_counter() - start
        peak = memory("VmHWM")
        found = answers(result)
        if request.get("answers"):
            np.savez(request["answers"], **found)
        held = sum(array.nbytes for array in found.values())
        self.call = call
        return {"first": first, "rss": rss, "peak": peak, "held": held}

    def turn(self, least: float = 0.06, most: float = 0.4, fewest: int = 3) -> dict:
        """Time `fewest` calls and at least `least` seconds of them, but start none after `most` seconds."""
        start = perf_counter()
        while self.took < LONG and perf_counter() - start < WARM:
            self.call()
        seconds: list[float] = []
        total = 0.0
        while not seconds or (total < most and (total < least or len(seconds) < fewest)):
            start = perf_counter()
            self.call()
            seconds.append(perf_counter() - start)
            total += seconds[-1]
        self.took = min(seconds)
        return {"seconds": seconds}

    def gemm(self, n: int, dtype: str) -> dict:
        """The best of several n × n products by this library."""
        if self.name != "torch":
            import fastml
            from fastml import bench

            fastml.set_num_threads(self.threads)
            return {"gflops": bench.gemm_peak(dtype, n, rounds=7), "blas": bench.machine()["blas"]}
        import torch

        torch.set_num_threads(self.threads)
        a, b, out = torch.rand(3, n, n, dtype=getattr(torch, dtype))
        times = []
        for _ in range(8):
            start = perf_counter()
            torch.mm(a, b, out=out)
            times.append(perf_counter() - start)
        return {"gflops": 2e-9 * n**3 / min(times[1:])}

    def release(self) -> dict:
        self.call = self.problem = None
        return {}


def memory(field: str, *, reset: bool = False) -> int | None:
    """VmRSS, the bytes of memory in use, or VmHWM, the most since the last reset; None where Linux's /proc is not."""
    try:
        if reset:
            with suppress(AttributeError):  # glibc's: what was freed and kept would be used again and not be counted
                ctypes.CDLL(None).malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    return 1024 * int(status.split(f"{field}:")[1].split()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=PREPARE)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cpus", type=lambda text: set(map(int, text.split(","))), help="to be pinned to")
    parser.add_argument("--isa")
    arguments = parser.parse_args()
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    if arguments.cpus and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, arguments.cpus)  # before a library is imported that counts CPUs
    contender = Contender(arguments.name, arguments.threads, arguments.isa)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = getattr(contender, request.pop("do"))(**request)
        except Exception as error:
            contender.release()
            reply = {"failed": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main()
