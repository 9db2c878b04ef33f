"""The models that can be asked: typed input, limits, sizes, price and pinned version of each."""
