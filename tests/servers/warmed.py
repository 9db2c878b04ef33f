"""The last module that the fork server imports: does once what each child would do for itself.

The objects of all modules are frozen: a child's garbage collector would look through them several
times, and get a copy of every page that it touches. It looks seldom, because a child lives shortly.
"""

import gc
from io import BytesIO

from matplotlib.figure import Figure
from PIL import Image

Image.init()
_figure = Figure(layout="constrained")
_figure.add_subplot().plot([0, 1])
_figure.savefig(BytesIO(), format="png")
_figure.savefig(BytesIO(), format="svg")
del _figure
gc.collect()
gc.freeze()
gc.set_threshold(100_000)
