"""Correct a scikit-learn classifier for data whose class prior differs from that of its training data."""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from counterpoise.integrations.sklearn import PriorAdjustedClassifier

# 120 images of the digit 0, decreasing to 12 of the digit 9, with noise to make the task harder.
X, y = load_digits(return_X_y=True)
X = X + np.random.default_rng(0).normal(0, 4, X.shape)
order = np.random.default_rng(0).permutation(len(y))
counts = np.geomspace(120, 12, 10).round().astype(int)
train = np.concatenate([order[y[order] == digit][:n] for digit, n in enumerate(counts)])
test = np.setdiff1d(order, train)

plain = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
adjusted = PriorAdjustedClassifier(plain)
for name, model in (("plain", plain), ("prior-adjusted", adjusted)):
    model.fit(X[train], y[train])
    print(f"{name}: balanced accuracy {balanced_accuracy_score(y[test], model.predict(X[test])):.3f}")

# Estimate unknown class shares of new data from unlabeled images. The estimate needs calibrated probabilities: with
# strong regularization (C=0.03) they are underconfident, and the shares of the rare classes are estimated as 0.
shifted = np.concatenate([test[y[test] == digit][: 40 * (digit > 4) + 8] for digit in range(10)])
adjusted.adapt(X[shifted])
print("estimated shares:", adjusted.target_prior_.round(2))
print("true shares:     ", (np.bincount(y[shifted], minlength=10) / len(shifted)).round(2))
