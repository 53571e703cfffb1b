"""Root file systems for sandboxes: built once with everything in them, known by content, never written to again.

Not a registry and not an engine: an image is a folder of the gateway's state, the same for every driver.
"""

from sandbox.images.build import Recipe, build
from sandbox.images.store import Entry, Store, find_image

__all__ = ["Entry", "Recipe", "Store", "build", "find_image"]
