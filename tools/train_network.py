"""Train a small convolutional network for the real/bogus score and compare it with the present model.

``python -m tools.train_network --keep FOLDER --judge NIGHT ...`` (dependency group ``train``: jax, onnx, onnxruntime)
trains on the pairs and nights of ``python -m tools.train_score``, a quarter of each held out, and prints the same rows
for the shipped model, for its kind trained on the same sets, and for networks of the stamps alone and of stamps and
features, each run by ONNX Runtime: true transients kept at the false detections of the shipped model, false ones, real
stamps, time per CCD, and size. FOLDER gets the networks. Nights to judge are those of ``python -m tools.judge_score``.
"""

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.real_stamps import (
    REAL_STAMPS,
    StampAnswer,
    StampPair,
    answer_of,
    answer_rows,
    stamp_pairs,
    subtract_stamp,
)
from bench.report import Row, at_most, print_report
from imaging.difference.detect import DifferenceDetections, detect
from imaging.difference.engine import ImageDifference
from imaging.difference.score import ScoreModel, design, shipped_model, without_vouched_flags
from imaging.difference.settings import DetectionSettings
from imaging.difference.train import class_weights, train_score
from imaging.errors import GWWorkflowError
from tools.judge_score import Judged, Model, judged_by, judged_ccds, rows_of
from tools.own_labels import Labelled
from tools.score_stamps import (
    CHANNELS,
    WIDTH,
    Rows,
    labelled_pair_rows,
    planes_of,
    rows_of_detections,
    split_rows,
    stored_rows,
)
from tools.sky_nights import labelled_rows, training_nights
from tools.train_score import FIRST_NIGHT, FIRST_PAIR, scenarios, together

FloatArray = NDArray[np.float64]

EPOCHS, BATCH, RATE, DECAY, SEED = 20, 128, 1e-3, 1e-3, 1
"""Passes over the training set, rows per step, step size and weight decay of AdamW, seed of weights and order."""

FILTERS, HIDDEN, KERNEL = (8, 16, 16), 32, 3
"""Filters per convolution, each halving the stamp; units of the hidden layer; side of a filter."""

SNR_RANGES = ((5.0, 6.0), (6.0, 8.0), (8.0, 20.0), (20.0, np.inf))
"""Ranges of signal to noise of the transients that are counted."""

MAX_MS, MAX_MB = 20.0, 2.0
"""Limits of the time per CCD and of the size of the weights."""


@dataclass(frozen=True, eq=False)
class OfFeatures:
    """A model of the features alone, given rows with stamps."""

    model: ScoreModel

    def probability(self, features: Rows) -> FloatArray:
        """Return the (n,) probabilities of (n, width) rows."""
        return self.model.probability(split_rows(features)[0].astype(float))


class Network:
    """A network run by ONNX Runtime on one core."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.megabytes = path.stat().st_size / 1e6

    def probability(self, features: Rows) -> FloatArray:
        """Return the (n,) probabilities of (n, width) rows."""
        if not len(features):
            return np.zeros(0)
        scalars, stamps = split_rows(features.astype(np.float32))
        given = {"features": scalars, "stamps": stamps}
        names = [item.name for item in self.session.get_inputs()]
        return self.session.run(None, {name: given[name] for name in names})[0][:, 0].astype(float)


def first_weights(side: int, start: ScoreModel) -> dict[str, FloatArray]:
    """Return random weights of the layers (He et al. 2015) for stamps of a side; the logit begins as a model's."""
    rng, weights, before = np.random.default_rng(SEED), {}, CHANNELS
    for k, after in enumerate(FILTERS):
        weights[f"conv{k}"] = rng.normal(0, np.sqrt(2 / (before * KERNEL**2)), (after, before, KERNEL, KERNEL))
        weights[f"conv{k}_bias"], before, side = np.zeros(after), after, side // 2
    inputs = before * side**2
    weights["hidden"], weights["hidden_bias"] = rng.normal(0, np.sqrt(2 / inputs), (inputs, HIDDEN)), np.zeros(HIDDEN)
    weights["last"] = np.concatenate([np.zeros(HIDDEN), start.weights])[:, None]
    weights["last_bias"] = np.array([start.offset])
    return weights


