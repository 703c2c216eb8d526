"""Keras on TensorFlow: several replicas, and many steps inside of one compiled function."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import keras
import tensorflow as tf

from trainer.compiled_steps import CompiledSteps
from trainer.config import RunConfig
from trainer.config.models import ClusterConfig
from trainer.errors import ConfigError

FORMATS: Sequence[str] = ("keras", "saved_model")
PASSING: tuple[type[BaseException], ...] = (tf.errors.OpError,)
make_steps = CompiledSteps


def prepare(config: RunConfig) -> list[str]:
    """See `Backend`; data has the same threads."""
    set_threads(config.train.threads)
    return _devices(config.cluster)


def set_threads(threads: int) -> None:
    """How many one operation of TensorFlow has, and how many operations run at once."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


def _devices(cluster: ClusterConfig) -> list[str]:
    gpus = tf.config.list_physical_devices("GPU")
    kind = ("gpu" if gpus else "cpu") if cluster.device == "auto" else cluster.device
    if kind == "cpu":
        tf.config.set_visible_devices([], "GPU")
        return _cpus(1 if cluster.replicas == "auto" else cluster.replicas)
    wanted = max(1, len(gpus)) if cluster.replicas == "auto" else cluster.replicas
    if len(gpus) < wanted:
        build = tf.sysconfig.get_build_info()
        raise ConfigError(
            f"GPUs asked for: {wanted}, visible: {len(gpus)} (NVIDIA driver {_driver()}, "
            f"TensorFlow {tf.__version__} built for CUDA {build.get('cuda_version', 'none')}): "
            "check the driver and the pod's nvidia.com/gpu limit, or set cluster.device=cpu"
        )
    # Workers of a group train on all that they see.
    tf.config.set_visible_devices(gpus[:wanted], "GPU")
    for gpu in gpus[:wanted]:
        tf.config.experimental.set_memory_growth(gpu, True)
    return [f"/gpu:{index}" for index in range(wanted)]


def _driver(file: Path = Path("/sys/module/nvidia/version")) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except OSError:
        return "none"


def _cpus(count: int) -> list[str]:
    if count > 1:
        cpu = tf.config.list_physical_devices("CPU")[0]
        logical = [tf.config.LogicalDeviceConfiguration()] * count
        tf.config.set_logical_device_configuration(cpu, logical)
    return [f"/cpu:{index}" for index in range(count)]


def run_eagerly() -> None:
    """See `Backend`. Functions of tf.data stay compiled, which TensorFlow would warn of."""
    warnings.filterwarnings("ignore", message="Even though the `tf.config.experimental_run_")
    tf.config.run_functions_eagerly(True)


def version() -> str:
    """TensorFlow's."""
    return str(tf.__version__)


def gpu_memory() -> list[tuple[int, int]]:
    """See `Backend`."""
    infos = [
        tf.config.experimental.get_memory_info(device.name.removeprefix("/device:"))
        for device in tf.config.list_logical_devices("GPU")
    ]
    return [(info["current"], info["peak"]) for info in infos]


def check_model(model: Any) -> None:
    """Not XLA: it was slower on CPUs, and TensorFlow refuses it for repeatable operations."""
    model.jit_compile = False


def as_data(element: Any) -> Any:
    """Tensors, as they come."""
    return tf.nest.map_structure(tf.convert_to_tensor, element)


def first_pass(model: Any, strategy: Any, data: Any) -> None:
    """On every replica."""
    strategy.run(model.test_step, args=(data,))


def make_predict(model: Any) -> Callable[[Any], Any]:
    """See `Backend`; traced once."""

    def predict(x: Any) -> Any:
        # Noise that a layer draws here must not be missing in the steps that follow.
        with keras.StatelessScope():
            return model.predict_step((x,))

    return cast(Callable[[Any], Any], tf.function(predict, reduce_retracing=True, autograph=False))


def read(value: Any) -> Any:
    """A tensor that shares the variable's memory."""
    # `read_value` is the same, but takes 28 µs instead of 10, while training waits.
    return tf.raw_ops.ReadVariableOp(resource=value.handle, dtype=value.dtype)
