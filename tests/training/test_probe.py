"""The linear head against scikit-learn, and its folds."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler

from mlworkbench import WorkbenchError
from mlworkbench.training import probe as linear
from mlworkbench.training.probe import fit_linear


def problem(rng, rows, features, classes=3, unknown=0.2):
    x = rng.normal(size=(rows, features)).astype(np.float32) * rng.uniform(0.1, 10, features) + 3
    z = (x - x.mean(0)) / x.std(0) @ rng.normal(size=(features, classes)) / 2 - 1
    y = (z + rng.logistic(size=z.shape) > 0).astype(np.int8)
    y[rng.random(y.shape) < unknown] = -1
    return x, y


@pytest.mark.parametrize(("rows", "features"), [(60, 200), (300, 20)])  # both sides of the principal axes
def test_it_is_scikit_learns_logistic_regression_at_its_penalty(rng, rows, features):
    x, y = problem(rng, rows, features)
    fitted = fit_linear(x, y, np.arange(rows))
    z = StandardScaler().fit_transform(x.astype(np.float64))
    for c in range(y.shape[1]):
        known = y[:, c] >= 0
        theirs = LogisticRegression(C=1 / fitted.penalties[c], solver="newton-cholesky", tol=1e-10)
        theirs.fit(z[known], y[known, c])
        np.testing.assert_allclose(
            x @ fitted.weight[c] + fitted.bias[c], theirs.decision_function(z), atol=2e-3, rtol=1e-3
        )


def test_the_penalty_is_the_one_with_the_least_held_out_loss_and_out_of_fold_logits_are_those(rng):
    x, y = problem(rng, 120, 30)
    groups = np.repeat(np.arange(40), 3)
    fitted, folds = fit_linear(x, y, groups, seed=4), linear.stratified_parts(y, groups, [0.2] * 5, 4)
    z = StandardScaler().fit_transform(x.astype(np.float64))
    for c in range(y.shape[1]):
        losses, held_out = [], []
        for penalty in linear.PENALTIES:
            logits = np.empty(len(y))
            for fold in range(5):
                learn = (folds != fold) & (y[:, c] >= 0)
                model = LogisticRegression(C=1 / penalty, solver="newton-cholesky", tol=1e-10)
                logits[folds == fold] = model.fit(z[learn], y[learn, c]).decision_function(z[folds == fold])
            known = y[:, c] >= 0
            losses.append(log_loss(y[known, c], 1 / (1 + np.exp(-logits[known]))))
            held_out.append(logits)
        assert fitted.penalties[c] == linear.PENALTIES[np.argmin(losses)]
        np.testing.assert_allclose(fitted.out_of_fold[:, c], held_out[np.argmin(losses)], atol=5e-3)


def test_a_label_has_no_part_in_its_own_out_of_fold_logit(rng, monkeypatch):
    x, y = problem(rng, 80, 10, unknown=0)
    monkeypatch.setattr(linear, "stratified_parts", lambda *_: np.arange(80) % 5)
    monkeypatch.setattr(linear, "PENALTIES", np.array([10.0]))
    before = fit_linear(x, y, np.arange(80)).out_of_fold
    y[0] = 1 - y[0]
    after = fit_linear(x, y, np.arange(80)).out_of_fold
    fold = np.arange(80) % 5 == 0
    np.testing.assert_allclose(after[fold], before[fold], atol=1e-6)
    assert (np.abs(after - before)[~fold] > 1e-4).any(0).all()


def test_classes_without_positives_negatives_or_labels_and_constant_features(rng):
    x, y = problem(rng, 50, 8, classes=4, unknown=0)
    y[:, 0], y[:, 1], y[:, 2] = 0, 1, -1
    x[:, 3] = 7
    fitted = fit_linear(x, y, np.arange(50))
    logits = x @ fitted.weight.T + fitted.bias
    assert np.isfinite(logits).all() and np.isfinite(fitted.out_of_fold).all()
    assert (logits[:, 0] < -5).all() and (logits[:, 1] > 5).all() and (logits[:, 2] == 0).all()
    assert np.abs(fitted.weight[:, 3]).max() < 1e-12


def test_classes_are_fitted_in_parts_where_memory_asks_for_it(rng, monkeypatch):
    x, y = problem(rng, 60, 12, classes=5)
    whole = fit_linear(x, y, np.arange(60))
    monkeypatch.setattr(linear, "MOST_CELLS", 2 * 60 * 25)
    parts = fit_linear(x, y, np.arange(60))
    np.testing.assert_allclose(parts.weight, whole.weight, atol=1e-5)
    np.testing.assert_allclose(parts.out_of_fold, whole.out_of_fold, atol=1e-3)


def test_groups_share_a_fold_and_one_group_alone_is_refused(rng):
    x, y = problem(rng, 30, 5)
    with pytest.raises(WorkbenchError, match="all belong together"):
        fit_linear(x, y, np.zeros(30, int))
    groups = np.repeat([0, 1, 2], 10)
    parts = linear.stratified_parts(y, groups, [1 / 3] * 3)
    assert all(len(np.unique(parts[groups == g])) == 1 for g in range(3)) and len(np.unique(parts)) == 3
    assert fit_linear(x, y, groups).out_of_fold.shape == y.shape
