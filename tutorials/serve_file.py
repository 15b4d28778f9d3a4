"""Runs a network's file on data, without Keras: NumPy and a runtime are enough.

python tutorials/serve_file.py model.onnx data.npz

`data.npz` has `x`, labels `y` and the outputs `expected` that Keras computed.
The last line that it prints is JSON: the largest difference from these, the
accuracy, and the microseconds of one example.
"""

import json
import sys
import time

import numpy as np


def open_onnx(path):
    """Returns a function of an example (1, P), by onnxruntime."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1  # the network is small
    session = onnxruntime.InferenceSession(path, settings)
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})[0]


def open_litert(path):
    """Returns a function of an example (1, P), by the interpreter of LiteRT."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path, num_threads=1)
    interpreter.allocate_tensors()
    (given,), (result,) = (
        interpreter.get_input_details(),
        interpreter.get_output_details(),
    )

    def call(x):
        interpreter.set_tensor(given["index"], x)
        interpreter.invoke()
        return interpreter.get_tensor(result["index"])

    return call


def microseconds(call, examples, rounds=9):
    """Returns the median over rounds of the mean time of an example."""
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        for x in examples:
            call(x)
        found.append((time.perf_counter() - start) / len(examples) * 1e6)
    return float(np.median(found))


path, data = sys.argv[1], np.load(sys.argv[2])
call = open_onnx(path) if path.endswith(".onnx") else open_litert(path)
examples = [x[np.newaxis] for x in data["x"]]
outputs = np.concatenate([call(x) for x in examples])
frameworks = [
    name
    for name in ("keras", "jax", "tensorflow", "torch")
    if sys.modules.get(name)
]
print("frameworks that were imported:", ", ".join(frameworks) or "none")
print(
    json.dumps(
        {
            "difference": float(np.abs(outputs - data["expected"]).max()),
            "accuracy": float((outputs.argmax(-1) == data["y"]).mean()),
            "microseconds": microseconds(call, examples),
        }
    )
)