def logits(weights: Mapping[str, Any], stamps: Any, columns: Any) -> Any:  # noqa: ANN401
    """Return the (n,) logits of (n, channels, side, side) stamps and (n, m) columns of features."""
    from jax import lax, nn
    from jax import numpy as jnp

    for k in range(len(FILTERS)):
        stamps = lax.conv_general_dilated(stamps, weights[f"conv{k}"], (1, 1), "SAME")
        stamps = nn.relu(stamps + weights[f"conv{k}_bias"][:, None, None])
        stamps = lax.reduce_window(stamps, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
    hidden = nn.relu(stamps.reshape(len(stamps), -1) @ weights["hidden"] + weights["hidden_bias"])
    return (jnp.concatenate([hidden, columns], axis=1) @ weights["last"])[:, 0] + weights["last_bias"][0]


def train_network(rows: Rows, is_real: NDArray[np.bool_], source: NDArray[np.int64], start: ScoreModel) -> Any:  # noqa: ANN401
    """Fit a network with the weights of the classes that the present model has; return its weights.

    Parameters
    ----------
    rows, is_real, source
        (n, width) rows, (n,) labels, and (n,) numbers of the sources of the labels.
    start
        Model of the features where the network begins; one without features makes a network of the stamps alone.
    """
    import jax
    from jax import numpy as jnp

    features, stamps = split_rows(rows)
    columns = design(features[:, : len(start.mean)].astype(float), start.mean, start.scale).astype(np.float32)
    weights = {k: jnp.asarray(v, jnp.float32) for k, v in first_weights(stamps.shape[-1], start).items()}
    balance, sign = class_weights(rows, is_real, source).astype(np.float32), np.where(is_real, 1.0, -1.0)

    def loss(w: Any, *batch: Any) -> Any:  # noqa: ANN401
        return jnp.mean(batch[3] * jax.nn.softplus(-batch[2] * logits(w, batch[0], batch[1])))

    @jax.jit
    def step(w: Any, m: Any, v: Any, t: Any, *batch: Any) -> Any:  # noqa: ANN401
        slope = jax.grad(loss)(w, *batch)
        m = {k: 0.9 * m[k] + 0.1 * g for k, g in slope.items()}
        v = {k: 0.999 * v[k] + 0.001 * g**2 for k, g in slope.items()}
        rate = RATE * jnp.minimum(1.0, 3.0 * (1.0 - t / n_steps))
        ahead = {k: (m[k] / (1 - 0.9**t)) / (jnp.sqrt(v[k] / (1 - 0.999**t)) + 1e-8) for k in w}
        return {k: w[k] - rate * (ahead[k] + DECAY * w[k]) for k in w}, m, v

    rng, per_epoch = np.random.default_rng(SEED), len(rows) // BATCH
    n_steps, t = EPOCHS * per_epoch, 0
    m = v = {k: jnp.zeros_like(w) for k, w in weights.items()}
    for _ in range(EPOCHS):
        for which in rng.permutation(len(rows))[: per_epoch * BATCH].reshape(per_epoch, BATCH):
            t, turn = t + 1, int(rng.integers(8))
            turned = np.rot90(stamps[which][..., :: 1 - 2 * (turn // 4)], turn % 4, axes=(2, 3))
            weights, m, v = step(weights, m, v, t, turned, columns[which], sign[which], balance[which])
    return {k: np.asarray(w) for k, w in weights.items()}


def write_network(path: Path, weights: Mapping[str, Any], side: int, start: ScoreModel) -> None:
    """Write a network, with the standardisation of its features, as ONNX."""
    from onnx import checker, numpy_helper, parser, save

    k, pad = len(start.mean), KERNEL // 2
    layers, before = "", "stamps"
    for n in range(len(FILTERS)):
        layers += f"c{n} = Conv<pads=[{pad}, {pad}, {pad}, {pad}]>({before}, conv{n}, conv{n}_bias) r{n} = Relu(c{n}) "
        layers += f"p{n} = MaxPool<kernel_shape=[2, 2], strides=[2, 2]>(r{n}) "
        before = f"p{n}"
    layers += f"flat = Flatten({before}) h = Gemm(flat, hidden, hidden_bias) units = Relu(h) "
    if k:
        layers += "centred = Sub(features, mean) scaled = Div(centred, scale) standard = Clip(scaled, low, high) "
        layers += "squares = Mul(standard, standard) units_and_features = Concat<axis=1>(units, standard, squares) "
    layers += f"logit = Gemm(units{'_and_features' if k else ''}, last, last_bias) probability = Sigmoid(logit)"
    given = f"float[n, {CHANNELS}, {side}, {side}] stamps" + (f", float[n, {k}] features" if k else "")
    about = '<ir_version: 9, opset_import: ["": 17]>'
    model = parser.parse_model(f"{about} score ({given}) => (float[n, 1] probability) {{ {layers} }}")
    constants = dict(weights) | ({"mean": start.mean, "scale": start.scale, "low": -5.0, "high": 5.0} if k else {})
    model.graph.initializer.extend(numpy_helper.from_array(np.float32(w), name) for name, w in constants.items())
    checker.check_model(model)
    save(model, path)


def found_stamps() -> Iterator[tuple[StampPair, ImageDifference | None, DifferenceDetections | None, Rows]]:
    """Yield the real stamps, their differences, None if refused, detections with all flags, and rows."""
    for pair in stamp_pairs(REAL_STAMPS) if REAL_STAMPS.is_dir() else ():
        try:
            result = subtract_stamp(pair)
        except GWWorkflowError:
            yield pair, None, None, np.zeros((0, WIDTH))
            continue
        difference = result.searched.difference
        found = detect(difference, DetectionSettings())
        yield pair, result, found, rows_of_detections(planes_of(difference), found, difference.psf.fwhm_pixels)


def stamp_rows(stamps: Sequence[Any], model: Model, label: str) -> list[Row]:
    """Return the rows of :mod:`bench.real_stamps` with the scores of a model."""
    answers = []
    for pair, result, found, rows in stamps:
        if result is None:
            answers.append(StampAnswer("refused"))
            continue
        score = model.probability(rows)
        flags = without_vouched_flags(found, score, DetectionSettings()).flags
        answers.append(answer_of(pair, result, score, flags))
    return [replace(row, name=f"{label}: {row.name}") for row in answer_rows([s[0] for s in stamps], answers)[:4]]


def kept_rows(ccds: Sequence[Judged], models: Mapping[str, Model], what: str) -> list[Row]:
    """Return how many transients models keep at as many false detections as the first one has above 0.5."""
    rows, n_false = [], None
    for label, model in models.items():
        p, used, snr, false, real = judged_by(ccds, model)
        highest = np.sort(p[false])[::-1]
        n_false = int((highest > 0.5).sum()) if n_false is None else n_false
        limit = highest[n_false] if n_false < highest.size else 0.0
        for low, high in SNR_RANGES:
            of = real & (snr >= low) & (snr < high)
            name = f"{label}, {what}: real of S/N {low:g} to {high:g} kept with {n_false} false ones"
            share = 100 * float((used & (p > limit))[of].mean()) if of.any() else None
            rows.append(Row(name, share, "%", n=int(of.sum())))
    return rows


def cost_rows(ccds: Sequence[Judged], network: Network, label: str) -> list[Row]:
    """Return time and size of a network."""
    began = time.process_time()
    for ccd in ccds:
        network.probability(ccd.features)
    spent, count = 1e3 * (time.process_time() - began), sum(len(ccd.features) for ccd in ccds)
    name, n = f"{label}: time per CCD of {count / len(ccds):.0f} detections", len(ccds)
    return [
        at_most(name, spent / n, "ms", MAX_MS, n=n),
        at_most(f"{label}: size", network.megabytes, "MB", MAX_MB),
    ]


def networks(sources: Sequence[Sequence[Labelled]], folder: Path, quarter: int) -> tuple[Model, dict[str, Network]]:
    """Train on all sets but a quarter: a model of the present kind and the networks, which the folder gets."""
    (rows, is_real, _), source = together(sources, held=False, quarter=quarter)
    features, stamps = split_rows(rows)
    same = train_score(features.astype(float), is_real, "same sets", source)
    none = ScoreModel("stamps", np.zeros(0), np.zeros(0), np.zeros(0), 0.0)
    made = {}
    for label, start in (("network of stamps", none), ("network of stamps and features", same)):
        path = folder / f"{label.replace(' ', '_')}.onnx"
        write_network(path, train_network(rows, is_real, source, start), stamps.shape[-1], start)
        made[label] = Network(path)
    return OfFeatures(same), made


def unflagged(pairs: Sequence[Labelled]) -> list[Judged]:
    """Return the detections of pairs, without flags."""
    return [Judged(rows, snr, np.zeros(len(snr), np.int32), ~is_real, is_real) for rows, is_real, snr in pairs]


def main() -> None:
    """Train, write the networks, and print all rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=48, help="number of full-size pairs to simulate")
    parser.add_argument("--nights", type=int, default=8, help="number of nights of the named skies")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", required=True, help="pairs, nights and networks")
    parser.add_argument("--quarter", type=int, choices=range(4), default=3, help="which quarter is held out")
    parser.add_argument("--judge", type=Path, nargs="*", default=(), metavar="NIGHT", help="folder of a searched night")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    quarter = options.quarter
    pairs = [labelled_pair_rows(scenario, options.keep) for scenario in scenarios(options.pairs, FIRST_PAIR)]
    roots = [night.root for night in training_nights(options.keep, FIRST_NIGHT, options.nights)]
    nights = [labelled_rows(root, stored_rows, WIDTH) for root in roots]
    same, made = networks([sets for sets in (pairs, nights) if sets], options.keep, quarter)
    models: dict[str, Model] = {"shipped": OfFeatures(shipped_model()), "same sets": same, **made}
    judged = {"pairs held out": unflagged(pairs[quarter::4])}
    judged["nights held out"] = [ccd for root in roots[quarter::4] for ccd in judged_ccds(root, stored_rows)]
    judged["nights to judge"] = [ccd for root in options.judge for ccd in judged_ccds(root, stored_rows)]
    stamps, rows = list(found_stamps()), []
    for what, ccds in judged.items():
        for label, model in models.items() if ccds else ():
            rows += rows_of(ccds, model, f"{label}, {what}")
        rows += kept_rows(ccds, models, what) if ccds else []
    for label, model in models.items() if stamps else ():
        rows += stamp_rows(stamps, model, label)
    for label, network in made.items():
        rows += cost_rows([ccd for ccds in judged.values() for ccd in ccds], network, label)
    print_report(rows, as_json=options.json, title="Networks for the real/bogus score")


if __name__ == "__main__":
    main()
