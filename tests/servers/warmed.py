"""The last module that the fork server imports: does once what each child would do for itself.

The objects of all modules are frozen: a child's garbage collector would look through them several
times, and get a copy of every page that it touches. It looks seldom, because a child lives shortly.
"""

import gc

from PIL import Image

Image.init()
gc.collect()
gc.freeze()
gc.set_threshold(100_000)
