"""The orders of a configured data set. No records are read, and no TensorFlow is needed."""

from trainer.config import DataConfig
from trainer.data.manifest import Manifest, blocks, parse_slice
from trainer.data.order import EvalOrder, TrainOrder


def training_order(config: DataConfig, manifest: Manifest, *, seed: int) -> TrainOrder:
    """Which records of `data.train` each step takes. ConfigError where there are too few."""
    part = parse_slice(config.train, manifest)
    return TrainOrder(
        blocks=blocks(manifest, part, config.block_records),
        batch_size=config.batch_size,
        num_streams=config.streams,
        shuffle_blocks=config.shuffle_blocks,
        seed=seed,
        drop_last=config.last_batch == "drop",
    )


def evaluation_order(config: DataConfig, manifest: Manifest, text: str) -> EvalOrder:
    """Every record of a split or slice once, in the order of the files."""
    part = parse_slice(text, manifest)
    return EvalOrder(part.start, part.num_records, config.eval_batch_size or config.batch_size)
