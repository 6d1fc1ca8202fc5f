"""CatBoost, which only training containers have: its models become LightGBM's text.

Its wheel is larger than a function may be, and its own files are binary.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import catboost
import numpy as np

from functions.jobs.fitting.additive import fit_scorecards
from functions.jobs.fitting.base import (
    BoostingArchitecture,
    EndedEarlyError,
    Examples,
    FitSession,
    FitTask,
    Hardware,
    RoundWatcher,
    fit_each,
)
from shared.propensity.architectures.configuration import AdditiveCatBoostConfiguration, CatBoostConfiguration
from shared.propensity.features import Matrix
from shared.propensity.forests import Leaf, Node, Tree, from_text, grown, to_text
from shared.propensity.log_odds import LogOdds, LogOddsModel, blend

# More categories than a column has: each split is one category against the others, without statistics of the target.
ONE_HOT = 256
# No code is as large: every known category goes to the left, and the missing to the right.
ABOVE_ALL_CODES = 1e300
_MISSING = b"missing"
# What CatBoost says where all columns have one value in the fitted rows.
_NOTHING_TO_SPLIT = "All features are either constant or ignored"


class CatBoost(BoostingArchitecture[CatBoostConfiguration]):
    """See ``BoostingArchitecture``."""

    name: ClassVar[str] = "catboost"
    suffix: ClassVar[str] = ".json"

    def fit(
        self,
        configuration: CatBoostConfiguration,
        fitted: Examples,
        validation: Examples,
        categorical: Sequence[int],
        hardware: Hardware,
        seed: int,
        watcher: RoundWatcher,
        resume: tuple[Path, int] | None = None,
    ) -> LogOddsModel:
        """See ``BoostingArchitecture``. The result adds to the baseline of the examples, if they have one."""
        path, done = resume or (None, 0)
        width = fitted.matrix.shape[1]
        rate = float(np.mean(fitted.labels, dtype=np.float64))
        before = LogOddsModel(width, 0.0 if fitted.baseline is not None else float(np.log(rate / (1 - rate))))
        earlier = from_text(LogOddsModel.load(path).forest)[0] if path else []
        so_far = LogOddsModel(width, before.bias, forest=to_text(earlier, width) if earlier else "")
        columns = _Columns(width, categorical)
        pools = [columns.pool(examples, so_far.log_odds(examples.matrix)) for examples in (fitted, validation)]
        model = catboost.CatBoost(library_parameters(configuration, hardware, seed + done, done))
        callback = _CatBoostWatch(watcher, done)
        try:
            model.fit(pools[0], eval_set=pools[1], callbacks=[callback], use_best_model=False)
        except catboost.CatBoostError as error:
            if _NOTHING_TO_SPLIT not in str(error):
                raise
            return before
        if callback.error:
            raise callback.error
        trees = [*earlier, *columns.trees(model, pools[0])]
        if watcher.ended_early:
            watcher.keep(LogOddsModel(width, before.bias, forest=to_text(trees, width)).save)
        kept = trees[: watcher.best_round]
        return LogOddsModel(width, before.bias, forest=to_text(kept, width) if kept else "")


class AdditiveCatBoost(CatBoost):
    """CatBoost that starts from the log-odds of a scorecard."""

    name: ClassVar[str] = "additive_catboost"

    def fit_folds(self, configuration: CatBoostConfiguration, task: FitTask, session: FitSession) -> list[LogOddsModel]:
        """See ``Architecture``."""
        found = [session.finished(index) for index in range(len(task.folds))]
        if all(found):
            return [model for model in found if model]
        knots = configuration.knots if isinstance(configuration, AdditiveCatBoostConfiguration) else 0
        scorecards = fit_scorecards(task, knots, check=session.check).models
        # Its folds keep only the trees until both are added.
        trees = session.part(f"{self.name}_trees")

        def fit(index: int) -> LogOddsModel:
            scorecard = scorecards[index]
            known = replace(task.examples, baseline=scorecard.log_odds(task.examples.matrix))
            try:
                grown_on_it = self.fit_fold(configuration, replace(task, examples=known), index, trees)
            except EndedEarlyError as early:
                so_far = blend([(1.0, model) for model in (scorecard, *early.models)])
                raise type(early)([so_far], early.reached or "the scorecard alone") from early
            return session.finish(index, blend([(1.0, scorecard), (1.0, grown_on_it)]))

        return fit_each(len(scorecards), fit)


class _CatBoostWatch:
    """A callback of CatBoost. An exception must not pass through its native code."""

    def __init__(self, watcher: RoundWatcher, done: int) -> None:
        self._watcher, self._done = watcher, done
        self.error: Exception | None = None

    def after_iteration(self, info: Any) -> bool:
        loss = info.metrics["validation"]["Logloss"][-1]
        try:
            return not self._watcher.after_round(self._done + info.iteration, loss, None)
        except Exception as error:  # noqa: BLE001 - raised again when CatBoost has returned
            self.error = error
            return False


class _Columns:
    """The columns of a matrix as CatBoost takes them: numbers first, then categories."""

    def __init__(self, width: int, categorical: Sequence[int]) -> None:
        self._categorical = list(categorical)
        self._numeric = [index for index in range(width) if index not in set(categorical)]

    def pool(self, examples: Examples, log_odds: LogOdds) -> catboost.Pool:
        """Returns the examples, to start from these log-odds and those of their baseline."""
        start = log_odds if examples.baseline is None else log_odds + examples.baseline
        matrix = examples.matrix
        data = catboost.FeaturesData(
            num_feature_data=np.ascontiguousarray(matrix[:, self._numeric]) if self._numeric else None,
            cat_feature_data=self._texts(matrix) if self._categorical else None,
        )
        return catboost.Pool(data, label=examples.labels, baseline=start)

    def trees(self, model: Any, pool: catboost.Pool) -> list[Tree]:
        """Returns the trees of a fitted model, one for each round."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.json"
            model.save_model(str(path), format="json", pool=pool)
            exported = json.loads(path.read_bytes())
        return [_tree(each, self._splits(exported)) for each in exported["oblivious_trees"]]

    def _texts(self, matrix: Matrix) -> Any:
        codes = np.nan_to_num(matrix[:, self._categorical], nan=-1.0).astype(np.intp)
        texts = np.array([*(str(code).encode() for code in range(codes.max() + 1)), _MISSING], dtype=object)
        return texts[codes]

    def _splits(self, exported: Mapping[str, Any]) -> "_Splits":
        features = exported["features_info"]
        codes = {each["hash"] % 2**32: each["value"] for each in features.get("cat_features_hash") or ()}
        treatments = {
            self._numeric[each["feature_index"]]: each["nan_value_treatment"] != "AsTrue"
            for each in features.get("float_features") or ()
        }
        return _Splits(self._numeric, self._categorical, codes, treatments)


