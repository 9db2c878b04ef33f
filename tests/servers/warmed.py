"""The last module that the fork server imports: does once what each child would do for itself.

It loads the authorities of TLS and compiles the templates of pages. The objects of all modules are
frozen: a child's garbage collector would look through them several times, and get a copy of every
page that it touches. It looks seldom, because a child lives shortly.
"""

import gc

from PIL import Image

from flux_pipeline.gallery.page import render_page
from flux_pipeline.html import _environment
from flux_pipeline.provider.tls import verifying_context

Image.init()
verifying_context()
render_page("", {})
for _name in ("spend_report.html.jinja", "spend_plot.svg.jinja"):
    _environment("flux_pipeline.lineage").get_template(_name)
gc.collect()
gc.freeze()
gc.set_threshold(100_000)
