"""The nouns everyone shares: ClassCounts, LabeledImages, the artifacts, the errors."""
