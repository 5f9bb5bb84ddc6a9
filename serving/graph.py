"""The graph of an exported model, read without loading it."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from google.protobuf.message import DecodeError
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import dtypes, versions

from serving.errors import ServingError
from serving.tensorflow_parts import is_public_op

# Registered in Python only: they call functions of the exporting process.
_PYTHON = frozenset({"EagerPyFunc", "PyFunc", "PyFuncStateless"})
_LOOPS = frozenset({"While", "StatelessWhile", "LoopCond", "MapDefun"})
INIT = "__saved_model_init_op"  # fills tables; assigns names of assets
_HALF = frozenset({types_pb2.DT_BFLOAT16, types_pb2.DT_HALF})


def parse(content: bytes) -> Any:
    """The MetaGraphDef in the bytes of a `saved_model.pb`.

    Raises:
        ServingError: there is none.
    """
    try:
        return saved_model_pb2.SavedModel.FromString(content).meta_graphs[0]
    except (DecodeError, IndexError):
        raise ServingError("saved_model.pb is damaged") from None


def check_ops(graph: Any) -> None:
    """Looks for ops that a server of stock TensorFlow cannot run.

    Libraries that this process has loaded do not count.

    Raises:
        ServingError: there are some; names them.
    """
    library = graph.graph_def.library.function
    functions = {function.signature.name for function in library}
    ops = {node.op for node in _nodes(graph)}
    # Names with an underscore are TensorFlow's own, and not public.
    foreign = {
        op
        for op in ops - functions
        if op in _PYTHON or not (op.startswith("_") or is_public_op(op))
    }
    if foreign:
        raise ServingError(
            f"its graph has ops that stock TensorFlow {versions.VERSION} does"
            f" not serve: {', '.join(sorted(foreign))}"
        )


def check_restored(graph: Any) -> None:
    """Looks for weights that TF Serving would not restore.

    Python's `tf.saved_model.load` restores them by another way.

    Raises:
        ServingError: there are some; names them.
    """
    nodes = {node.name: node for node in graph.graph_def.node}
    outputs = {
        name: [tensor.name for tensor in signature.outputs.values()]
        for name, signature in graph.signature_def.items()
    }
    given = [graph.saver_def.restore_op_name, *outputs.pop(INIT, [])]
    read = [tensor for tensors in outputs.values() for tensor in tensors]
    missing = _variables(nodes, read) - _variables(nodes, given)
    if missing:
        raise ServingError(
            "TF Serving would not restore its weights"
            f" {', '.join(sorted(missing))}: track each tf.Variable, not the"
            " Keras variable around it"
        )


def _variables(nodes: Mapping[str, Any], tensors: Iterable[str]) -> set[str]:
    """Variables that tensors of the main graph are computed from."""
    found = set()
    seen: set[str] = set()
    waiting = list(tensors)
    while waiting:
        name = waiting.pop().removeprefix("^").partition(":")[0]
        if name in seen or name not in nodes:
            continue
        seen.add(name)
        if nodes[name].op == "VarHandleOp":
            found.add(name)
        waiting += nodes[name].input
    return found


def has_loop(graph: Any) -> bool:
    """True if values, and not sizes alone, may decide what a call costs."""
    return any(node.op in _LOOPS for node in _nodes(graph))


def is_half(graph: Any) -> bool:
    """True if anything is computed in half precision."""
    return any(
        attribute.type in _HALF
        for node in _nodes(graph)
        for attribute in node.attr.values()
    )


def _nodes(graph: Any) -> Iterator[Any]:
    yield from graph.graph_def.node
    for function in graph.graph_def.library.function:
        yield from function.node_def


def inputs(graph: Any, signature: str) -> dict[str, str]:
    """Input of a signature -> TensorFlow's name of its dtype."""
    found = graph.signature_def[signature].inputs
    return {
        name: dtypes.as_dtype(tensor.dtype).name
        for name, tensor in sorted(found.items())
    }
