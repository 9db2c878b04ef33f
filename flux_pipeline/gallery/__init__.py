"""The gallery: pages that show every image with its lineage, from a folder or a bucket alone."""
