"""A script with arrays, as users have it, that calls one of two `fit`s. A child of bench.fit:

python -m trainer worker … -- bench/fit_script.py trainer GO DONE FILTERS POOL BATCH RECORDS EPOCHS
python bench/fit_script.py keras …
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import keras

from bench.convnet import ConvnetParams, convnet
from bench.plain_fit import arrays
from bench.turns import TurnTaker

who, go, done, filters, pool, batch, records, epochs = [
    argument if index == 0 else int(argument) for index, argument in enumerate(sys.argv[1:])
]
x, y = arrays(records)
model = convnet(keras.Model, ConvnetParams(filters=filters, pool=pool))
call = {
    "x": x, "y": y, "batch_size": batch, "epochs": 1_000_000, "verbose": 0,
    "callbacks": [TurnTaker(go, done, epochs)],
}  # fmt: skip
if who == "trainer":
    import trainer

    trainer.fit(model, **call)
else:
    model.fit(**call)
