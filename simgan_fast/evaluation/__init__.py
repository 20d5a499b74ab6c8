"""How good the refined images are: what an estimator learns from them."""
