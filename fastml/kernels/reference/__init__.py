"""NumPy: the definition of every kernel, the baseline of every ratio, and what serves where nothing else can."""
