"""What a model holds beside its weights and its optimizer, and what its steps change.

Keras lists neither a second optimizer nor a plain tf.Variable, and a run that went on without
them would differ. What hangs on no attribute of the model is found by what its compiled step does.
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras
import tensorflow as tf

_FOUND = (keras.Optimizer, keras.metrics.Metric, keras.Variable, tf.Variable)
# Layers, models, tf.Modules and tf.random.Generators.
_HOLDERS = (keras.Layer, tf.__internal__.tracking.AutoTrackable, list, tuple, Mapping)
READS = {
    "LookupTableFindV2", "LookupTableSizeV2", "ReadVariableOp", "ResourceGather",
    "ResourceGatherNd", "VarIsInitializedOp", "VariableShape",
}  # fmt: skip
# Those of a tf.random.Generator are "Stateful", and have a variable.
_DRAWS = re.compile("(Parameterized)?(Random|TruncatedNormal)|Multinomial|SampleDistorted")
# The loop of several steps puts its name before what is made inside of it.
_NAME = re.compile(r'name="(?:while/)?(.*?)(?:/\d+)?"')


def held(model: Any) -> Iterator[tuple[str, Any]]:
    """(path of attributes, object) of all optimizers, metrics and variables, the nearest first.

    They are looked for in the attributes of layers and modules, and in lists and dictionaries.
    """
    seen, ahead = {id(model)}, deque([("", model)])
    while ahead:
        path, holder = ahead.popleft()
        for name, value in _members(holder):
            if id(value) in seen:
                continue
            seen.add(id(value))
            if isinstance(value, _FOUND):
                yield f"{path}{name}", value
            elif isinstance(value, _HOLDERS):
                ahead.append((f"{path}{name}/", value))


def _members(holder: Any) -> list[tuple[str, Any]]:
    if isinstance(holder, list | tuple):
        return [(str(index), value) for index, value in enumerate(holder)]
    members = holder if isinstance(holder, Mapping) else {**vars(holder), **_modules(holder)}
    return sorted(((str(name), value) for name, value in members.items()), key=lambda m: m[0])


def _modules(holder: Any) -> dict[str, Any]:
    """The layers among the attributes of a layer, where Keras computes with PyTorch."""
    return vars(holder).get("_modules") or {}


def copies(variable: Any) -> list[tf.Variable]:
    """All copies of a Keras or TensorFlow variable on this worker's devices."""
    value = variable.value if isinstance(variable, keras.Variable) else variable
    return list(getattr(value, "values", [value]))


def changed_by(function: Any, known: Iterable[Any]) -> list[str]:
    """Names of the variables that a concrete function changes and that are not `known`."""
    handles = {id(copy.handle) for variable in known for copy in copies(variable)}
    unknown = [
        (outer, inner.op.name)
        for outer, inner in function.graph.captures
        if outer.dtype == tf.resource and id(outer) not in handles
    ]
    if not unknown:
        return []
    graph = function.graph.as_graph_def()
    functions = {found.signature.name: found for found in graph.library.function}
    changed = [outer for outer, name in unknown if _is_changed(name, graph.node, functions)]
    return sorted({_name_of(outer) for outer in changed})


def drawn_by(function: Any) -> list[str]:
    """Operations of a concrete function that draw from a random state which no variable holds."""
    return sorted({node.op for node in operations(function) if _DRAWS.match(node.op)})


def operations(function: Any) -> Iterator[Any]:
    """The operations of a concrete function, and of those that it calls, as `NodeDef`s."""
    graph = function.graph.as_graph_def()
    yield from graph.node
    for called in graph.library.function:
        yield from called.node_def


def _is_changed(name: str, nodes: Iterable[Any], functions: Mapping[str, Any]) -> bool:
    """Whether a node, or a function that it calls, may change the variable of that name."""
    for node in nodes:
        inputs = [text.split(":")[0] for text in node.input if not text.startswith("^")]
        called = [functions[text] for text in _called(node) if text in functions]
        for index in (i for i, text in enumerate(inputs) if text == name):
            if not called and node.op not in READS and not node.op.startswith("Collective"):
                # Collectives take a variable as a token of their order.
                return True
            for function in called:
                arguments = function.signature.input_arg
                # An If or a Case has its condition before them.
                at = index - (len(inputs) - len(arguments))
                if _is_changed(arguments[at].name, function.node_def, functions):
                    return True
    return False


def _called(node: Any) -> list[str]:
    values = node.attr.values()
    return [f.name for value in values for f in (value.func, *value.list.func) if f.name]


def _name_of(handle: Any) -> str:
    """The variable's name; TensorFlow tells it only in the text of its handle."""
    match = _NAME.search(str(handle))
    return match[1] if match else str(handle)