class _Splits:
    """What CatBoost's splits mean in the columns of a matrix."""

    def __init__(
        self, numeric: list[int], categorical: list[int], codes: Mapping[int, str], missing_is_least: Mapping[int, bool]
    ) -> None:
        self._numeric, self._categorical = numeric, categorical
        self._codes, self._missing_is_least = codes, missing_is_least

    def node(self, split: Mapping[str, Any], false: Node | Leaf, true: Node | Leaf) -> Node | Leaf:
        """Returns the node of a split with both of its sides."""
        if isinstance(false, Leaf) and isinstance(true, Leaf) and false.value == true.value:
            return Leaf(false.value, false.count + true.count)
        if split["split_type"] == "FloatFeature":
            feature = self._numeric[split["float_feature_index"]]
            border = float(np.float32(split["border"]))
            return Node(feature, border, self._missing_is_least.get(feature, True), false, true)
        if split["split_type"] != "OneHotFeature":
            raise ValueError(f"CatBoost's split of the type {split['split_type']} has no counterpart in LightGBM")
        feature = self._categorical[split["cat_feature_index"]]
        text = self._codes[split["value"] % 2**32]
        if text == _MISSING.decode():
            return Node(feature, ABOVE_ALL_CODES, False, false, true)
        return Node(feature, (int(text),), False, true, false)


def _tree(exported: Mapping[str, Any], splits: _Splits) -> Tree:
    values, weights = exported["leaf_values"], exported["leaf_weights"]

    def node(level: int, place: int) -> Node | Leaf:
        if level < 0:
            return Leaf(float(values[place]), float(weights[place]))
        return splits.node(exported["splits"][level], node(level - 1, place), node(level - 1, place + (1 << level)))

    root = node(len(exported.get("splits") or ()) - 1, 0)
    if isinstance(root, Leaf):
        # A round stays a tree, so that rounds can be counted.
        root = Node(0, 0.0, True, root, root)
    found = grown(root)
    if not isinstance(found, Tree):
        raise TypeError("a node is no leaf")
    return found


def library_parameters(
    configuration: CatBoostConfiguration, hardware: Hardware, seed: int, done: int
) -> dict[str, Any]:
    """Returns a resolved configuration as CatBoost's own parameters. It trains on processors only."""
    return {
        "loss_function": "Logloss",
        "iterations": max(configuration.n_estimators - done, 1),
        "learning_rate": configuration.learning_rate,
        "depth": configuration.max_depth,
        "l2_leaf_reg": configuration.reg_lambda,
        "rsm": configuration.colsample_bytree,
        "one_hot_max_size": ONE_HOT,
        "boost_from_average": False,
        "random_seed": seed,
        "thread_count": hardware.threads,
        "allow_writing_files": False,
        "logging_level": "Silent",
    }
