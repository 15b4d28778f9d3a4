"""Models as files, run by what the files are for, without Keras."""

from pathlib import Path

import keras
import numpy as np

BACKEND = keras.backend.backend()

# The formats that a Dense model is exported to and runs in.
FORMATS = {
    "tensorflow": ("tf_saved_model", "onnx", "litert", "openvino"),
    "jax": ("tf_saved_model", "onnx"),
    "torch": ("onnx", "litert", "openvino", "torch"),
}[BACKEND]
ENDINGS = {
    "tf_saved_model": "",
    "onnx": ".onnx",
    "litert": ".tflite",
    "openvino": ".xml",
    "torch": ".pt2",
}

# The formats whose files are of one batch size, and those that are so where
# inputs have more than two axes.
STATIC = {"tensorflow": (), "jax": (), "torch": ("litert",)}[BACKEND]
STATIC_SEQUENCES = {"jax": ("onnx",), "torch": ("litert",)}.get(BACKEND, ())
STATIC_BATCH = 7


def is_static(model, file_format):
    ranks = [len(x.shape) for x in model.inputs]
    return file_format in (STATIC_SEQUENCES if max(ranks) > 2 else STATIC)


def batch_sizes(model, file_format):
    return (STATIC_BATCH,) if is_static(model, file_format) else (1, 2, 7, 64)


def export(model, file_format, folder):
    """Exports a model and returns the path of the file or folder."""
    path = Path(folder) / f"model{ENDINGS[file_format]}"
    options = {}
    if is_static(model, file_format):
        specs = [
            keras.InputSpec(shape=(STATIC_BATCH, *x.shape[1:]), dtype=x.dtype)
            for x in model.inputs
        ]
        options["input_signature"] = specs if len(specs) == 1 else [specs]
    if file_format == "torch":
        options["dynamic_shapes"] = dynamic_shapes(model)
    model.export(str(path), format=file_format, verbose=False, **options)
    return path


def dynamic_shapes(model):
    """Returns the axes of the inputs that may have any size, for PyTorch."""
    import torch

    sizes = [
        torch.export.Dim(name, min=1, max=1024) for name in ("batch", "length")
    ]
    axes = [
        {axis: sizes[axis] for axis, size in enumerate(x.shape) if size is None}
        for x in model.inputs
    ]
    return axes[0] if len(axes) == 1 else [(axes,)]


def size_of(path):
    """Returns the bytes of a file, with those beside it, or of a folder."""
    files = path.rglob("*") if path.is_dir() else path.parent.glob("model*")
    return sum(file.stat().st_size for file in files if file.is_file())


def run(path, file_format, arrays):
    """Returns the only output of a file for the arrays of its inputs."""
    return np.asarray(RUNTIMES[file_format](str(path), arrays))


def _of_dtype(arrays, is_integer):
    """Returns the one array that is of integers, or that is not."""
    (found,) = [x for x in arrays if (x.dtype.kind == "i") == is_integer]
    return found


def _tensorflow(path, arrays):
    import tensorflow as tf

    loaded = tf.saved_model.load(path)
    return loaded.serve(arrays[0] if len(arrays) == 1 else arrays)


def _onnxruntime(path, arrays):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options)
    feed = {
        x.name: _of_dtype(arrays, "int" in x.type) for x in session.get_inputs()
    }
    return session.run(None, feed)[0]


def _litert(path, arrays):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path)
    details = interpreter.get_input_details()
    values = [
        _of_dtype(arrays, np.issubdtype(x["dtype"], np.integer))
        for x in details
    ]
    for x, value in zip(details, values, strict=True):
        interpreter.resize_tensor_input(x["index"], value.shape)
    interpreter.allocate_tensors()
    for x, value in zip(details, values, strict=True):
        interpreter.set_tensor(x["index"], value.astype(x["dtype"]))
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def _openvino(path, arrays):
    import openvino

    hint = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(path, "CPU", hint)
    values = [
        _of_dtype(arrays, x.element_type.is_integral()) for x in compiled.inputs
    ]
    return compiled(values)[0]


def _torch(path, arrays):
    import torch

    module = torch.export.load(path).module()
    tensors = [torch.from_numpy(x) for x in arrays]
    output = module(tensors[0] if len(tensors) == 1 else tensors)
    return output.detach().numpy()


RUNTIMES = {
    "tf_saved_model": _tensorflow,
    "onnx": _onnxruntime,
    "litert": _litert,
    "openvino": _openvino,
    "torch": _torch,
}
