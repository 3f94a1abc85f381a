"""The softmax and the sigmoid equation, which all losses are made of, and the definition of their weighted mean."""
