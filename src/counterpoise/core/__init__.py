"""What several packages share: class counts, the dataset protocol, artifacts, hyperparameters, checks and errors."""
